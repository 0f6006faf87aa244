#!/usr/bin/env bash
# Create the environment .venv and install the requirements, as every other script does when it first runs. Where
# a virtual environment is active, install into it.
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

echo "$environment is ready; to call Python yourself: source $(printf '%q' "$environment")/bin/activate"
