#!/usr/bin/env bash
# Print a page about this installation, to paste into a bug report: Python, packages, GPU, ffmpeg, disk, limits, data
# and runs. Installs nothing and needs no network. The exit status is 1 if it found problems.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null
python="${VIRTUAL_ENV:-${CONDA_PREFIX:-.venv}}/bin/python"
[[ -x $python ]] || python="${PYTHON:-python3}"
exec "$python" doctor.py
