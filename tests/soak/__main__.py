"""Run the soak test and print what was counted: `./scripts/soak.sh`, or `--short` for one of a minute."""

import argparse
import os
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes on two cores

from tests.soak import flat, kills, mutations

# kills and terms: for each number of processes
FULL = {"processes": (1, 2), "epochs": 6, "kills": 10, "terms": 3, "media": 3000, "steps": 2000}
SHORT = {"processes": (2,), "epochs": 2, "kills": 1, "terms": 1, "media": 90, "steps": 150}


def main(argv=None):
    """Return the number of parts that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a form of a minute")
    parser.add_argument("--seed", default=int(time.time()), type=int, help="of all that is drawn")
    args = parser.parse_args(argv)
    size = SHORT if args.short else FULL
    print(f"seed {args.seed}, {os.cpu_count()} cores", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for part in (kills, flat, mutations):
            began = time.monotonic()
            lines, problems = part.soak(folder, size, args.seed)
            for line in [*lines, *(f"FAILED: {problem}" for problem in problems)]:
                print(line, flush=True)
            print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
            failed += bool(problems)
    print("failed" if failed else "passed", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
