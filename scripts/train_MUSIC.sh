#!/usr/bin/env bash
# Train on MUSIC with the published recipe. Arguments go to main.py and override the recipe:
#   ./scripts/train_MUSIC.sh --num_epoch 10
# For one process per GPU, or several machines, see train_MUSIC_multinode.sh.
set -euo pipefail

folder="$(dirname -- "${BASH_SOURCE[0]}")"
source "$folder/lib/recipe.sh"
need_data "$@"
source "$folder/lib/setup.sh"

exec python main.py "${training[@]}" "$@"
