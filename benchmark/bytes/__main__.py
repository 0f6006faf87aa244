"""How small clips can be with the same scores: `python -m benchmark.bytes`.

Encodes the clips of an index file in several ways, evaluates a trained run on each, and prints a table of
bytes, processor time to decode, and SDR. Call it in the project's folder.
"""

import tempfile

import environment  # noqa: F401

from benchmark.bytes import VARIANTS, measure, table
from utils import Parser, command, set_up_logging

EXAMPLES = """
python -m benchmark.bytes
python -m benchmark.bytes --run ckpt/mine --list_val data/val.csv
"""


def _parse(argv):
    text = "Compare encodings of clips: bytes, decoding time and scores."
    parser = Parser(EXAMPLES, prog="python -m benchmark.bytes", description=text)
    parser.add_argument("--run", default="ckpt/demo", help="folder of a trained run (%(default)s)")
    parser.add_argument(
        "--list_val", default="data/demo/val.csv", help="index file of the clips (%(default)s)"
    )
    return parser.parse_args(argv)


@command
def main(argv=None):
    """The command."""
    args = _parse(argv)
    set_up_logging()
    with tempfile.TemporaryDirectory() as work:
        print(table(measure(VARIANTS, args.list_val, args.run, work)))


if __name__ == "__main__":
    main()
