#!/usr/bin/env bash
# Videos in data/videos/<category>/<id>.mp4 -> data/frames, data/audio, data/train.csv, data/val.csv and more.
# Arguments go to dataset.preprocess: --videos, --out, --fps, --rate, --short_side, --jobs. With --shard, --benchmark
# and --help nothing is indexed: when all shards are done, run create_index_files.py.
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

failed=0
python -m dataset.preprocess "$@" || failed=$?
# Status 1: some videos failed and are named above; the others make a data set.
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
