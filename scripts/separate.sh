#!/usr/bin/env bash
# Hear each place of a video by itself: ./scripts/separate.sh VIDEO… writes out/<video>/index.html. Arguments go to
# separate.py: --out, --ckpt, --num_sources, --points, --boxes and others; --help tells them. Videos are named from
# where you stand; the networks are the newest in ckpt/.
set -euo pipefail

from="$PWD"
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"
project="$PWD"

cd -- "$from"
PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}" python "$project/separate.py" "$@"
