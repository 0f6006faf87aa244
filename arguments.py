"""Every flag of main.py, the checks on them, and the model id."""

import argparse
import os

from engine.options import (
    check_no_weights,
    check_spectrogram,
    check_together,
    check_values,
    run_folder,
    saved_options,
)
from utils import UserError

MAX_GPUS = 4
MAX_WORKERS = 48
AMPS = ("auto", "off", "bf16", "fp16")
GROUPS = {
    "run": "which run, what it does and where it writes",
    "networks": "what is built",
    "masks and loss": "what the networks are asked for",
    "sound and pictures": "what an example is made of",
    "data": "index files and how clips are mixed",
    "training": "optimiser and schedule",
    "machine": "devices, workers and precision",
}


def make_parser(gpus_present=0, processes=(1, 1)):
    """The parser of main.py's flags; `gpus_present` is the default of --num_gpus, up to 4.

    processes: how many compute together, and how many of them on this machine.
    """
    parser = argparse.ArgumentParser(
        description="Train (default) or evaluate The Sound of Pixels on the clips of index files.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    groups = {name: parser.add_argument_group(name, text) for name, text in GROUPS.items()}
    _add_run(groups["run"])
    _add_networks(groups["networks"])
    _add_masks(groups["masks and loss"])
    _add_sampling(groups["sound and pictures"])
    _add_data(groups["data"])
    _add_training(groups["training"])
    _add_machine(groups["machine"], gpus_present, processes[1])
    parser.set_defaults(num_processes=processes[0])
    return parser


def _add_run(group):
    add = group.add_argument
    add("--id", default="", help="in training the beginning of the model's name, in evaluation all of it")
    add("--mode", default="train", choices=("train", "eval"), help="train, or evaluate ckpt/ID")
    add("--ckpt", default="./ckpt", help="folder of all runs")
    add(
        "--resume",
        default=True,
        action=argparse.BooleanOptionalAction,
        help="continue the run that lies in ckpt/ID, if its options agree; --no-resume refuses instead",
    )
    add("--overwrite", action="store_true", help="delete the run that lies in ckpt/ID and begin again")
    add("--seed", default=1234, type=int, help="of all randomness")
    add("--num_vis", default=40, type=int, help="mixtures on the page")
    add("--disp_iter", default=20, type=int, help="steps between two log lines")
    add("--eval_epoch", default=1, type=int, help="epochs between two evaluations")


def _add_networks(group):
    add = group.add_argument
    add("--arch_sound", default="unet7", choices=("unet5", "unet6", "unet7"), help="sound network")
    add(
        "--arch_frame",
        default="resnet18dilated",
        choices=("resnet18fc", "resnet18dilated"),
        help="frame network",
    )
    add("--arch_synthesizer", default="linear", choices=("linear", "bias"), help="synthesizer")
    add("--weights_sound", default="", help="file of weights to start the sound network from")
    add("--weights_frame", default="", help="file of weights to start the frame network from")
    add("--weights_synthesizer", default="", help="file of weights to start the synthesizer from")
    add(
        "--pretrained",
        default="imagenet",
        metavar="imagenet|none|PATH",
        help="what the frame network's ResNet-18 starts from: torchvision's weights, none, or a state dict",
    )
    add("--num_channels", default=32, type=int, help="channels of image and sound features")
    add("--ngf", default=64, type=int, help="width of the U-Net's first level")
    add(
        "--init_sound",
        default="normal",
        choices=("normal", "kaiming"),
        help="first weights of the sound network: as published, or larger ones that learn faster",
    )
    add("--img_pool", default="maxpool", choices=("avgpool", "maxpool"), help="pooling of image features")
    add(
        "--img_norm",
        default="none",
        choices=("none", "batch"),
        help="normalisation of pooled image features; batch learns faster from scratch",
    )
    activations = ("sigmoid", "softmax", "relu", "tanh", "no")
    add("--img_activation", default="sigmoid", choices=activations, help="activation of image features")
    add("--sound_activation", default="no", choices=activations, help="activation of sound features")
    add("--output_activation", default="sigmoid", choices=activations, help="activation of masks")


def _add_masks(group):
    add = group.add_argument
    add("--binary_mask", default=1, type=int, choices=(0, 1), help="binary masks (1) or ratio masks (0)")
    add("--mask_thres", default=0.5, type=float, help="threshold of predicted binary masks in evaluation")
    add("--loss", default="bce", choices=("bce", "l1", "l2"), help="loss over masks; binary masks need bce")
    add("--weighted_loss", default=0, type=int, choices=(0, 1), help="weigh the loss by the mixture's energy")
    add("--log_freq", default=1, type=int, choices=(0, 1), help="log-frequency spectrograms")


def _add_sampling(group):
    add = group.add_argument
    add("--num_mix", default=2, type=int, help="clips in a mixture")
    add("--num_frames", default=1, type=int, help="pictures of a clip")
    add("--stride_frames", default=1, type=int, help="frames between two pictures of a clip")
    add("--frameRate", default=8, type=int, help="frames per second on disk")
    add("--imgSize", default=224, type=int, help="pixels of a picture's side")
    add("--audLen", default=65535, type=int, help="samples of sound in an example")
    add("--audRate", default=11025, type=int, help="samples per second")
    add("--stft_frame", default=1022, type=int, help="samples of an STFT window")
    add("--stft_hop", default=256, type=int, help="samples between STFT windows")


def _add_data(group):
    add = group.add_argument
    add("--list_train", default="data/train.csv", help="index file of training clips")
    add("--list_val", default="data/val.csv", help="index file of validation clips")
    add(
        "--list_val_mix",
        default="",
        help="mixture list, see create_index_files.py: evaluate these mixtures, not those of --list_val",
    )
    add(
        "--num_val",
        default=-1,
        type=int,
        help="mixtures to evaluate; -1: one for each validation clip, or all of --list_val_mix",
    )
    add(
        "--list_duets",
        default="",
        help="evaluation: measure separation and localisation on these videos too, a folder or a text file "
        "with a video a line; beside each lies <id>.json with the box and the track of every source, as "
        "dataset.demo writes it",
    )
    add(
        "--list_solos",
        default="",
        help="evaluation: localisation on these videos of one source, likewise, whose <id>.json has a box; "
        "of a folder only those in --list_val, if there is that file: the videos that training never saw",
    )
    add("--dup_trainset", default=100, type=int, help="rounds of the training list that make an epoch")
    pairs = ("category", "video", "original")
    add("--mix_pairs", default="category", choices=pairs, help="training: clips of a mixture differ in this")
    add("--val_pairs", default="category", choices=pairs, help="evaluation: likewise")


def _add_training(group):
    add = group.add_argument
    add("--num_epoch", default=100, type=int, help="epochs to train")
    add("--optimizer", default="sgd", choices=("sgd", "adamw"), help="optimiser")
    add("--lr_sound", default=1e-3, type=float, help="learning rate of the sound network")
    add("--lr_frame", default=1e-4, type=float, help="learning rate of the ResNet; its `fc` takes --lr_sound")
    add("--lr_synthesizer", default=1e-3, type=float, help="learning rate of the synthesizer")
    add("--lr_steps", default=[40, 60], nargs="*", type=int, help="epochs after which rates fall to a tenth")
    add("--beta1", default=0.9, type=float, help="momentum of SGD, first beta of AdamW")
    add("--weight_decay", default=1e-4, type=float, help="weight decay")
    add("--accumulate", default=1, type=int, help="batches whose gradients make one step of the optimiser")
    add(
        "--sync_bn",
        action="store_true",
        help="batch normalisation over the batches of all processes, not in each by itself; for torchrun",
    )


def _add_machine(group, gpus_present, processes_here):
    add = group.add_argument
    num_gpus = min(gpus_present, MAX_GPUS)
    add(
        "--num_gpus",
        default=num_gpus,
        type=int,
        help="GPUs to use, 0: CPU; what is there, at most 4; each process of torchrun has one",
    )
    add(
        "--batch_size_per_gpu",
        default=32,
        type=int,
        help="mixtures in a step on each GPU, or on the CPU in each process",
    )
    workers = max(1, min(MAX_WORKERS, os.cpu_count() or 1) // processes_here)
    add(
        "--workers",
        default=workers,
        type=int,
        help="processes that load data, for each that computes; 0: none but the main one",
    )
    add(
        "--amp",
        default="auto",
        choices=AMPS,
        help="precision of the networks: auto is bf16 on GPUs and CPUs that have it, else off, which is "
        "float32; fp16 needs a GPU",
    )
    add(
        "--compile",
        action="store_true",
        help="compile the networks (torch.compile): a minute at first, then faster steps on GPUs",
    )
    add(
        "--bss",
        default="fast",
        choices=("fast", "mir_eval"),
        help="who computes SDR, SIR and SAR: a batch at a time on the device, or, slowly, mir_eval itself",
    )


def parse_args(argv=None, gpus_present=0, processes=(1, 1)):
    """Parse and check `argv` (a list of str; None: the command line); nobody writes to the result.

    gpus_present, processes: what this process has and is part of, see `make_parser`. In evaluation, options
    of the networks that no flag gives come from the run's own options, where it has them. What cannot work
    ends the program with argparse's one-line error.
    """
    parser = make_parser(gpus_present, processes)
    args = parser.parse_args(argv)
    if args.mode == "eval":
        if not args.id:
            parser.error("--mode eval needs --id: the name of a folder in --ckpt")
        parser.set_defaults(**saved_options(run_folder(args)))
        args = parser.parse_args(argv)
    check_values(parser, args, gpus_present)
    check_together(parser, args)
    return args


def add_network_flags(parser):
    """Add the flags that say what networks are and what they take; those not given are not in the result."""
    group = parser.add_argument_group("networks", "only for checkpoints without options.json, of older code")
    for add_group in (_add_networks, _add_masks, _add_sampling):
        add_group(_Optional(group))


class _Optional:
    """A group of a parser, whose flags have no defaults."""

    def __init__(self, group):
        self._group = group

    def add_argument(self, *names, **options):
        """As a group's, without the default."""
        return self._group.add_argument(*names, **(options | {"default": argparse.SUPPRESS}))


def network_options(args, folder):
    """All options, for networks in `folder`: those of the run, and over them the flags in `args`.

    Raises UserError if the run's options cannot be read, or cannot work.
    """
    defaults = vars(make_parser().parse_args([]))
    options = argparse.Namespace(**(defaults | saved_options(folder) | vars(args)))
    check_no_weights(_Refusal, options, "networks are read from --ckpt")
    check_values(_Refusal, options, options.num_gpus)
    check_spectrogram(_Refusal, options)
    return options


class _Refusal:
    """Stands in for a parser where options are checked that are no command line."""

    @staticmethod
    def error(message):
        """Raise UserError."""
        raise UserError(message)
