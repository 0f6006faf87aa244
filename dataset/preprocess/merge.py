"""The parts of `--shard i/n`: which videos belong to which, and their ledgers as one."""

import hashlib
import os
from collections import Counter, defaultdict

from dataset.index import find_videos, strip_suffixes
from dataset.ledger import Ledger, read_ledger
from utils import UserError, tag_of

COLUMNS = ("video", "state", "reason", "frames", "seconds")
DONE, FOUND, FAILED, MISSING = STATES = ("done", "found", "failed", "missing")  # the better ones first


def part_of(name, count):
    """The part, from 1 to `count`, that a video belongs to: by a hash of its id, so that machines agree."""
    video = os.path.basename(strip_suffixes(name))
    return int.from_bytes(hashlib.sha256(os.fsencode(video)).digest()[:8], "big") % count + 1


def ledger_path(out, shard=(1, 1)):
    """The ledger of a part (i, n), or of all videos."""
    return os.path.join(out, "-".join(filter(None, ["preprocess", tag_of(shard)])) + ".csv")


def merge(root, out, count):
    """Merge the ledgers of `count` parts in `out` into `preprocess.csv`, a row for each video under `root`.

    Videos that no part has done get the state "missing". Parts may be running. Returns ({state: number of
    videos}, {part: its missing videos}). Raises UserError if no part has a ledger.
    """
    parts = [read_ledger(ledger_path(out, (part, count)), COLUMNS) for part in range(1, count + 1)]
    if not any(parts):
        raise UserError(f"{ledger_path(out, (1, count))}: there is no ledger of any of {count} parts")
    states, missing = Counter(dict.fromkeys(STATES, 0)), defaultdict(list)
    with Ledger(ledger_path(out), COLUMNS) as ledger:
        for name in find_videos(root):
            part = part_of(name, count)
            nobody = dict.fromkeys(COLUMNS, "") | {"video": name, "state": MISSING, "reason": f"part {part}"}
            rows = [rows[name,] for rows in (parts[part - 1], ledger.rows) if (name,) in rows]
            row = min([*rows, nobody], key=lambda row: STATES.index(row["state"]))
            ledger.record(**row)
            states[row["state"]] += 1
            if row["state"] == MISSING:
                missing[part].append(name)
    return states, dict(sorted(missing.items()))
