"""Mixture lists of any length, as `dataset.indexing.table` does it for index files.

The different clips of a list become an index file, and the mixtures an array of their numbers, both in the
folder `<mixture list>.columns`.
"""

import os
from array import array
from collections.abc import Sequence

import numpy as np

from dataset.index import iterate_rows, parse_clips, size_of_mixtures, write_index
from dataset.indexing.table import SUFFIX, ClipTable, is_stamped, replacing_folder, stamp_of, write_stamp
from utils import UserError

FILE_CLIPS, FILE_NUMBERS = "clips.csv", "mixtures.npy"


class MixtureTable(Sequence):
    """The mixtures of a list as tuples of N clip numbers; `clips` has the clips, each once.

    path: the mixture list. Raises UserError, naming file and line, if a row is not N clips, N being that of
    the first row.
    """

    def __init__(self, path):
        self.path = path
        folder, stamp = path + SUFFIX, stamp_of(path)
        if not self._open(folder, stamp):
            _build(path, folder, stamp)
            self._open(folder, stamp)

    def _open(self, folder, stamp):
        """Whether the folder has the clips and mixtures of the list."""
        try:
            self._numbers = np.asarray(np.load(os.path.join(folder, FILE_NUMBERS), mmap_mode="r"))
            self.clips = ClipTable(os.path.join(folder, FILE_CLIPS))
        except (OSError, ValueError, UserError):
            return False
        whole = self._numbers.ndim == 2 and self._numbers.max() == len(self.clips) - 1
        return whole and is_stamped(folder, stamp)

    def __len__(self):
        return len(self._numbers)

    def __getitem__(self, index):
        rows = self._numbers[index].tolist()
        return [tuple(row) for row in rows] if isinstance(index, slice) else tuple(rows)

    def __getstate__(self):
        return {"path": self.path}

    def __setstate__(self, state):
        self.__init__(state["path"])


def _build(path, folder, stamp):
    """Write the clips and mixtures of a list; several processes may do it at the same time."""
    numbers, known, num_mix = array("i"), {}, 0
    for where, row in iterate_rows(path, "mixture list"):
        num_mix = num_mix or size_of_mixtures(row)
        numbers.extend(known.setdefault(clip, len(known)) for clip in parse_clips(where, row, num_mix))
    with replacing_folder(folder, path) as temporary:
        np.save(os.path.join(temporary, FILE_NUMBERS), np.array(numbers, np.int32).reshape(-1, num_mix))
        write_index(os.path.join(temporary, FILE_CLIPS), known)
        write_stamp(temporary, stamp)
