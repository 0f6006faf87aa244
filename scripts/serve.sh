#!/usr/bin/env bash
# A page to drop videos on: ./scripts/serve.sh, then open the address that it prints. Arguments go to
# python -m pages.serve: --ckpt, --out, --max_mb; see --help. Paths are relative to the project's folder. By
# default it uses the newest networks in ckpt/.
set -euo pipefail

REQUIREMENTS=requirements-serve.txt
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

python -m pages.serve "$@"
