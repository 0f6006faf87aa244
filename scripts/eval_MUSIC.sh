#!/usr/bin/env bash
# Evaluate the released model on data/val.csv, or another one that train_MUSIC.sh made: --id NAME, or ID=NAME.
# Arguments go to main.py and win. For a model trained with other options than the recipe's:
# python main.py --mode eval --id NAME, which reads them from ckpt/NAME.
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"

released=MUSIC-2mix-LogFreq-resnet18dilated-unet7-linear-frames3stride24-maxpool-binary-weightedLoss
released+=-channels32-epoch100-step40_80

python main.py \
    --mode eval \
    --id "${ID:-$released}" \
    --list_val data/val.csv \
    --arch_sound unet7 \
    --arch_synthesizer linear \
    --arch_frame resnet18dilated \
    --img_pool maxpool \
    --img_activation sigmoid \
    --sound_activation no \
    --output_activation sigmoid \
    --num_channels 32 \
    --binary_mask 1 \
    --loss bce \
    --weighted_loss 1 \
    --log_freq 1 \
    --num_mix 2 \
    --num_frames 3 \
    --stride_frames 24 \
    --frameRate 8 \
    --audLen 65535 \
    --audRate 11025 \
    --num_val 256 \
    "$@"
