#!/usr/bin/env bash
# From nothing to a results page in about 10 minutes on two CPU cores: generates videos of six instruments,
# prepares them like any user's videos, trains a small network, evaluates it on clips that it never saw, and
# prints the path of the page. A second run resumes where the first one stopped, and skips what is already
# trained. Arguments go to main.py and override the flags below: ./scripts/demo.sh --num_epoch 20
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

num_gpus=$(python -c 'import torch; print(min(1, torch.cuda.device_count()))')
flags=(
    --num_gpus "$num_gpus"
    --id demo
    --list_train data/demo/train.csv
    --list_val data/demo/val.csv
    --preset small
    --num_epoch 12
    --eval_epoch 6
    --num_vis 6
    "$@"
)

source scripts/lib/demo_data.sh
echo "== training" >&2
trained=$(python main.py "${flags[@]}")
echo "$trained"
echo "== evaluation on the validation clips" >&2
# `done: ckpt/demo; …`, with a number if there is a run of that name with other flags.
folder="${trained#done: }"
folder="${folder%%;*}"
python main.py "${flags[@]}" --mode eval --id "${folder##*/}" --num_vis 24 \
    --list_duets data/demo/duets --list_solos data/demo/videos
