#!/usr/bin/env bash
# Compare the speed of this project with the methods of older implementations, on generated data. Prints a
# table and writes benchmark.json to the current folder. Arguments go to `python -m benchmark`: --out FILE,
# --scaling, --presets, --quick, --amp; see --help.
set -euo pipefail

from="$PWD"
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"
project="$PWD"

cd -- "$from"
PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}" python -m benchmark "$@"
