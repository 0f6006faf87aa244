"""Mixture lists of any length, as `dataset.indexing.table` does it for index files.

The different clips of a list become an index file, and the mixtures an array of their numbers, see
`dataset.indexing.columns`.
"""

import os
from array import array
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from dataset.index import ERRORS, NUM_COLUMNS, iterate_rows, parse_clips, read_rows, size_of_mixtures
from dataset.indexing.columns import open_columns
from dataset.indexing.table import ClipTable, write_table
from utils import UserError

FOLDER_CLIPS, FILE_NUMBERS = "clips", "mixtures.npy"


class MixtureTable(Sequence):
    """The mixtures of a list as tuples of N clip numbers; `clips` has the clips, each once.

    path: the mixture list. Raises UserError, naming file and line, if a row is not N clips, N being that of
    the first row.
    """

    def __init__(self, path):
        self.path = path
        self.clips, self._numbers = open_columns(
            path, lambda folder: _load(path, folder), lambda folder: _build(path, folder)
        )

    def __len__(self):
        return len(self._numbers)

    def __getitem__(self, index):
        rows = self._numbers[index].tolist()
        return [tuple(row) for row in rows] if isinstance(index, slice) else tuple(rows)

    def __getstate__(self):
        return {"path": self.path}

    def __setstate__(self, state):
        self.__init__(state["path"])


def _load(path, folder):
    """(clips, their numbers in the mixtures [mixtures, N]); None if they are missing or damaged."""
    try:
        numbers = np.asarray(np.load(os.path.join(folder, FILE_NUMBERS), mmap_mode="r"))
        clips = ClipTable(path, os.path.join(folder, FOLDER_CLIPS))
        return (clips, numbers) if numbers.ndim == 2 and numbers.max() == len(clips) - 1 else None
    except (OSError, ValueError, EOFError, UserError):
        return None


def _build(path, folder):
    num_mix = size_of_mixtures(read_rows(path, "mixture list", most=1)[0][1])
    numbers = array("i")
    write_table(os.path.join(folder, FOLDER_CLIPS), _new_clips(path, num_mix, numbers))
    np.save(os.path.join(folder, FILE_NUMBERS), np.array(numbers, np.int32).reshape(-1, num_mix))


def _new_clips(path, num_mix, numbers):
    """Yield each clip of a mixture list when it first appears; add the numbers of all places to `numbers`."""
    known = {}  # {digest of columns: number}: half the memory of the columns, and faster
    for where, row in iterate_rows(path, "mixture list"):
        if len(row) != num_mix * NUM_COLUMNS:
            parse_clips(where, row, num_mix)  # raises the error
        for start in range(0, len(row), NUM_COLUMNS):
            columns = row[start : start + NUM_COLUMNS]
            key = blake2b("\0".join(columns).encode("utf-8", ERRORS), digest_size=16).digest()
            if key not in known:  # only new ones need parsing
                yield parse_clips(where, columns, 1)[0]
                known[key] = len(known)
            numbers.append(known[key])
