"""The model card of a run, ckpt/<id>/README.md: what its best networks were trained on, and their scores."""

import contextlib
import os
import platform
import shlex
import subprocess
import time
from importlib import metadata
from typing import NamedTuple

from dataset.indexing.table import Tally
from utils import replacing

FILE_CARD = "README.md"
PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGES = ("torch", "torchvision", "timm")  # whose versions may matter to someone who repeats the run
NUM_NAMED = 30  # categories in the first sentence
SCORES = "## Scores"  # the section that evaluation replaces
NAMES = {  # rows of the table of scores
    "sdr_mixture": "SDR of the unprocessed mixture",
    "sdr": "**SDR**",
    "sir": "SIR",
    "sar": "SAR",
    "si_sdr": "SI-SDR",
    "sdr_swapped": "SDR with the sources' frames swapped",
    "sdr_average": "SDR with the average picture for every source",
    "sdr_oracle": "SDR with the true masks",
}


class Card(NamedTuple):
    """What the card of a run says besides its scores."""

    folder: str  # of the run
    options: dict  # those that the run must keep
    preset: str | None
    changed: dict  # {option: value} that differ from the preset, or from the defaults without one
    train: Tally  # of the clips
    val: Tally
    version: str  # of the code


def code_version():
    """The git commit of the code, `-dirty` if files have changed since; "" if the project is not a clone."""
    git = ["git", "-C", PROJECT]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        options = {"check": True, "capture_output": True, "text": True}
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], **options).stdout.strip()
        if os.path.realpath(top) == os.path.realpath(PROJECT):  # not of a repository around the project
            return subprocess.run([*git, "describe", "--always", "--dirty"], **options).stdout.strip()
    return ""


def write_card(card, epoch, summary, path_val):
    """Write the card of the networks of `epoch`, with the scores `summary` of their evaluation on a list."""
    parts = [
        f"# {os.path.basename(os.path.abspath(card.folder))}",
        _lead(card),
        f"    ./scripts/separate.sh VIDEO --ckpt {shlex.quote(os.path.normpath(card.folder))}",
        *_scores(summary, path_val),
        *_data(card),
        *_training(card, epoch),
    ]
    _write(card.folder, parts)


def update_scores(folder, summary, path_val):
    """Replace the scores in the card of the run in `folder`, if it has one with scores."""
    parts = _read(folder)
    if SCORES not in parts:
        return
    first = parts.index(SCORES)
    rest = [n for n in range(first + 1, len(parts)) if parts[n].startswith("## ")]
    last = rest[0] if rest else len(parts)
    _write(folder, [*parts[:first], *_scores(summary, path_val), *parts[last:]])


def card_summary(folder):
    """The first paragraph of the card in a run's folder, as one line of text; "" if there is no card."""
    paragraphs = [part for part in _read(folder) if not part.startswith("#")]
    return " ".join(paragraphs[0].split()) if paragraphs else ""


def _lead(card):
    names = sorted(card.train.categories)
    text = ", ".join(names[:NUM_NAMED])
    if len(names) > NUM_NAMED:
        text += f" and {len(names) - NUM_NAMED} more categories"
    return (
        f"Trained on {card.train.categories.total()} clips ({_hours(card.train, card)}): {text}. "
        "The networks have heard only these: expect worse separation of any other kind of sound or picture."
    )


def _hours(clips, card):
    minutes = clips.num_frames / card.options["frameRate"] / 60
    return f"{minutes:.1f} minutes" if minutes < 60 else f"{minutes / 60:.1f} hours"


def _scores(summary, path_val):
    rows = ["| mean | dB |", "| --- | --- |"]
    rows += [
        f"| {name} | {summary[key]:.2f} |" for key, name in NAMES.items() if summary.get(key) is not None
    ]
    count = summary["num_mixtures"] - summary["num_failed"] - summary["num_silent"]
    date = time.strftime("%Y-%m-%d")
    gone = summary.get("num_gone")
    of = f" of {summary['num_mixtures'] + gone}, {gone} of them with clips that are gone" if gone else ""
    text = f"Mixtures of clips in `{path_val}`, evaluated on {date}: {count} scored{of}."
    if len(rows) == 2:
        return [SCORES, text]
    return [SCORES, text, "\n".join(rows)]


def _data(card):
    train, val = card.train.categories, card.val.categories
    rows = ["| category | training clips | validation clips |", "| --- | --- | --- |"]
    for name in sorted(train | val):
        rows.append(f"| {name.replace('|', chr(92) + '|')} | {train[name]} | {val[name]} |")
    rows.append(f"| total | {train.total()} | {val.total()} |")
    rows.append(f"| length | {_hours(card.train, card)} | {_hours(card.val, card)} |")
    lists = f"Training clips: `{card.options['list_train']}`; validation clips: " + (
        f"`{card.options.get('list_val_mix') or card.options['list_val']}`."
    )
    return ["## Data", lists, "\n".join(rows)]


def _training(card, epoch):
    base = f"`--preset {card.preset}`" if card.preset else "the defaults of `main.py`"
    changed = [f"* `--{key}`: {value}" for key, value in sorted(card.changed.items())]
    differ = f"Options that differ from {base} (`options.json` has all options):"
    code = f"commit {card.version}" if card.version else "not a git clone"
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return [
        "## Training",
        f"The best networks so far, by validation loss, are those of epoch {epoch} of "
        f"{card.options['num_epoch']}, with {card.options['batch_size']} mixtures per step, made on "
        f"{time.strftime('%Y-%m-%d')}.",
        *([differ, "\n".join(changed)] if changed else [f"All options are those of {base}."]),
        f"Code: {code}; {', '.join(found)}.",
    ]


def _read(folder):
    """The paragraphs of a card; [] if there is none."""
    try:
        with open(os.path.join(folder, FILE_CARD), encoding="utf-8", errors="replace") as file:
            return [part for part in file.read().strip().split("\n\n") if part]
    except FileNotFoundError:
        return []


def _write(folder, parts):
    # Names of categories may have bytes that are not UTF-8.
    with (
        replacing(os.path.join(folder, FILE_CARD)) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        file.write("\n\n".join(parts) + "\n")
