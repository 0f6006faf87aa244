#!/usr/bin/env bash
# Evaluate the released model, or the one that train_MUSIC.sh trained under the same name, on data/val.csv.
# For another run: --id NAME, or ID=NAME. Options of the networks are read from ckpt/NAME, or else the recipe's.
# Arguments go to main.py and override both.
set -euo pipefail

folder="$(dirname -- "${BASH_SOURCE[0]}")"
source "$folder/lib/setup.sh"

released=MUSIC-2mix-LogFreq-resnet18dilated-unet7-linear-frames3stride24-maxpool-binary-weightedLoss
released+=-channels32-epoch100-step40_80

python main.py --mode eval --id "${ID:-$released}" --preset published --batch_size_per_gpu 32 "$@"
