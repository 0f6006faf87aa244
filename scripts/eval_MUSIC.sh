#!/usr/bin/env bash
# Evaluate the released model, or the one that train_MUSIC.sh trained under the same name, on data/val.csv.
# For another run of train_MUSIC.sh: --id NAME, or ID=NAME. Arguments go to main.py and override the recipe.
# For a model with other network options than the recipe's, run python main.py --mode eval --id NAME, which
# reads them from ckpt/NAME.
set -euo pipefail

folder="$(dirname -- "${BASH_SOURCE[0]}")"
source "$folder/lib/recipe.sh"
source "$folder/lib/setup.sh"

released=MUSIC-2mix-LogFreq-resnet18dilated-unet7-linear-frames3stride24-maxpool-binary-weightedLoss
released+=-channels32-epoch100-step40_80

python main.py --mode eval --id "${ID:-$released}" "${networks[@]}" "$@"
