"""`python -m engine.tables`: train, evaluate and write the tables; see scripts/reproduce_tables.sh."""

import os
import sys

import environment  # noqa: F401

from engine.tables.rows import VARIANTS
from engine.tables.steps import Plan, list_steps, run_steps, write_lists
from utils import Parser, command

EXAMPLES = """
python -m engine.tables --list_train data/train.csv --list_val data/val.csv
python -m engine.tables --list_train data/train.csv --list_val data/val.csv --seeds 1234 1 2 -- --num_epoch 20
"""


def make_parser():
    """The parser of the command's flags."""
    text = "Train and evaluate what the paper compares, and today's networks, and write the tables."
    parser = Parser(EXAMPLES, show_defaults=True, description=text)
    parser.add_argument("--list_train", default="data/demo/train.csv", help="index file of training clips")
    parser.add_argument("--list_val", default="data/demo/val.csv", help="index file of validation clips")
    parser.add_argument("--ckpt", default="ckpt/tables", help="folder of all runs and baselines")
    parser.add_argument("--out", default="ckpt/tables/tables.md", help="the tables")
    parser.add_argument("--seeds", default=[1234], type=int, nargs="+", help="seeds, pooled in the tables")
    parser.add_argument("--num_val", default=128, type=int, help="mixtures that are scored")
    parser.add_argument("--only", nargs="+", choices=tuple(VARIANTS), help="only run these, write no tables")
    parser.add_argument("extra", nargs="*", metavar="FLAG", help="flags of main.py for all runs, after --")
    return parser


@command
def main(argv=None):
    """The command."""
    args = make_parser().parse_args(argv)
    os.makedirs(args.ckpt, exist_ok=True)
    plan = Plan(args.list_train, args.list_val, args.ckpt, tuple(args.seeds), args.num_val, tuple(args.extra))
    write_lists(plan)
    steps = list_steps(plan)
    if args.only:
        steps = [step for step in steps if set(step.name.split()) & set(args.only)]
    seconds = run_steps(plan, steps)
    if not args.only:
        from engine.tables.write import write_tables  # here: it imports numpy, and --help is quick

        write_tables(args.out, plan, seconds, sys.argv[1:] if argv is None else argv)
        print(f"tables: {args.out}")


if __name__ == "__main__":
    main()
