#!/usr/bin/env bash
# Download released weights to ckpt/<id>/: ./scripts/download_trained_model.sh [ID] [--url BASE] [--ckpt FOLDER]
# Needs no torch.
set -euo pipefail

REQUIREMENTS=requirements-data.txt
source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

# As a file: `-m models.download_weights` would import the package `models`, and with it torch.
PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" python models/download_weights.py "$@"
