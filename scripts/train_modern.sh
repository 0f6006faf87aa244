#!/usr/bin/env bash
# Train on MUSIC as train_MUSIC.sh does, but by the preset `modern`: the same data and evaluation, today's networks.
# Arguments go to main.py and win: ./scripts/train_modern.sh --num_epoch 10
set -euo pipefail

folder="$(dirname -- "${BASH_SOURCE[0]}")"
source "$folder/lib/recipe.sh"
need_data "$@"
source "$folder/lib/setup.sh"

python main.py --mode train --preset modern "$@"
