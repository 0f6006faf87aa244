"""Presets of options: `main.py --preset NAME` makes them defaults, which other flags override."""

# The published recipe, for MUSIC; batches are per GPU, of 4 GPUs.
PUBLISHED = {
    "id": "MUSIC",
    "list_train": "data/train.csv",
    "list_val": "data/val.csv",
    "arch_sound": "unet7",
    "arch_synthesizer": "linear",
    "arch_frame": "resnet18dilated",
    "pretrained": "imagenet",
    "img_pool": "maxpool",
    "img_activation": "sigmoid",
    "sound_activation": "no",
    "output_activation": "sigmoid",
    "num_channels": 32,
    "binary_mask": 1,
    "loss": "bce",
    "weighted_loss": 1,
    "log_freq": 1,
    "num_mix": 2,
    "num_frames": 3,
    "stride_frames": 24,
    "frameRate": 8,
    "audLen": 65535,
    "audRate": 11025,
    "num_val": 256,
    "dup_trainset": 100,
    "batch_size_per_gpu": 20,
    "lr_frame": 1e-4,
    "lr_sound": 1e-3,
    "lr_synthesizer": 1e-3,
    "num_epoch": 100,
    "lr_steps": [40, 80],
}

# Shared by `small` and `modern`: a frozen, pretrained backbone, a sound network with dense layers over
# frequency, masks that divide the mixture, and learning rates along a cosine.
_TODAY = {
    "arch_frame": "lite0",
    "pretrained": "imagenet",
    "lr_frame": 0.0,
    "img_norm": "batch",
    "img_pool": "avgpool",
    "arch_sound": "tfc_tdf",
    "binary_mask": 0,
    "mask_target": "phase",
    "loss": "l1",
    "output_activation": "softmax",
    "weighted_loss": 1,
    "optimizer": "adamw",
    "schedule": "cosine",
    "warmup": 0.5,
}

# For a few hundred clips and two CPU cores: small networks, 3 s of audio, about 15,000 mixtures in total.
SMALL = _TODAY | {
    "id": "small",
    "imgSize": 160,
    "num_views": 8,
    "ngf": 32,
    "num_channels": 16,
    "audLen": 32767,
    "batch_size_per_gpu": 8,
    "lr_sound": 1.5e-3,
    "lr_synthesizer": 1.5e-3,
    "dup_trainset": 0,
    "num_epoch": 15,
    "eval_epoch": 5,
}

# For MUSIC, with the published data, evaluation and batches.
MODERN = PUBLISHED | _TODAY | {"id": "MUSIC-modern", "depth_sound": 2}

# The published networks, masks and loss at a size for two CPU cores, to compare variants in short runs. The
# backbone is small, pretrained and frozen; the optimiser and the first weights learn from few mixtures.
REDUCED = PUBLISHED | {
    "id": "reduced",
    "arch_frame": "lite0",
    "lr_frame": 0.0,
    "img_norm": "batch",
    "imgSize": 160,
    "num_views": 8,
    "num_frames": 1,
    "stride_frames": 1,
    "arch_sound": "unet6",
    "init_sound": "kaiming",
    "ngf": 32,
    "num_channels": 16,
    "audLen": 32767,
    "batch_size_per_gpu": 8,
    "num_val": -1,
    "dup_trainset": 0,
    "optimizer": "adamw",
    "schedule": "cosine",
    "warmup": 0.5,
    "num_epoch": 4,
    "eval_epoch": 4,
}

PRESETS = {"published": PUBLISHED, "small": SMALL, "modern": MODERN, "reduced": REDUCED}
