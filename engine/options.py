"""What options mean together: limits of their values, the name of a run, and what a resumed run must keep.

Free of torch, so that `arguments` stays fast to import.
"""

import json
import os

from utils import UserError

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
FILE_OPTIONS = "options.json"  # beside the weights: the options of the run that made them
# Options that a checkpoint's networks and their input depend on: evaluation takes them from the run's own
# options unless a flag says otherwise.
MODEL_OPTIONS = (
    "num_mix arch_sound arch_frame arch_synthesizer num_channels ngf img_pool img_norm img_activation "
    "sound_activation output_activation binary_mask mask_thres loss weighted_loss log_freq num_frames "
    "stride_frames audLen audRate stft_frame stft_hop imgSize frameRate"
).split()
# Options that may differ between a run and its continuation: they don't change what is learned.
FREE_OPTIONS = (
    "ckpt mode resume overwrite workers num_vis disp_iter num_gpus batch_size_per_gpu list_duets list_solos "
    "num_processes bss compile"
).split()
# Options that runs from before them know nothing of: where they have no effect, these runs go on.
LATER_OPTIONS = {"list_val_mix": "", "accumulate": 1, "sync_bn": False}


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
    if args.mode == "eval":
        check_no_weights(parser, args, "--mode eval scores the networks in ckpt/ID")
    check_precision(parser, args)
    if args.compile and args.num_gpus > 1:
        parser.error("--compile is for one GPU in each process: start them with torchrun, or leave it out")
    if args.sync_bn and args.num_gpus > 1:
        parser.error("--sync_bn: several GPUs need torchrun for it, which starts a process for each")
    if args.stft_hop > args.stft_frame // 2:
        parser.error("--stft_hop: at most half of --stft_frame, or sound cannot be put together again")
    check_spectrogram(parser, args)


def check_no_weights(parser, args, why):
    """Refuse files to start training from where trained networks are read, as `why` says."""
    for key in ("weights_sound", "weights_frame", "weights_synthesizer"):
        if getattr(args, key):
            parser.error(f"--{key} is for training: {why}")


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


def model_id(args):
    """The name of the run: in training made of `--id` and the options that tell runs apart, else `--id`."""
    if args.mode == "eval":
        return args.id
    parts = [args.id, f"{args.num_mix}mix"]
    parts += ["LogFreq"] if args.log_freq else []
    parts += [args.arch_frame, args.arch_sound, args.arch_synthesizer]
    parts += [f"frames{args.num_frames}stride{args.stride_frames}", args.img_pool]
    parts += ["binary" if args.binary_mask else "ratio"]
    parts += ["weightedLoss"] if args.weighted_loss else []
    parts += [f"channels{args.num_channels}", f"epoch{args.num_epoch}"]
    parts += ["step" + "_".join(str(epoch) for epoch in args.lr_steps)]
    parts += [f"ngf{args.ngf}"] if args.ngf != 64 else []
    parts += ["kaiming"] if args.init_sound == "kaiming" else []
    parts += ["imgNorm"] if args.img_norm == "batch" else []
    parts += ["adamw"] if args.optimizer == "adamw" else []
    return "-".join(parts)


def run_folder(args):
    """Where the run's files lie."""
    return os.path.join(args.ckpt, model_id(args))


def path_val(args):
    """The file that evaluation reads: a mixture list, or an index file."""
    return args.list_val_mix or args.list_val


def batch_size(args):
    """Mixtures in a batch, over all GPUs and processes."""
    return args.batch_size_per_gpu * max(args.num_gpus, 1) * args.num_processes


def training_options(args):
    """{option: value} of all that must agree between a run and its continuation."""
    options = {key: value for key, value in vars(args).items() if key not in FREE_OPTIONS}
    for key, value in LATER_OPTIONS.items():
        if options[key] == value:
            del options[key]
    return options | {"batch_size": batch_size(args)}


def saved_options(folder):
    """Options of the networks in a run's folder, as training wrote them; none for older runs."""
    path = os.path.join(folder, FILE_OPTIONS)
    try:
        with open(path, encoding="utf-8") as file:
            saved = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not the options of a run: {error}") from None
    return {key: saved[key] for key in MODEL_OPTIONS if key in saved}
