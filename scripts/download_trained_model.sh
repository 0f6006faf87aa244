#!/usr/bin/env bash
# Download released weights to ckpt/<id>/: ./scripts/download_trained_model.sh [ID] [--url BASE] [--ckpt FOLDER]
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

python -m models.download_weights "$@"
