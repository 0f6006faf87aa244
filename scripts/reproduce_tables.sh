#!/usr/bin/env bash
# Train and evaluate what the paper compares — masks, frequency scales, synthesizers, pooling, frame networks,
# mixtures of 2, 3 and 4 — with baselines, ceilings and today's presets, and write the tables. Without arguments: on
# the demo's clips, which it generates first if necessary, in 1 h 46 min on one busy CPU core. Stopped, it goes on
# where it was. Arguments go to engine.tables: ./scripts/reproduce_tables.sh --list_train data/train.csv --list_val data/val.csv
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/lib/setup.sh"

case " $* " in
*" --list_"* | *" --help "* | *" -h "*) ;;
*) [[ -f data/demo/val.csv ]] || source scripts/lib/demo_data.sh ;;
esac
python -m engine.tables "$@"
