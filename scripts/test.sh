#!/usr/bin/env bash
# Check style and run the tests. Arguments go to pytest: ./scripts/test.sh tests/dataset/test_index.py -k split
set -euo pipefail

REQUIREMENTS=requirements-dev.txt
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

python -m ruff check .
python -m ruff format --check .
python -m pytest "$@"
