#!/usr/bin/env bash
# Sourced by the MUSIC scripts: the published recipe, and a check that there is training data.
set -euo pipefail

# Networks, their input, and the validation data.
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

# Training. The published recipe used 4 GPUs with a batch of 20 on each, and 48 workers. --num_gpus and
# --workers are left to main.py, whose defaults depend on the machine.
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

# Exit with an error if data/train.csv is missing and the arguments for main.py name no other list.
need_data() {
    case " $* " in
    *" --list_train"* | *" --help "* | *" -h "*) return ;;
    esac
    [[ ! -f "$(dirname -- "${BASH_SOURCE[0]}")/../../data/train.csv" ]] || return 0
    cat >&2 <<'END'
error: data/train.csv is missing: there is no data to train on. To create it:
  1. Put videos at data/videos/<category>/<id>.mp4: your own, or MUSIC from ./scripts/download_MUSIC.sh
  2. Run ./scripts/preprocess_videos.sh, which calls
       python -m dataset.preprocess      writes data/frames and data/audio
       python create_index_files.py      writes data/train.csv and data/val.csv
To try everything without data, run ./scripts/demo.sh
END
    exit 2
}
