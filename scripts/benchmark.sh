#!/usr/bin/env bash
# Measure this project beside the way that older implementations work, on data that it makes: prints a table and
# writes benchmark.json where you stand. Arguments go to benchmark: --out FILE, --scaling, --quick; --help.
set -euo pipefail

from="$PWD"
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"
project="$PWD"

cd -- "$from"
PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}" python -m benchmark "$@"
