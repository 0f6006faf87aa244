"""Make the demo data set: `python -m dataset.demo --out data/demo`.

<out>/videos/<category>/<id>.mp4, .json                  single instruments, in the layout of MUSIC
<out>/duets/<category> <category>/<id>.mp4, .json, .a.wav, .b.wav      two, with the true sound of each
<out>/demo.json                                          the settings
"""

import concurrent.futures
import itertools
import json
import multiprocessing
import os
import signal
import time

import environment  # noqa: F401

from utils import Parser, UserError, command, progress, save_json, set_up_logging, whole

EXAMPLES = """
python -m dataset.demo
python -m dataset.demo --out data/tiny --clips_per_category 8 --num_duets 3
"""
GENERATOR = 1  # version; raise it when the same seed gives other clips
SECONDS_LOW, SECONDS_HIGH = 8, 600
NUM_HIGH = 10000
LEAVE_INTERRUPTS = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is left to the parent
SETTINGS = ("seed", "clips_per_category", "num_duets", "seconds")


def make_parser():
    """The command's options."""
    parser = Parser(EXAMPLES, prog="python -m dataset.demo", description="Generate videos of instruments.")
    parser.add_argument("--out", default="data/demo", help="folder to write (default: %(default)s)")
    parser.add_argument("--seed", type=whole(0, 2**32 - 1), default=0, help="random seed of the set (0)")
    parser.add_argument(
        "--jobs", type=whole(1, 256), default=os.cpu_count() or 1, help="clips made in parallel (all cores)"
    )
    parser.add_argument(
        "--clips_per_category", type=whole(1, NUM_HIGH), default=72, help="solo clips per instrument (72)"
    )
    parser.add_argument(
        "--num_duets", type=whole(0, NUM_HIGH), default=12, help="duets, spread over all pairs (12)"
    )
    parser.add_argument(
        "--seconds", type=whole(SECONDS_LOW, SECONDS_HIGH), default=8, help="whole seconds per clip (8)"
    )
    return parser


def pairs_of(categories):
    """All pairs, in rounds where every category occurs once, so that the first pairs are spread evenly.

    Source: the circle method for tournaments; for an even number of categories.
    """
    first, *rest = categories
    rounds = []
    for turn in range(len(rest)):
        ring = [first, *rest[turn:], *rest[:turn]]
        rounds += [tuple(sorted((ring[i], ring[-1 - i]))) for i in range(len(ring) // 2)]
    return rounds


def plan(args):
    """The tasks of a set: the solos of every category, then the duets."""
    from dataset.demo.clip import Task  # here, so that --help and mistakes are answered at once
    from dataset.demo.score import INSTRUMENTS

    solos = itertools.product(INSTRUMENTS, range(args.clips_per_category))
    tasks = [Task(args.out, (category,), number, args.seed, args.seconds) for category, number in solos]
    pairs = pairs_of(list(INSTRUMENTS))
    for number in range(args.num_duets):
        pair = pairs[number % len(pairs)]
        tasks.append(Task(args.out, pair, number // len(pairs), args.seed, args.seconds))
    return tasks


def check_settings(args):
    """Save the settings in the folder. Raises UserError if it holds a set made with other settings."""
    path = os.path.join(args.out, "demo.json")
    settings = {"generator": GENERATOR, **{name: getattr(args, name) for name in SETTINGS}}
    try:
        found = _read_settings(path)
        if found is None:
            save_json(path, settings)
            return
    except OSError as error:
        raise UserError(f"{args.out}: cannot be written: {error.strerror}") from None
    changes = [f"{k} {found.get(k)} instead of {v}" for k, v in settings.items() if found.get(k) != v]
    if changes:
        message = f"{args.out} holds a set made with {'; '.join(changes)}"
        raise UserError(f"{message}: delete that folder or choose another --out")


def _read_settings(path):
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: expected the settings of a demo set, found no JSON: {error}") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected the settings of a demo set, found {settings!r}")
    return settings


def make_all(tasks, jobs):
    """Make clips, `jobs` in parallel."""
    if not tasks:
        return
    context = multiprocessing.get_context("spawn")  # works alike on every system
    with concurrent.futures.ProcessPoolExecutor(
        min(jobs, len(tasks)), context, signal.signal, LEAVE_INTERRUPTS
    ) as pool:
        made = [pool.submit(task.make) for task in tasks]
        try:
            for future in progress(
                concurrent.futures.as_completed(made), total=len(made), desc="clips", unit="clip"
            ):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@command
def main(argv=None):
    """Make the missing clips of the set, and print what was made."""
    args = make_parser().parse_args(argv)
    set_up_logging()
    start = time.monotonic()
    check_settings(args)
    tasks = plan(args)
    todo = [task for task in tasks if not all(map(os.path.exists, task.paths))]
    make_all(todo, args.jobs)
    size = sum(os.path.getsize(path) for task in tasks for path in task.paths) / 1e6
    num_duets = sum(task.is_duet for task in tasks)
    num_instruments = len({task.categories for task in tasks if not task.is_duet})
    content = f"{len(tasks) - num_duets} clips of {num_instruments} instruments and {num_duets} duets"
    work = f"{len(todo)} made now in {time.monotonic() - start:.0f} s"
    print(f"{args.out}: {content}, {size:.0f} MB; {work}")


if __name__ == "__main__":
    main()
