#!/usr/bin/env bash
# Sourced by scripts that need the demo's clips: generates videos of six instruments and prepares them like any user's
# videos, in data/demo. What is there is kept.
set -euo pipefail

data=data/demo
echo "== generating videos of instruments: $data/videos" >&2
python -m dataset.demo --out "$data"
echo "== converting the videos to frames and audio" >&2
python -m dataset.preprocess --videos "$data/videos" --out "$data"
echo "== writing lists of training and validation clips" >&2
python create_index_files.py --root_audio "$data/audio" --root_frame "$data/frames" --path_output "$data" \
    --min_seconds 7 --trainset_ratio 0.9
