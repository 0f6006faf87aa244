"""How small clips can be with the same scores, and how fast shards are: `python -m benchmark.shards`.

Encodes the clips of an index file in several ways, evaluates a trained run on each, and prints a table of
bytes, processor time to decode, and SDR. Call it in the project's folder. Instead, --reading compares the
speed of folders and shards of generated clips.
"""

import os
import tempfile

import environment  # noqa: F401

from benchmark.shards import encodings, reading
from utils import Parser, UserError, command, set_up_logging

EXAMPLES = """
python -m benchmark.shards
python -m benchmark.shards --run ckpt/mine --list_val data/val.csv
python -m benchmark.shards --reading 2000
"""


def _parse(argv):
    text = "Compare encodings of clips, or shards with folders."
    parser = Parser(EXAMPLES, prog="python -m benchmark.shards", description=text)
    add = parser.add_argument
    add("--run", default="ckpt/demo", help="folder of a trained run (%(default)s)")
    add("--list_val", default="data/demo/val.csv", help="index file of the clips (%(default)s)")
    add("--reading", type=int, metavar="N", help="instead: read N generated clips, which take 1 MB each")
    add("--work", help="folder for temporary files (the system's)")
    return parser.parse_args(argv)


@command
def main(argv=None):
    """The command."""
    args = _parse(argv)
    set_up_logging()
    least = reading.ROUNDS * reading.ITEMS
    if args.reading is not None and args.reading < least:
        raise UserError(f"--reading {args.reading}: expected at least {least} clips")
    if args.reading is None and not os.path.isfile(os.path.join(args.run, "options.json")):
        raise UserError(f"--run {args.run}: expected the folder of a trained run, found no options.json")
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        if args.reading:
            print("\n".join(reading.measure(args.reading, work)))
        else:
            print(encodings.table(encodings.measure(encodings.VARIANTS, args.list_val, args.run, work)))


if __name__ == "__main__":
    main()
