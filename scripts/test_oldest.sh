#!/usr/bin/env bash
# Run the tests with the oldest versions that requirements.txt and requirements-serve.txt allow, in an environment
# of their own ($VENV, else .venv-oldest in the project's folder); arguments go to pytest:
# ./scripts/test_oldest.sh tests/models -x
#
# Needs Python 3.10 or 3.11 ($PYTHON, else python3): some of these versions have no wheels for later ones.
set -euo pipefail

VENV="${VENV:-$(dirname -- "${BASH_SOURCE[0]}")/../.venv-oldest}"
[[ -x $VENV/bin/python ]] || "${PYTHON:-python3}" -m venv "$VENV"
export VIRTUAL_ENV
VIRTUAL_ENV="$(cd -- "$VENV" >/dev/null && pwd)"

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null

# torch>=2.6,<3 becomes torch==2.6; pip takes what satisfies both files.
REQUIREMENTS=requirements-oldest.txt
{
    echo "-r requirements-dev.txt"
    cat requirements-{data,serve}.txt requirements.txt | sed -E '/^-r /d; s/>=([^, ]+)(,[^ ]+)?/==\1/'
} >"$REQUIREMENTS"
source scripts/lib/setup.sh

python -m pytest "$@"
