"""Compare runs on the mixtures that all of them have: `python -m engine.evaluation.compare RUN RUN…`."""

import environment  # noqa: F401

from utils import Parser, command, replacing, set_up_logging

EXAMPLES = """
python -m engine.evaluation.compare demo demo-2 --page out/comparison
python -m engine.evaluation.compare ckpt/a ours=seed1,seed2,seed3 --format markdown --out table.md
"""
FORMATS = "text", "markdown", "latex"


def _parse(argv):
    text = "Scores of runs, and paired differences to the first, on the mixtures that all runs have."
    parser = Parser(EXAMPLES, prog="python -m engine.evaluation.compare", description=text)
    add = parser.add_argument
    text = (
        "folder with metrics.csv, or the start of a name in --ckpt; runs joined by commas, of several seeds, "
        "are pooled; NAME=RUN sets the name in the table"
    )
    add("runs", nargs="+", metavar="RUN", help=text)
    add("--ckpt", default="./ckpt", metavar="FOLDER", help="folder of runs (%(default)s)")
    add("--format", choices=FORMATS, default="text", help="of the table (%(default)s)")
    add("--out", metavar="FILE", help="write the table there (default: print it)")
    add("--page", metavar="DIR", help="also write a page there, to hear the runs beside each other")
    return parser.parse_args(argv)


@command
def main(argv=None):
    """The command."""
    args = _parse(argv)
    set_up_logging()
    # Here, so that --help and mistakes are answered without numpy.
    from engine.evaluation.compare.listen import write_comparison
    from engine.evaluation.compare.read import find_entries
    from engine.evaluation.compare.table import compare, format_table, table_cells

    entries = find_entries(args.runs, args.ckpt)
    comparison = compare(entries)
    text = format_table(table_cells(comparison), comparison.notes, args.format)
    if args.out:
        with replacing(args.out) as path, open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    else:
        print(text, end="")
    if args.page:
        print(f"page: {write_comparison(args.page, entries, comparison)}")


if __name__ == "__main__":
    main()
