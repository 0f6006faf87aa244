"""Separation without training, scored as a run is: `python -m engine.baselines NAME… --list_val FILE`.

Writes ckpt/baselines/<name of the list, or --id>/<NAME>/: metrics.json, metrics.csv and visualization/, as
`main.py --mode eval` does. What is there already for the same clips and options is not computed again.
"""

import argparse
import os

import environment  # noqa: F401

import arguments
from engine.baselines.methods import TITLES
from engine.options import check_length, check_values
from engine.presets import PRESETS
from utils import Parser, command, set_up_logging

EXAMPLES = """
python -m engine.baselines nmf oracle-phase-log --preset small --list_val data/demo/val.csv
python -m engine.baselines --preset published --list_val_mix data/val_mix2.csv
"""
# Flags of main.py that say what is evaluated, on what, and where to.
FLAGS = (
    "preset ckpt seed num_vis num_mix audLen audRate list_train list_val list_val_mix num_val val_pairs "
    "workers bss"
).split()
NUM_VIS = 10


def make_parser():
    """The command's flags: those of main.py that matter here."""
    names = ", ".join(TITLES)
    text = "Score separation without training on the clips of index files, as main.py scores a run."
    parser = Parser(EXAMPLES, show_defaults=True, prog="python -m engine.baselines", description=text)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{names}; without any: all")
    parser.add_argument(
        "--id", default="", help="folder for the results in CKPT/baselines; without it, the list's name"
    )
    group = parser.add_argument_group("flags of main.py")
    for action in arguments.make_parser()._actions:
        if action.dest in FLAGS:
            group._add_action(action)
    parser.set_defaults(num_vis=NUM_VIS)
    return parser


def parse(argv=None):
    """Parse and check `argv`: the names, and values for all flags of main.py."""
    parser = make_parser()
    preset = PRESETS.get(parser.parse_args(argv).preset, {})
    parser.set_defaults(**{key: value for key, value in preset.items() if key in FLAGS})
    args = parser.parse_args(argv)
    others = vars(arguments.make_parser().parse_args([])) | preset
    args = argparse.Namespace(**(others | vars(args) | {"mode": "eval"}))
    check_values(parser, args, gpus_present=0)
    check_length(parser, args)
    unknown = [name for name in args.names if name not in TITLES]
    if unknown:
        parser.error(f"unknown baseline {unknown[0]}: choose from {', '.join(TITLES)}")
    if args.num_mix > 2 and "hpss" in args.names:
        parser.error(f"hpss gives two sounds: it needs --num_mix 2, found {args.num_mix}")
    args.names = list(dict.fromkeys(args.names)) or [
        name for name in TITLES if name != "hpss" or args.num_mix == 2
    ]
    return args


@command
def main(argv=None):
    """The command."""
    args = parse(argv)
    set_up_logging()

    from engine.baselines.run import evaluate_baselines  # here: it imports torch

    for name, folder, summary, is_new in evaluate_baselines(args.names, args):
        scores = ", ".join(
            f"{key.upper().replace('_', '-')} {'none' if summary[key] is None else f'{summary[key]:.2f}'}"
            for key in ("sdr", "sir", "sar", "si_sdr")
        )
        kept = "" if is_new else "; computed before, nothing to do"
        page = os.path.join(folder, "visualization", "index.html")
        print(f"{name}: {scores} dB ({summary['num_mixtures']} mixtures){kept}: {page}", flush=True)


if __name__ == "__main__":
    main()
