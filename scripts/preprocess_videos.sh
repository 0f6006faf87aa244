#!/usr/bin/env bash
# Convert data/videos/<category>/<id>.mp4 to data/frames and data/audio, and write data/train.csv,
# data/val.csv and more. Arguments go to `python -m dataset.preprocess`: --videos, --out, --fps, --rate,
# --short_side, --jobs; --min_seconds goes to create_index_files.py. No index files are written with --shard,
# --benchmark and --help: when all of N parts are done, --merge N says what is missing and writes them.
# With --pack, clips go into data/shards; when all parts are done, --pack without --shard packs what is missing
# and writes the index files. Needs no torch.
set -euo pipefail

REQUIREMENTS=requirements-data.txt
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

out=data
index=1
pack=0
preprocess=() # flags of dataset.preprocess
flags=()      # flags of create_index_files.py
while (($#)); do
    name="${1%%=*}" words=("$1")
    case "$1" in
    --out | --fps | --min_seconds) words=("${@:1:2}") ;;
    --shard | --shard=* | --benchmark | --help | -h) index=0 ;;
    esac
    shift "${#words[@]}"
    case "$name" in
    --pack) pack=1 ;;
    --out) out="${words[-1]#--out=}" ;;
    --fps | --min_seconds) flags+=("${words[@]}") ;;
    esac
    [[ $name == --min_seconds ]] || preprocess+=("${words[@]}")
done

failed=0
python -m dataset.preprocess "${preprocess[@]}" || failed=$?
# Exit status 1: some videos failed, as reported above; index the others.
((failed <= 1 && index)) || exit "$failed"

clips=(--root_audio "$out/audio" --root_frame "$out/frames")
((!pack)) || clips=(--shards "$out/shards")
python create_index_files.py "${clips[@]}" --path_output "$out" "${flags[@]}"
exit "$failed"
