"""Speed compared with older implementations: `python -m benchmark`.

Measures the input pipeline, the training step, evaluation and separation on generated data, alternating
with the same work done as in older code (`benchmark.reference`): only the ratios matter. Prints a table and
writes all figures to a file. Instead, `--scaling` measures how costs grow, and `--presets` what a training
step of each preset costs.
"""

import os

import environment  # noqa: F401

from arguments import AMPS
from utils import Parser, UserError, command, save_json

EXAMPLES = """
python -m benchmark
python -m benchmark --scaling --out scaling.json
python -m benchmark --presets
"""


def _parse(argv):
    text = "Compare the speed with that of older implementations."
    parser = Parser(EXAMPLES, prog="python -m benchmark", description=text)
    add = parser.add_argument
    add("--out", default="benchmark.json", metavar="FILE", help="file to write (%(default)s)")
    add("--quick", action="store_true", help="small networks, one round: to test the benchmark")
    instead = parser.add_mutually_exclusive_group().add_argument
    instead(
        "--scaling",
        action="store_true",
        help="measure instead how costs grow with batch, workers, clip length and index size",
    )
    instead(
        "--presets", action="store_true", help="measure instead what a training step of each preset costs"
    )
    add(
        "--amp",
        default="auto",
        choices=AMPS,
        help="the project's precision, see main.py --help (%(default)s)",
    )
    return parser.parse_args(argv)


def _check_out(path):
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise UserError(f"--out {path}: a folder, expected a file")
    if not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        raise UserError(f"--out {path}: no folder {folder}, or it is not writable")


@command
def main(argv=None):
    """The command."""
    args = _parse(argv)
    _check_out(args.out)

    # Here: they import torch, and --help and mistakes are to be answered at once.
    from benchmark.measure import FULL, QUICK, describe, measure, table
    from benchmark.presets import measure_presets, preset_lines
    from benchmark.scaling import measure_scaling, scaling_lines

    scale = QUICK if args.quick else FULL

    def save(result):
        save_json(args.out, describe(scale, args.amp) | result)

    if args.scaling:
        result = measure_scaling([*scale.flags, "--amp", args.amp], args.quick)
        save(result)
        lines = scaling_lines(result)
    elif args.presets:
        result = {"presets": measure_presets(args.amp, scale.preset_batch, scale.rounds, args.quick)}
        save(result)
        lines = preset_lines(result["presets"])
    else:
        lines = table(measure(scale, args.amp, save))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
