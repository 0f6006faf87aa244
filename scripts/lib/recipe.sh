#!/usr/bin/env bash
# Sourced by the MUSIC scripts: the published recipe, and a check that there is training data.
set -euo pipefail

# The recipe itself is in engine/presets.py. It used 4 GPUs with a batch of 20 on each, and 48 workers. --num_gpus and
# --workers are left to main.py, whose defaults depend on the machine.
training=(--mode train --preset published)

# Exit with an error if data/train.csv is missing and the arguments for main.py name no other list.
need_data() {
    case " $* " in
    *" --list_train"* | *" --help "* | *" -h "*) return ;;
    esac
    [[ ! -f "$(dirname -- "${BASH_SOURCE[0]}")/../../data/train.csv" ]] || return 0
    cat >&2 <<'END'
error: data/train.csv is missing: there is no data to train on. To create it:
  1. Put videos at data/videos/<category>/<id>.mp4: your own, or MUSIC from ./scripts/download_MUSIC.sh
  2. Run ./scripts/preprocess_videos.sh, which writes data/frames, data/audio, data/train.csv and data/val.csv
     (if you have frames and audio already: ./scripts/create_index_files.sh)
To try everything without data, run ./scripts/demo.sh
END
    exit 2
}

# Train by the preset $1; the other arguments go to main.py. The shell becomes main.py, so that signals reach it.
train_preset() {
    local preset="$1"
    shift
    need_data "$@"
    source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
    exec python main.py --mode train --preset "$preset" "$@"
}
