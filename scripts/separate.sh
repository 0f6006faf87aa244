#!/usr/bin/env bash
# Hear each place of a video separately: ./scripts/separate.sh VIDEO… writes out/<video>/index.html. Arguments
# go to separate.py: --out, --ckpt, --num_sources, --points, --boxes; see --help. Paths are relative to the
# current folder. By default it uses the newest networks in ckpt/.
set -euo pipefail

from="$PWD"
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"
project="$PWD"

cd -- "$from"
PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}" python "$project/separate.py" "$@"
