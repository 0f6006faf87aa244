#!/usr/bin/env bash
# Compare the scores of runs on the mixtures that all of them have: ./scripts/compare.sh RUN RUN… prints a table.
# RUN is a folder, or the start of a name in ckpt/. Arguments go to `python -m engine.evaluation.compare`:
# --format, --out, --page, --ckpt; see --help. Paths are relative to the current folder.
set -euo pipefail

from="$PWD"
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"
project="$PWD"

cd -- "$from"
PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}" python -m engine.evaluation.compare "$@"
