"""What the values of options must fulfil. Pure; a parser's `error` says what does not."""

import os

NUM_LOG_FREQS = 256  # rows of a log-frequency spectrogram, as in models.spectral
AT_LEAST = {  # the smallest value that makes sense
    "num_mix": 2,
    "num_channels": 1,
    "ngf": 1,
    "num_frames": 1,
    "stride_frames": 1,
    "frameRate": 1,
    "imgSize": 32,
    "audRate": 1,
    "stft_frame": 4,
    "stft_hop": 1,
    "dup_trainset": 1,
    "num_epoch": 1,
    "eval_epoch": 1,
    "disp_iter": 1,
    "batch_size_per_gpu": 1,
    "accumulate": 1,
    "num_gpus": 0,
    "workers": 0,
    "num_vis": 0,
    "seed": 0,
    "lr_sound": 0,
    "lr_frame": 0,
    "lr_synthesizer": 0,
    "weight_decay": 0,
    "beta1": 0,
    "mask_thres": 0,
}


def check_values(parser, args, gpus_present):
    """Each value by itself, and what this machine has."""
    for key, least in AT_LEAST.items():
        if not getattr(args, key) >= least:  # also refuses what is not a number
            parser.error(f"--{key}: expected {least} or more, found {getattr(args, key)}")
    if args.num_gpus > gpus_present:
        each = "; each process of torchrun has one" if args.num_processes > 1 else ""
        parser.error(
            f"--num_gpus: {args.num_gpus} asked for, {gpus_present} found{each}; 0 computes on the CPU"
        )
    if args.num_val == 0 or args.num_val < -1:
        parser.error(f"--num_val: expected -1 or 1 and more, found {args.num_val}")
    if not args.beta1 < 1:
        parser.error(f"--beta1: expected less than 1, found {args.beta1}")
    if os.path.basename(args.id) != args.id or args.id in (".", ".."):
        parser.error(f"--id: expected a plain name, found {args.id!r}; --ckpt names the folder")


def check_together(parser, args):
    """What options demand of one another."""
    if args.binary_mask and args.loss != "bce":
        parser.error(f"binary masks are learned by --loss bce, found {args.loss}; --binary_mask 0 for ratios")
    if args.loss == "bce" and not args.binary_mask:
        parser.error("--loss bce is for binary masks: ratio masks (--binary_mask 0) need --loss l1 or l2")
    if args.loss == "bce" and args.output_activation not in ("sigmoid", "softmax"):
        parser.error(
            f"--loss bce needs --output_activation sigmoid or softmax, found {args.output_activation}"
        )
    check_precision(parser, args)
    if args.compile and args.num_gpus > 1:
        parser.error("--compile is for one GPU in each process: start them with torchrun, or leave it out")
    if args.sync_bn and args.num_gpus > 1:
        parser.error("--sync_bn: several GPUs need torchrun for it, which starts a process for each")
    if args.stft_hop > args.stft_frame // 2:
        parser.error("--stft_hop: at most half of --stft_frame, or sound cannot be put together again")
    check_spectrogram(parser, args)


def check_precision(parser, args):
    """What --amp asks for must be there."""
    if args.amp == "fp16" and not args.num_gpus:
        parser.error("--amp fp16 needs a GPU; bf16 works on the CPU too")


def check_spectrogram(parser, args):
    """The U-Net halves both sides of the spectrogram once a level."""
    if args.audLen <= args.stft_frame // 2:
        parser.error(f"--audLen: expected more than half of --stft_frame, found {args.audLen}")
    step = 2 ** int(args.arch_sound.removeprefix("unet"))
    times = 1 + args.audLen // args.stft_hop
    freqs = NUM_LOG_FREQS if args.log_freq else args.stft_frame // 2 + 1
    if times % step:
        fitting = max(step, round(times / step) * step) * args.stft_hop - 1
        parser.error(
            f"--audLen {args.audLen} gives {times} spectrogram columns, which {args.arch_sound} "
            f"cannot halve: it needs a multiple of {step}, e.g. --audLen {fitting}"
        )
    if freqs % step:
        parser.error(
            f"{freqs} frequencies cannot be halved by {args.arch_sound}: it needs a multiple of {step}"
        )
