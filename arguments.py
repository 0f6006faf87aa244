"""All flags of main.py."""

import argparse
import os

from engine.options import (
    FILE_OPTIONS,
    HALVINGS,
    SAME,
    Refusal,
    check_no_weights,
    check_spectrogram,
    check_together,
    check_values,
    protocol_options,
    saved_options,
    training_options,
)
from engine.presets import PRESETS
from engine.runs import find_named
from utils import Parser

MAX_GPUS = 4
MAX_WORKERS = 48
AMPS = ("auto", "off", "bf16", "fp16")
EXAMPLES = """
python main.py --preset small --id demo --list_train data/demo/train.csv --list_val data/demo/val.csv
python main.py --mode eval --id demo --list_val data/demo/val.csv
"""
GROUPS = {
    "run": "name, mode and output of the run",
    "networks": "architectures and initial weights",
    "masks and loss": "kind of mask and training loss",
    "sound and pictures": "what an example consists of",
    "data": "index files and how clips are mixed",
    "training": "optimiser and schedule",
    "machine": "devices, workers and precision",
}


def make_parser(gpus_present=0, processes=(1, 1)):
    """The parser of main.py's flags.

    gpus_present: GPUs that this process may use, the default of --num_gpus up to 4; None: not known yet.
    processes: number of processes, and number of them on this machine.
    """
    text = "Train (default) or evaluate The Sound of Pixels on the clips of index files."
    parser = Parser(EXAMPLES, show_defaults=True, description=text)
    groups = {name: parser.add_argument_group(name, text) for name, text in GROUPS.items()}
    _add_run(groups["run"])
    _add_networks(groups["networks"])
    _add_masks(groups["masks and loss"])
    _add_sampling(groups["sound and pictures"])
    _add_data(groups["data"])
    _add_mixing(groups["data"])
    _add_training(groups["training"])
    _add_schedule(groups["training"])
    _add_machine(groups["machine"], gpus_present, processes[1])
    parser.set_defaults(num_processes=processes[0])
    return parser


def _add_run(group):
    add = group.add_argument
    add(
        "--id",
        default="",
        help="name of the run. Without --preset, or with the preset published, its folder's name goes on "
        "with the main options; otherwise the folder is ID, or ID-2 if another run has that name. "
        "Evaluation: the folder's name in --ckpt, or the start of it",
    )
    add(
        "--preset",
        choices=tuple(PRESETS),
        help="defaults of many options, see docs/networks.md: published, the recipe for MUSIC; small, "
        "for a few hundred clips and two CPU cores; modern, for MUSIC; reduced, for comparisons on two cores",
    )
    add("--mode", default="train", choices=("train", "eval"), help="train, or evaluate ckpt/ID")
    add("--ckpt", default="./ckpt", help="folder of all runs")
    add(
        "--resume",
        default=True,
        action=argparse.BooleanOptionalAction,
        help="resume the run in ckpt/ID if its options agree; --no-resume is an error if there is one",
    )
    add("--overwrite", action="store_true", help="delete the run in ckpt/ID and start again")
    add("--seed", default=1234, type=int, help="random seed")
    add("--num_vis", default=40, type=int, help="mixtures shown on the page")
    add("--disp_iter", default=20, type=int, help="steps between log lines")
    add("--save_minutes", default=10, type=float, help="minutes between saves within an epoch; 0: none")
    add("--eval_epoch", default=1, type=int, help="epochs between evaluations")


def _add_networks(group):
    add = group.add_argument
    add("--arch_sound", default="unet7", choices=tuple(HALVINGS), help="sound network")
    add(
        "--arch_frame",
        default="resnet18dilated",
        metavar="resnet18fc|resnet18dilated|lite0|timm:NAME",
        help="frame network; lite0: EfficientNet-Lite0, whose ImageNet weights are a package; timm:NAME: any "
        "convolutional network of timm",
    )
    add("--arch_synthesizer", default="linear", choices=("linear", "bias"), help="synthesizer")
    add("--weights_sound", default="", help="initial weights of the sound network, a file")
    add("--weights_frame", default="", help="initial weights of the frame network, a file")
    add("--weights_synthesizer", default="", help="initial weights of the synthesizer, a file")
    add(
        "--pretrained",
        default="imagenet",
        metavar="imagenet|none|PATH",
        help="initial weights of the frame network's backbone: ImageNet's, random, or a state dict",
    )
    add("--num_channels", default=32, type=int, help="channels of image and sound features")
    add("--ngf", default=64, type=int, help="channels of the sound network's first level")
    add("--depth_sound", default=1, type=int, help="tfc_tdf: blocks on each side of a level")
    add(
        "--init_sound",
        default="normal",
        choices=("normal", "kaiming"),
        help="random initialisation of the U-Net: as published, or larger weights that learn faster",
    )
    add("--img_pool", default="maxpool", choices=("avgpool", "maxpool"), help="pooling of image features")
    add(
        "--img_norm",
        default="none",
        choices=("none", "batch"),
        help="normalisation of pooled image features; batch: faster without ImageNet weights",
    )
    activations = ("sigmoid", "softmax", "relu", "tanh", "no")
    add("--img_activation", default="sigmoid", choices=activations, help="activation of image features")
    add("--sound_activation", default="no", choices=activations, help="activation of sound features")
    add("--output_activation", default="sigmoid", choices=activations, help="activation of masks")


def _add_masks(group):
    add = group.add_argument
    add("--binary_mask", default=1, type=int, choices=(0, 1), help="binary masks (1) or ratio masks (0)")
    add(
        "--mask_target",
        default="magnitude",
        choices=("magnitude", "phase"),
        help="true ratio masks: of magnitudes, as published, or of the part in phase with the mixture",
    )
    add("--mask_thres", default=0.5, type=float, help="evaluation: threshold that makes masks binary")
    add("--loss", default="bce", choices=("bce", "l1", "l2"), help="loss on masks; binary masks need bce")
    add(
        "--weighted_loss", default=0, type=int, choices=(0, 1), help="weight the loss by the mixture's energy"
    )
    add("--log_freq", default=1, type=int, choices=(0, 1), help="log-frequency spectrograms")


def _add_sampling(group):
    add = group.add_argument
    add("--num_mix", default=2, type=int, help="clips per mixture")
    add("--num_frames", default=1, type=int, help="frames per clip")
    add("--stride_frames", default=1, type=int, help="frames between two frames of a clip")
    add("--frameRate", default=8, type=int, help="frames per second on disk")
    add("--imgSize", default=224, type=int, help="frame size in pixels")
    add("--audLen", default=65535, type=int, help="audio samples per example")
    add("--audRate", default=11025, type=int, help="audio sample rate in Hz")
    add("--stft_frame", default=1022, type=int, help="STFT window in samples")
    add("--stft_hop", default=256, type=int, help="STFT hop in samples")


def _add_data(group):
    add = group.add_argument
    add("--list_train", default="data/train.csv", help="index file of training clips")
    add("--list_val", default="data/val.csv", help="index file of validation clips")
    add(
        "--list_val_mix",
        default="",
        help="mixture list to evaluate instead of --list_val, see create_index_files.py, or a published list "
        "with rows of /CATEGORY/ID.wav,/CATEGORY/ID.wav",
    )
    add(
        "--protocol",
        default="",
        metavar="FILE",
        help="evaluation: repeat the evaluation that wrote this protocol.json, and say whether data and "
        "scores agree",
    )
    add("--root_audio", default="./data/audio", help="audio of published lists and moved protocols")
    add("--root_frame", default="./data/frames", help="frames of published lists and moved protocols")
    add(
        "--num_val",
        default=-1,
        type=int,
        help="mixtures to evaluate; -1: one per validation clip, or all of --list_val_mix",
    )
    add(
        "--list_duets",
        default="",
        help="evaluation: also measure separation and localisation on these videos, a folder or a text file "
        "with one video per line; each needs an <id>.json with the box and the track of every source, as "
        "dataset.demo writes it",
    )
    add(
        "--list_solos",
        default="",
        help="evaluation: also measure localisation on these videos with one source, each with a box in its "
        "<id>.json; of a folder, only the videos in --list_val, if that file exists: not those of training",
    )


def _add_mixing(group):
    add = group.add_argument
    add(
        "--dup_trainset",
        default=100,
        type=int,
        help="repeats of the training list per epoch; 0: enough for about 1,000 mixtures",
    )
    add(
        "--samples_per_epoch",
        default=0,
        type=int,
        metavar="N",
        help="mixtures per epoch; each epoch goes on in the list where the last one ended. 0: --dup_trainset",
    )
    add("--stream_shards", default=0, type=int, metavar="K", help="read and mix K shards at a time; 0: all")
    add(
        "--augment_speed",
        default=0,
        type=float,
        metavar="SEMITONES",
        help="training: play clips faster or slower, up to this change of pitch (3 for instruments)",
    )
    pairs = ("category", "video", "original")
    add("--mix_pairs", default="category", choices=pairs, help="training: what a mixture's clips differ in")
    add(
        "--val_pairs",
        default="category",
        choices=(*pairs, SAME),
        help="evaluation: the same; same: different videos of one category, scores of their own",
    )


def _add_training(group):
    add = group.add_argument
    add("--num_epoch", default=100, type=int, help="epochs to train")
    add("--optimizer", default="sgd", choices=("sgd", "adamw"), help="optimiser")
    add("--lr_sound", default=1e-3, type=float, help="learning rate of the sound network")
    add(
        "--lr_frame",
        default=1e-4,
        type=float,
        help="learning rate of the frame network's backbone, 0: frozen; its `fc` uses --lr_sound",
    )
    add(
        "--freeze_epochs",
        default=0,
        type=int,
        metavar="N",
        help="freeze the backbone in the first N epochs; --lr_frame is its learning rate after them",
    )
    add(
        "--num_views",
        default=16,
        type=int,
        help="while the backbone is frozen: fixed views (moment, crop, mirroring) per training clip, whose "
        "features are computed once; 0: new views at every step",
    )
    add("--views_dir", default="", help="keep these features in files in this folder, for later runs too")
    add("--lr_synthesizer", default=1e-3, type=float, help="learning rate of the synthesizer")
    add("--beta1", default=0.9, type=float, help="momentum of SGD, first beta of AdamW")
    add("--weight_decay", default=1e-4, type=float, help="weight decay")
    add("--accumulate", default=1, type=int, help="batches per optimiser step (gradient accumulation)")
    add("--skip_nonfinite", default=0, type=int, metavar="N", help="leave out N steps with a loss of NaN")
    add(
        "--sync_bn",
        action="store_true",
        help="batch normalisation over the batches of all torchrun processes, not in each separately",
    )


def _add_schedule(group):
    add = group.add_argument
    add("--lr_steps", default=[40, 60], nargs="*", type=int, help="epochs after which rates drop to a tenth")
    add(
        "--schedule",
        default="step",
        choices=("step", "cosine"),
        help="how learning rates fall: at --lr_steps, or along a cosine to zero at the end",
    )
    add("--warmup", default=0, type=float, help="epochs of a linear rise of learning rates from zero")


def _add_machine(group, gpus_present, processes_here):
    add = group.add_argument
    add(
        "--num_gpus",
        default=None if gpus_present is None else min(gpus_present, MAX_GPUS),
        type=int,
        help="GPUs to use, 0: CPU; default: all, at most 4, or one per torchrun process",
    )
    add(
        "--batch_size_per_gpu",
        default=32,
        type=int,
        help="mixtures per batch on each GPU, or in each process on the CPU",
    )
    workers = max(1, min(MAX_WORKERS, os.cpu_count() or 1) // processes_here)
    add(
        "--workers",
        default=workers,
        type=int,
        help="data loading processes per training process; 0: load in the training process",
    )
    add(
        "--amp",
        default="auto",
        choices=AMPS,
        help="precision of the networks; off: float32; auto: bf16 where the hardware supports it, else off; "
        "fp16 needs a GPU",
    )
    add("--compile", action="store_true", help="torch.compile: takes a minute, then GPUs are faster")
    add(
        "--bss",
        default="fast",
        choices=("fast", "mir_eval"),
        help="implementation of SDR, SIR and SAR: batched on the device, or mir_eval, which is slower",
    )


def parse_args(argv=None, gpus_present=0, processes=(1, 1)):
    """Parse and check `argv` (a list of str; None: the command line); the result is not modified later.

    gpus_present, processes: see `make_parser`; what depends on unknown GPUs is not checked. Defaults come
    from the preset; in evaluation, those of the networks' options come from the run's saved options, and --id
    becomes the whole name of its folder. Invalid options exit with a one-line error. Raises UserError if
    there is no such run.
    """
    parser = make_parser(gpus_present, processes)
    args = parser.parse_args(argv)
    defaults = PRESETS.get(args.preset, {})
    if args.mode == "eval":
        if not args.id:
            parser.error("--mode eval needs --id: the name of a folder in --ckpt")
        run = find_named(args.ckpt, args.id)
        defaults = defaults | _saved_options(parser, os.path.join(args.ckpt, run))
        if args.protocol:
            options = protocol_options(args.protocol)
            parser.check_saved(options, args.protocol)
            defaults |= options
    parser.set_defaults(**defaults)
    args = parser.parse_args(argv)
    if args.mode == "eval":
        args.id = run
    check_values(parser, args, gpus_present)
    check_together(parser, args)
    return args


def changed_options(args):
    """{option: value} that differ from the preset, or from the defaults without one: for the model card."""
    defaults = vars(make_parser().parse_args([])) | PRESETS.get(args.preset, {})
    options = {key: value for key, value in training_options(args).items() if key in defaults}
    # The card has the name and the lists elsewhere.
    skipped = {"id", "list_train", "list_val", "list_val_mix"}
    return {key: value for key, value in options.items() if value != defaults[key] and key not in skipped}


def add_network_flags(parser, in_help=True):
    """Add the flags that describe networks and their input; flags not given are missing from the result."""
    texts = ("networks", "only for checkpoints of older code, without options.json") if in_help else ()
    group = parser.add_argument_group(*texts)
    for add_group in (_add_networks, _add_masks, _add_sampling):
        add_group(_Optional(group, {} if in_help else {"help": argparse.SUPPRESS}))


class _Optional:
    """An argument group whose flags have no defaults."""

    def __init__(self, group, changes):
        self._group, self._changes = group, changes | {"default": argparse.SUPPRESS}

    def add_argument(self, *names, **options):
        """Add the flag without its default."""
        return self._group.add_argument(*names, **(options | self._changes))


def network_options(args, folder):
    """All options for the networks in `folder`: the run's saved options, overridden by the flags in `args`.

    Raises UserError if the saved options cannot be read, or if the options are invalid.
    """
    parser = make_parser()
    defaults = vars(parser.parse_args([]))
    options = argparse.Namespace(**(defaults | _saved_options(parser, folder) | vars(args)))
    check_no_weights(Refusal, options, "networks are read from --ckpt")
    check_values(Refusal, options, options.num_gpus)
    check_spectrogram(Refusal, options)
    return options


def _saved_options(parser, folder):
    saved = saved_options(folder)
    parser.check_saved(saved, os.path.join(folder, FILE_OPTIONS))
    return saved
