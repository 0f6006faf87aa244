#!/usr/bin/env bash
# Train on MUSIC as train_MUSIC.sh does, but by the preset `modern`: the same data and evaluation, today's networks.
# Arguments go to main.py and win: ./scripts/train_modern.sh --num_epoch 10
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/lib/recipe.sh"
train_preset modern "$@"
