#!/usr/bin/env bash
# Train on data/train.csv with the preset `small`: for a few hundred clips of your own and a laptop. Arguments go
# to main.py and override the preset: ./scripts/train_small.sh --num_epoch 30
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/lib/recipe.sh"
train_preset small "$@"
