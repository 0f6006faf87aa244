"""A page with all runs of a comparison beside each other on the same mixtures, to hear."""

import logging
import os
import shutil

import numpy as np
import soundfile

from engine.evaluation.compare.table import table_cells
from engine.evaluation.report import FOLDER_PAGE
from pages.comparison import write_page
from utils import UserError

logger = logging.getLogger(__name__)


def write_comparison(folder, entries, comparison):
    """Write index.html, with the sounds and pictures that it shows, to `folder`; returns the page's path.

    The mixtures are those that the evaluation pages of all runs have (--num_vis); of several seeds, the first
    is heard. entries: of `compare`, whose result is `comparison`. Raises UserError if `folder` is a run's.
    """
    for entry in entries:
        own = [entry.runs[0].folder, os.path.join(entry.runs[0].folder, FOLDER_PAGE)]
        if os.path.realpath(folder) in map(os.path.realpath, own):
            raise UserError(f"--page {folder}: a folder of the run {entry.name}, whose page it would replace")
    os.makedirs(folder, exist_ok=True)
    rows = []
    for key in comparison.shared.keys:
        mixtures = [comparison.shared.mixtures[entry.runs[0].folder][key] for entry in entries]
        if row := _copy_mixture(folder, entries, mixtures):
            rows.append(row)
    if not rows:
        logger.warning("no mixture is on the evaluation pages of all runs: evaluate them with --num_vis")
    names = [entry.name for entry in entries]
    write_page(folder, names, table_cells(comparison), comparison.notes, rows)
    return os.path.join(folder, "index.html")


def _copy_mixture(folder, entries, mixtures):
    """Copy the media of one mixture, one of each entry; returns its row, or None if a file is missing."""
    pages = [
        os.path.join(entry.runs[0].folder, FOLDER_PAGE, f"{mixture.index:04d}")
        for entry, mixture in zip(entries, mixtures, strict=True)
    ]
    name, clips = f"{mixtures[0].index:04d}", mixtures[0].clips
    copies = {}  # {name in `folder`: file}

    def heard(page, stem, copy):
        for end in (".mp3", ".webp"):
            copies[f"{name}/{copy}{end}"] = os.path.join(page, stem + end)
        return {"sound": f"{name}/{copy}.mp3", "picture": f"{name}/{copy}.webp"}

    row = {"name": name, "mixture": heard(pages[0], "mixture", "mixture"), "sources": []}
    for n, (category, clip) in enumerate(clips):
        stem = f"source{n + 1}"
        heard_runs = [heard(page, f"{stem}-predicted", f"{stem}-run{k}") for k, page in enumerate(pages, 1)]
        copies[f"{name}/{stem}.jpg"] = os.path.join(pages[0], f"{stem}-still.jpg")
        row["sources"].append(
            {
                "category": category or clip,
                "clip": clip,
                "still": f"{name}/{stem}.jpg",
                "true": heard(pages[0], f"{stem}-true", f"{stem}-true"),
                "runs": heard_runs,
                "scores": [float(mixture.scores["sdr"][n]) for mixture in mixtures],
            }
        )
    if not all(map(os.path.isfile, copies.values())):
        return None
    os.makedirs(os.path.join(folder, name), exist_ok=True)
    for copy, path in copies.items():
        shutil.copyfile(path, os.path.join(folder, copy))
    row["seconds"] = round(soundfile.info(os.path.join(folder, row["mixture"]["sound"])).duration, 4)
    row["scores"] = [float(np.mean(mixture.scores["sdr"])) for mixture in mixtures]
    return row
