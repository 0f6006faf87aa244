#!/usr/bin/env bash
# Convert data/videos/<category>/<id>.mp4 to data/frames and data/audio, and write data/train.csv,
# data/val.csv and more. Arguments go to `python -m dataset.preprocess`: --videos, --out, --fps, --rate,
# --short_side, --jobs. No index files are written with --shard, --benchmark and --help: when all shards are
# done, run create_index_files.py.
set -euo pipefail

REQUIREMENTS=requirements-data.txt
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

failed=0
python -m dataset.preprocess "$@" || failed=$?
# Exit status 1: some videos failed, as reported above; index the others.
((failed <= 1)) || exit "$failed"

out=data
flags=()
arguments=("$@")
for ((i = 0; i < $#; i++)); do
    case "${arguments[i]}" in
    --shard* | --benchmark | --help | -h) exit "$failed" ;;
    --out) out="${arguments[i + 1]}" ;;
    --out=*) out="${arguments[i]#--out=}" ;;
    --fps) flags+=(--fps "${arguments[i + 1]}") ;;
    --fps=*) flags+=("${arguments[i]}") ;;
    esac
done
python create_index_files.py --root_audio "$out/audio" --root_frame "$out/frames" --path_output "$out" "${flags[@]}"
exit "$failed"
