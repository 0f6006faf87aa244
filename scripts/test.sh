#!/usr/bin/env bash
# Check style and run the tests, in as many processes as there are cores. Arguments go to pytest, which then runs
# in one process: ./scripts/test.sh tests/dataset/test_index.py -k split
set -euo pipefail

REQUIREMENTS=requirements-dev.txt
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

python -m ruff check .
python -m ruff format --check .
# Tests of a file stay together, since they share fixtures. Files start in the order of their names, so that the
# slow tests of benchmark/ come first.
if (($#)); then
    python -m pytest "$@"
else
    python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder -m "not live"
    python -m pytest tests/pages -m live
fi
