#!/usr/bin/env bash
# The soak test, 15 minutes on two cores: training under random kills, a long run that must not grow, damaged media.
# Prints what was counted; the exit status is 0 if all held. `--short` takes a minute, `--seed N` repeats one.
set -euo pipefail

REQUIREMENTS=requirements-dev.txt
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

exec python -m tests.soak "$@"
