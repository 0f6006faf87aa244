"""Read the evaluations of runs, and find the mixtures that all of them have."""

import csv
import json
import os
from collections import Counter
from typing import NamedTuple

import numpy as np

from engine.runs import find_named, title
from utils import UserError

FILE_METRICS = "metrics.csv"
FILE_PROTOCOL = "protocol.json"
COLUMNS = "mixture", "clip", "category", "status", "sdr"  # those that are needed


class Mixture(NamedTuple):
    """One mixture of N sources, as a run scored it."""

    index: int  # in its list
    clips: list  # N of (category, name)
    scores: dict  # {score: [N] dB}; empty: not scored


class Run(NamedTuple):
    """The evaluation of one run."""

    folder: str
    mixtures: list  # of Mixture
    ids: dict | None  # {index: checksum of the mixture's sounds}; None: the run has no protocol.json


class Entry(NamedTuple):
    """One line of a comparison: a run, or several that differ in their seed."""

    name: str
    runs: list  # of Run


def find_entries(texts, root):
    """A list of Entry of texts [NAME=]RUN[,RUN…].

    RUN: a folder with metrics.csv, or the start of a name in the folder `root`.
    Raises UserError if a run cannot be found or read.
    """
    entries = [_find_entry(text, root) for text in texts]
    counts = Counter(entry.name for entry in entries)
    return [entry if counts[entry.name] == 1 else entry._replace(name=_folders(entry)) for entry in entries]


def _folders(entry):
    return " + ".join(os.path.normpath(run.folder) for run in entry.runs)


def _find_entry(text, root):
    name, texts = "", [text]
    if not os.path.isdir(text):
        name, _, rest = text.rpartition("=")
        texts = rest.split(",")
    found = [each if os.path.isdir(each) else os.path.join(root, find_named(root, each)) for each in texts]
    runs = [read_run(folder) for folder in found]
    return Entry(name or " + ".join(title(run.folder) for run in runs), runs)


def read_run(folder):
    """The Run whose metrics.csv is in `folder`. Raises UserError if there is none or it cannot be read."""
    path = os.path.join(folder, FILE_METRICS)
    if not os.path.isfile(path):
        raise UserError(f"{folder}: no {FILE_METRICS}: evaluate it first (main.py --mode eval --id ID)")
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{path}: no column {', '.join(missing)}: expected what evaluation writes")
        rows = list(reader)
    keys = [key for key in reader.fieldnames if key not in ("source", "loss", *COLUMNS[:-1])]
    mixtures = {}
    for number, row in enumerate(rows, 2):
        try:
            source = row["category"], row["clip"], row["status"], [_decibels(row[key]) for key in keys]
            mixtures.setdefault(int(row["mixture"]), []).append(source)
        except (TypeError, ValueError):
            raise UserError(f"{path}, line {number}: expected what evaluation writes, found {row}") from None
    found = [_make_mixture(index, sources, keys) for index, sources in sorted(mixtures.items())]
    return Run(folder, found, _read_ids(folder))


def _decibels(text):
    return float(text if text != "" else "nan")  # None, where a row ends early, is a TypeError


def _make_mixture(index, sources, keys):
    """A Mixture of rows (category, clip, status, values of `keys`)."""
    is_scored = all(status == "scored" for _, _, status, _ in sources)
    values = np.array([values for *_, values in sources]).T
    scores = dict(zip(keys, values, strict=True)) if is_scored else {}
    return Mixture(index, [(category, clip) for category, clip, *_ in sources], scores)


def _read_ids(folder):
    path = os.path.join(folder, FILE_PROTOCOL)
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return {index: mixture["id"] for index, mixture in enumerate(json.load(file)["mixtures"])}
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path}: expected the protocol of an evaluation") from None


class Shared(NamedTuple):
    """The mixtures that all runs of some entries have scored."""

    keys: list  # K that name the mixtures, in the order of the first run
    mixtures: dict  # {folder of a run: {key: Mixture}}
    how: str  # in words: how mixtures were recognised


def find_shared(entries):
    """The mixtures that all runs have scored: equal checksums, or equal clips if a run has no protocol.

    Raises UserError if there are none.
    """
    runs = [run for entry in entries for run in entry.runs]
    without = [run.folder for run in runs if run.ids is None]
    how = "with the same sounds"
    if without:
        how = f"with the same clips ({without[0]} has no {FILE_PROTOCOL} to tell whether sounds are the same)"
    mixtures = {run.folder: _by_key(run, not without) for run in runs}
    keys = [key for key in mixtures[runs[0].folder] if all(key in each for each in mixtures.values())]
    if not keys:
        names = ", ".join(entry.name for entry in entries)
        raise UserError(f"{names}: no scored mixtures in common ({how}): evaluate them on the same list")
    return Shared(keys, mixtures, how)


def _by_key(run, by_id):
    """{key: scored Mixture}; a mixture that is in a list several times has as many keys."""
    counts, found = Counter(), {}
    for mixture in run.mixtures:
        what = run.ids.get(mixture.index) if by_id else tuple(name for _, name in mixture.clips)
        if mixture.scores and what is not None:
            found[what, counts[what]] = mixture
            counts[what] += 1
    return found
