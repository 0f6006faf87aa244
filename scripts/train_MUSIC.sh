#!/usr/bin/env bash
# Train as the paper does on MUSIC. Arguments go to main.py and win: ./scripts/train_MUSIC.sh --num_epoch 10
# For a process on each GPU, and for several machines: train_MUSIC_multinode.sh.
set -euo pipefail

folder="$(dirname -- "${BASH_SOURCE[0]}")"
source "$folder/lib/recipe.sh"
need_data "$@"
source "$folder/lib/setup.sh"

python main.py "${training[@]}" "$@"
