#!/usr/bin/env bash
# Sourced by the scripts of MUSIC: the published recipe, and what there is to say if there is nothing to train on.
set -euo pipefail

# What the networks are, what they take, and what they are scored on.
networks=(
    --list_val data/val.csv
    --arch_sound unet7
    --arch_synthesizer linear
    --arch_frame resnet18dilated
    --img_pool maxpool
    --img_activation sigmoid
    --sound_activation no
    --output_activation sigmoid
    --num_channels 32
    --binary_mask 1
    --loss bce
    --weighted_loss 1
    --log_freq 1
    --num_mix 2
    --num_frames 3
    --stride_frames 24
    --frameRate 8
    --audLen 65535
    --audRate 11025
    --num_val 256
)

# How they are trained. The recipe's batches of 20 were for each of 4 GPUs, with 48 workers; --num_gpus and --workers
# are left to main.py, which takes what the machine has.
training=(
    --mode train
    --id MUSIC
    --list_train data/train.csv
    "${networks[@]}"
    --pretrained imagenet
    --dup_trainset 100
    --batch_size_per_gpu 20
    --lr_frame 1e-4
    --lr_sound 1e-3
    --lr_synthesizer 1e-3
    --num_epoch 100
    --lr_steps 40 80
)

# Ends the script if there is no list of clips to train on and the arguments, main.py's, name no other.
need_data() {
    case " $* " in
    *" --list_train"* | *" --help "* | *" -h "*) return ;;
    esac
    [[ ! -f "$(dirname -- "${BASH_SOURCE[0]}")/../../data/train.csv" ]] || return 0
    cat >&2 <<'END'
error: no data/train.csv, so nothing to train on. To get there:
  1. download the videos of MUSIC (or your own) into data/videos/<category>/<id>.mp4
  2. python -m dataset.preprocess      makes data/frames and data/audio
  3. python create_index_files.py      makes data/train.csv and data/val.csv
./scripts/preprocess_videos.sh does 2 and 3; ./scripts/demo.sh tries everything without any data.
END
    exit 2
}
