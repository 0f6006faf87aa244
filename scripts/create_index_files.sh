#!/usr/bin/env bash
# Write data/train.csv, data/val.csv and more from data/audio and data/frames, or validate them with --check.
# Arguments go to create_index_files.py; see --help. Needs no torch.
set -euo pipefail

REQUIREMENTS=requirements-data.txt
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

python create_index_files.py "$@"
