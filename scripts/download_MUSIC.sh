#!/usr/bin/env bash
# The videos of MUSIC -> data/videos/<category>/<id>.mp4; run it again to go on. Arguments go to dataset.download:
# --lists, --list, --categories, --limit, --jobs, --cookies, --retry and others; --help tells them.
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

python -m dataset.download "$@"
