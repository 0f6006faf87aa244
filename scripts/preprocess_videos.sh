#!/usr/bin/env bash
# Videos in data/videos/<category>/<id>.mp4 -> data/frames, data/audio, data/train.csv and data/val.csv.
# Arguments go to dataset.preprocess: --videos, --fps, --rate, --short_side, --jobs. Another --out needs
# create_index_files.py run by hand, with its flags.
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

failed=0
python -m dataset.preprocess "$@" || failed=$?
# Status 1: some videos failed and are named above; the others make a data set.
((failed <= 1)) || exit "$failed"
python create_index_files.py
exit "$failed"
