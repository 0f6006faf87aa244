#!/usr/bin/env bash
# Score separation without training: ceilings (true masks), floors (the mixture) and classic methods (NMF). Arguments
# go to `python -m engine.baselines`: names, --preset, --list_val, --list_val_mix, --list_train; see --help.
#   ./scripts/baselines.sh --preset small --list_train data/demo/train.csv --list_val data/demo/val.csv
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"
python -m engine.baselines "$@"
