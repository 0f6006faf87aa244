#!/usr/bin/env bash
# Train on data/train.csv with the preset `small`: for a few hundred clips of your own and a laptop. Arguments go
# to main.py and override the preset: ./scripts/train_small.sh --num_epoch 30
set -euo pipefail

folder="$(dirname -- "${BASH_SOURCE[0]}")"
source "$folder/lib/recipe.sh"
need_data "$@"
source "$folder/lib/setup.sh"

python main.py --mode train --preset small "$@"
