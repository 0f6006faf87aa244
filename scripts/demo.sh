#!/usr/bin/env bash
# From nothing to a page in about a quarter of an hour on two CPU cores: makes videos of six instruments, goes
# the way that any user's videos go, trains a small network, scores it on clips that it never saw, and says
# where the page is. Arguments go to the training and win: ./scripts/demo.sh --num_epoch 20
# A second run goes on where the first was stopped, and trains nothing that is trained already.
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

data=data/demo
num_gpus=$(python -c 'import torch; print(min(1, torch.cuda.device_count()))')
flags=(
    --num_gpus "$num_gpus"
    --id demo
    --list_train "$data/train.csv"
    --list_val "$data/val.csv"
    # Pictures from scratch, without ImageNet's weights: small ones, and normalised features.
    --pretrained none
    --img_norm batch
    --img_pool avgpool
    --imgSize 80
    # Sound from scratch: a small U-Net, and 3 s.
    --init_sound kaiming
    --arch_sound unet6
    --ngf 16
    --num_channels 16
    --audLen 32767
    # Ratio masks that share the mixture between the sources.
    --binary_mask 0
    --loss l1
    --output_activation softmax
    --weighted_loss 1
    --optimizer adamw
    --lr_frame 1e-3
    --batch_size_per_gpu 16
    --dup_trainset 2
    --num_epoch 16
    --lr_steps 12 15
    --eval_epoch 8
    --num_vis 6
    "$@"
)

echo "== 1/5 videos of instruments: $data/videos" >&2
python -m dataset.demo --out "$data"
echo "== 2/5 frames and sounds of the videos" >&2
python -m dataset.preprocess --videos "$data/videos" --out "$data"
echo "== 3/5 lists of training and validation clips" >&2
python create_index_files.py --root_audio "$data/audio" --root_frame "$data/frames" --path_output "$data" \
    --min_seconds 7 --trainset_ratio 0.9
echo "== 4/5 training" >&2
python main.py "${flags[@]}"
echo "== 5/5 evaluation on the validation clips" >&2
id=$(python -c 'import arguments, engine.options as options; print(options.model_id(arguments.parse_args(gpus_present=8)))' "${flags[@]}")
python main.py "${flags[@]}" --mode eval --id "$id" --num_vis 24 \
    --list_duets "$data/duets" --list_solos "$data/videos"
