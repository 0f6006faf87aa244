#!/usr/bin/env bash
# Download the videos of MUSIC to data/videos/<category>/<id>.mp4; run it again to resume. Arguments go to
# `python -m dataset.download`: --lists, --list, --categories, --limit, --jobs, --cookies, --retry; see --help.
set -euo pipefail

REQUIREMENTS=requirements-data.txt
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

python -m dataset.download "$@"
