"""Checks on options, the name of a run, and the options that a resumed run must keep.

Does not import torch, so that `arguments` imports quickly.
"""

import itertools
import json
import os

from utils import UserError

NUM_LOG_FREQS = 256  # rows of a log-frequency spectrogram, as in models.spectral
HALVINGS = {"unet5": 5, "unet6": 6, "unet7": 7, "tfc_tdf": 4}  # of a spectrogram's sides by --arch_sound
ARCHS_FRAME = ("resnet18fc", "resnet18dilated", "lite0")  # and timm:NAME
AT_LEAST = {  # smallest allowed value
    "num_mix": 2,
    "num_channels": 1,
    "ngf": 1,
    "depth_sound": 1,
    "num_frames": 1,
    "stride_frames": 1,
    "frameRate": 1,
    "imgSize": 32,
    "audRate": 1,
    "stft_frame": 4,
    "stft_hop": 1,
    "dup_trainset": 0,
    "samples_per_epoch": 0,
    "stream_shards": 0,
    "num_epoch": 1,
    "eval_epoch": 1,
    "disp_iter": 1,
    "batch_size_per_gpu": 1,
    "accumulate": 1,
    "num_gpus": 0,
    "workers": 0,
    "num_views": 0,
    "freeze_epochs": 0,
    "num_vis": 0,
    "seed": 0,
    "lr_sound": 0,
    "lr_frame": 0,
    "lr_synthesizer": 0,
    "weight_decay": 0,
    "beta1": 0,
    "warmup": 0,
    "augment_speed": 0,
    "mask_thres": 0,
    "skip_nonfinite": 0,
    "save_minutes": 0,
}
SAME = "same"  # --val_pairs: two videos of one category
AT_MOST = {  # largest allowed value: far above what is sensible, and below what exhausts the memory at once
    "num_mix": 16,
    "num_channels": 4096,
    "ngf": 1024,
    "depth_sound": 100,
    "num_frames": 1000,
    "stride_frames": 100_000,
    "frameRate": 1000,
    "imgSize": 4096,
    "audLen": 1 << 26,
    "audRate": 384_000,
    "stft_frame": 1 << 20,
    "mask_thres": 1000,
}
AUTO = "auto"  # --num_sources of separate.py: find how many there are
FILE_OPTIONS = "options.json"  # the run's options, saved next to its weights
# Options that define a checkpoint's networks and their input: evaluation reads them from the run's own
# options unless a flag overrides them.
MODEL_OPTIONS = (
    "num_mix arch_sound arch_frame arch_synthesizer num_channels ngf depth_sound img_pool img_norm "
    "img_activation sound_activation output_activation binary_mask mask_target mask_thres loss "
    "weighted_loss log_freq num_frames stride_frames audLen audRate stft_frame stft_hop imgSize frameRate"
).split()
# Options that may change when a run is resumed: they do not affect what is learned.
FREE_OPTIONS = (
    "ckpt preset mode resume overwrite workers num_vis disp_iter num_gpus batch_size_per_gpu list_duets "
    "list_solos num_processes bss compile views_dir protocol root_audio root_frame skip_nonfinite "
    "save_minutes"
).split()
# Options added later, with their defaults: older runs resume while these keep their defaults.
LATER_OPTIONS = {
    "list_val_mix": "",
    "accumulate": 1,
    "sync_bn": False,
    "num_views": 16,
    "freeze_epochs": 0,
    "schedule": "step",
    "warmup": 0,
    "augment_speed": 0,
    "depth_sound": 1,
    "mask_target": "magnitude",
    "samples_per_epoch": 0,
    "stream_shards": 0,
}


class Refusal:
    """Replaces the parser where the checked options are not a command line."""

    @staticmethod
    def error(message):
        """Raise UserError."""
        raise UserError(message)


def check_values(parser, args, gpus_present):
    """Check each option's value, and that this machine has the GPUs; gpus_present None: not known yet."""
    for key, least in AT_LEAST.items():
        value = getattr(args, key)
        if value is not None and not value >= least:  # also refuses NaN
            parser.error(f"--{key}: expected {least} or more, found {value}")
    for key, most in AT_MOST.items():
        if getattr(args, key) > most:
            parser.error(f"--{key}: expected {most} or less, found {getattr(args, key)}")
    if gpus_present is not None and args.num_gpus > gpus_present:
        each = "; each torchrun process uses one" if args.num_processes > 1 else ""
        parser.error(f"--num_gpus: {args.num_gpus} requested, {gpus_present} found{each}; 0 uses the CPU")
    if args.num_val == 0 or args.num_val < -1:
        parser.error(f"--num_val: expected -1, or 1 or more, found {args.num_val}")
    if not args.beta1 < 1:
        parser.error(f"--beta1: expected less than 1, found {args.beta1}")
    if os.path.basename(args.id) != args.id or args.id in (".", ".."):
        parser.error(f"--id: expected a plain name, found {args.id!r}; --ckpt sets the folder")


def check_together(parser, args):
    """Check combinations of options."""
    if args.binary_mask and args.loss != "bce":
        parser.error(f"binary masks need --loss bce, found {args.loss}; use --binary_mask 0 for ratio masks")
    if args.loss == "bce" and not args.binary_mask:
        parser.error("--loss bce is for binary masks; ratio masks (--binary_mask 0) need --loss l1 or l2")
    if args.binary_mask and args.mask_target != "magnitude":
        parser.error(f"--mask_target {args.mask_target} is for ratio masks: use --binary_mask 0")
    if args.loss == "bce" and args.output_activation not in ("sigmoid", "softmax"):
        parser.error(
            f"--loss bce needs --output_activation sigmoid or softmax, found {args.output_activation}"
        )
    if args.mode == "eval":
        check_no_weights(parser, args, "--mode eval scores the networks in ckpt/ID")
    check_mixtures(parser, args)
    check_precision(parser, args)
    check_frame(parser, args)
    if args.compile and (args.num_gpus or 0) > 1:
        parser.error("--compile works with one GPU per process: use torchrun for several GPUs")
    if args.sync_bn and (args.num_gpus or 0) > 1:
        parser.error("--sync_bn with several GPUs needs torchrun, which starts a process per GPU")
    if args.stft_hop > args.stft_frame // 2:
        parser.error("--stft_hop: at most half of --stft_frame, or the STFT cannot be inverted")
    check_spectrogram(parser, args)


def check_mixtures(parser, args):
    """Check that one option alone says what is evaluated, and that training does not depend on it."""
    flags = {
        "--protocol": args.protocol,
        "--val_pairs same": is_same(args),
        "--list_val_mix": args.list_val_mix,
    }
    given = [flag for flag, is_given in flags.items() if is_given]
    if len(given) > 1:
        parser.error(f"{given[0]} sets the mixtures to evaluate: it does not go with {given[1]}")
    if args.mode == "train" and given and given[0] != "--list_val_mix":
        parser.error(f"{given[0]} is for --mode eval: training chooses its best networks by other mixtures")


def check_frame(parser, args):
    """Check that the frame network exists, as far as is known without timm, and can be trained as asked."""
    if args.arch_frame not in ARCHS_FRAME and not args.arch_frame.startswith("timm:"):
        parser.error(f"--arch_frame: expected {', '.join(ARCHS_FRAME)} or timm:NAME, found {args.arch_frame}")
    if args.freeze_epochs and args.lr_frame == 0:
        parser.error("--freeze_epochs needs a --lr_frame above 0, the rate after these epochs: 0 freezes all")
    # In timm, layers of batch normalisation often contain the activation, too.
    if args.sync_bn and not frozen_epochs(args) and not args.arch_frame.startswith("resnet"):
        parser.error(
            f"--sync_bn works with --arch_frame {args.arch_frame} only if it is frozen: --lr_frame 0, or "
            "--freeze_epochs for the first epochs"
        )


def check_no_weights(parser, args, why):
    """Refuse files of initial weights where trained networks are read; `why` ends the message."""
    for key in ("weights_sound", "weights_frame", "weights_synthesizer"):
        if getattr(args, key):
            parser.error(f"--{key} is for training: {why}")


def check_precision(parser, args):
    """Check that the device supports --amp; num_gpus None: not known yet."""
    if args.amp == "fp16" and args.num_gpus == 0:
        parser.error("--amp fp16 needs a GPU; bf16 works on the CPU too")


def num_freqs(args):
    """Rows of the spectrograms that the networks see."""
    return NUM_LOG_FREQS if args.log_freq else args.stft_frame // 2 + 1


def check_length(parser, args):
    """Check that an example is long enough for an STFT."""
    if args.audLen <= args.stft_frame // 2:
        parser.error(f"--audLen: expected more than half of --stft_frame, found {args.audLen}")


def check_spectrogram(parser, args):
    """Check that the spectrogram's sides can be halved at each level of the sound network."""
    check_length(parser, args)
    step = 2 ** HALVINGS[args.arch_sound]
    times = 1 + args.audLen // args.stft_hop
    freqs = num_freqs(args)
    if times % step:
        fitting = max(step, round(times / step) * step) * args.stft_hop - 1
        parser.error(
            f"--audLen {args.audLen} gives {times} spectrogram columns; {args.arch_sound} needs a multiple "
            f"of {step}, e.g. --audLen {fitting}"
        )
    if freqs % step:
        parser.error(f"{freqs} frequencies: {args.arch_sound} needs a multiple of {step}, see --stft_frame")


def has_short_name(args):
    """Whether the name of the run in training is its `--id`, without its options."""
    return args.preset not in (None, "published")


def model_id(args):
    """The run's name, without the number that `run_folder` may add.

    In evaluation it is `--id`. In training `--id` is followed by the main options, as published; with a
    preset other than the published one it is `--id` alone.
    """
    if args.mode == "eval":
        return args.id
    if has_short_name(args):
        return args.id or args.preset
    parts = [args.id] if args.id else []
    parts += [f"{args.num_mix}mix"]
    parts += ["LogFreq"] if args.log_freq else []
    parts += [args.arch_frame.replace(":", "-"), args.arch_sound, args.arch_synthesizer]
    parts += [f"frames{args.num_frames}stride{args.stride_frames}", args.img_pool]
    parts += ["binary" if args.binary_mask else "ratio"]
    parts += ["phase"] if args.mask_target == "phase" else []
    parts += ["weightedLoss"] if args.weighted_loss else []
    parts += [f"channels{args.num_channels}", f"epoch{args.num_epoch}"]
    steps = "step" + "_".join(str(epoch) for epoch in args.lr_steps)
    parts += [steps if args.schedule == "step" else args.schedule]
    parts += [f"ngf{args.ngf}"] if args.ngf != 64 else []
    parts += [f"depth{args.depth_sound}"] if args.depth_sound != 1 else []
    parts += ["kaiming"] if args.init_sound == "kaiming" else []
    parts += ["imgNorm"] if args.img_norm == "batch" else []
    parts += ["adamw"] if args.optimizer == "adamw" else []
    parts += [f"speed{args.augment_speed:g}"] if args.augment_speed else []
    parts += [f"freeze{args.freeze_epochs}"] if args.freeze_epochs else []
    return "-".join(parts)


def run_folder(args):
    """The folder of the run's files.

    A short name gets a number (`demo-2`) if it belongs to a run that `args` cannot resume, unless --overwrite
    is given. During and after training, the same `args` give the same folder.
    """
    first = os.path.join(args.ckpt, model_id(args))
    if args.mode == "eval" or not has_short_name(args):
        return first
    numbered = (f"{first}-{number}" for number in itertools.count(2))
    taken = list(itertools.takewhile(_is_taken, itertools.chain([first], numbered)))
    wanted = training_options(args)
    for folder in taken:
        saved = read_options(folder)
        if saved is not None and not differing(saved, wanted):
            return folder
    return first if args.overwrite or not taken else f"{first}-{len(taken) + 1}"


def _is_taken(folder):
    return read_options(folder) is not None or bool(weights_in(folder))


def weights_in(folder):
    """The sorted names of the weights in a folder, which may not exist."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(name for name in names if name.endswith(".pth") and not name.startswith("."))


def differing(saved, wanted):
    """The sorted options that keep a run with the options `saved` from being resumed with `wanted`.

    The number of epochs may grow.
    """
    keys = sorted(key for key in saved.keys() | wanted.keys() if saved.get(key) != wanted.get(key))
    return [key for key in keys if key != "num_epoch" or not saved.get(key, 0) < wanted[key]]


def path_val(args):
    """The list to evaluate: a protocol or a mixture list if given, else an index file."""
    return args.protocol or args.list_val_mix or args.list_val


def is_same(args):
    """Whether mixtures of one category are evaluated."""
    return args.val_pairs == SAME


def results_folder(args):
    """The folder of an evaluation's files: the run's, but for scores that must not replace its own."""
    if args.protocol:
        return os.path.join(run_folder(args), "repeated")
    return os.path.join(run_folder(args), "same") if is_same(args) else run_folder(args)


def protocol_options(path):
    """The options that repeating a protocol takes from its file; the file has the mixtures, too."""
    from dataset.fixed import read_protocol  # here: --help is answered without numpy

    return {"bss": read_protocol(path)["metric"].get("bss"), "num_val": -1}


def frozen_epochs(args):
    """Epochs, from the first, in which the backbone is frozen."""
    return args.num_epoch if args.lr_frame == 0 else args.freeze_epochs


def kept_views(args):
    """Fixed views per training clip whose features are kept; 0: none, or the backbone is never frozen."""
    return args.num_views if frozen_epochs(args) else 0


def batch_size(args):
    """Mixtures per batch, summed over all GPUs and processes."""
    return args.batch_size_per_gpu * max(args.num_gpus, 1) * args.num_processes


def training_options(args):
    """{option: value} of all options that must not change when a run is resumed."""
    options = {key: value for key, value in vars(args).items() if key not in FREE_OPTIONS}
    for key, value in LATER_OPTIONS.items():
        if options[key] == value:
            del options[key]
    return options | {"batch_size": batch_size(args)}


def saved_options(folder):
    """The MODEL_OPTIONS that training saved in a run's folder; {} if the run saved none."""
    saved = read_options(folder) or {}
    return {key: saved[key] for key in MODEL_OPTIONS if key in saved}


def read_options(folder):
    """All options that training saved in a run's folder; None if the run saved none.

    Raises UserError if the file cannot be read.
    """
    path = os.path.join(folder, FILE_OPTIONS)
    try:
        with open(path, encoding="utf-8") as file:
            saved = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not the options of a run: {error}") from None
    if not isinstance(saved, dict):
        raise UserError(f"{path}: not the options of a run: expected {{name: value}}, found {saved!r}")
    return saved
