"""Index files of any length: a copy of the rows, and numpy arrays that say where they are.

`open_index` builds these once, see `dataset.indexing.columns`. They are memory-mapped, so that all loader
processes share them. The file itself may change while a training reads the copy.
"""

import csv
import hashlib
import io
import mmap
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dataset.index import ERRORS, parse_clips, parse_rows, read_index, video_of
from dataset.indexing.columns import open_columns
from dataset.indexing.labels import beside, read_labels
from dataset.indexing.partners import LabelSets, SetBuilder
from utils import UserError

MANY = 100_000  # rows from which on an index file is opened as a table
COLUMNS = {"starts": np.int64, "num_frames": np.int32, "categories": np.int32, "videos": np.int32}
SETS = {"label_starts": np.int64, "label_values": np.int32}  # see `LabelSets`; NO_SETS without `labels.csv`
NO_SETS = LabelSets(np.zeros(1), np.zeros(1))  # empty files cannot be mapped
FILE_ROWS = "rows.csv"  # beside the columns
BLOCK = 4096  # rows that are read at a time
BOM = b"\xef\xbb\xbf"


def open_index(path):
    """The clips of an index file: a list, or a `ClipTable` if there are many.

    Raises UserError as `dataset.index.read_index` does.
    """
    return ClipTable(path) if has_many_rows(path) else read_index(path)


def has_many_rows(path):
    """Whether a file has at least MANY lines."""
    try:
        size = os.path.getsize(path)
    except OSError:
        size = 0
    # A row takes 8 bytes at least: shorter files need no count of their rows.
    return size >= 8 * MANY and _count_lines(path) >= MANY


class ClipTable(Sequence):
    """The clips of an index file as a sequence of `Clip` that is read as needed.

    path: the index file; folder: where `write_table` wrote one, if it did. Raises UserError, naming file and
    line, if a row is not a clip, or if the folder is damaged.
    """

    def __init__(self, path, folder=None):
        self.path, self.folder = path, folder
        opened = _load(folder) if folder else open_columns(path, _load, lambda new: _build(path, new))
        if opened is None:
            raise UserError(f"{folder}: damaged or gone")
        self.text, self.starts, self.num_frames, self.categories, self.videos, *sets = opened
        self.label_sets = LabelSets(*sets) if len(sets[0]) == len(self.starts) else None

    def __len__(self):
        return len(self.starts) - 1

    def __getitem__(self, number):
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        number = range(len(self))[number]  # also below 0; IndexError beyond the end
        return self._read(number, number + 1)[0]

    def __iter__(self):
        # In blocks: three times as fast as one clip after another.
        for first in range(0, len(self), BLOCK):
            yield from self._read(first, min(first + BLOCK, len(self)))

    def _read(self, first, end):
        text = self.text[self.starts[first] : self.starts[end]].decode("utf-8", ERRORS)
        rows = filter(None, csv.reader(io.StringIO(text, newline="")))
        return [parse_clips(self.path, row, 1)[0] for row in rows]

    def labels(self, kind):
        """int32 [clips]: a number for each clip's category or video, from 0."""
        return {"category": self.categories, "video": self.videos}[kind]

    def __getstate__(self):
        return {"path": self.path, "folder": self.folder}

    def __setstate__(self, state):
        self.__init__(**state)


def fingerprint(clips):
    """SHA-256 of a list of clips or a `ClipTable`: the same in all processes that have the same clips."""
    text = clips.text if isinstance(clips, ClipTable) else repr(clips).encode()
    return hashlib.sha256(text).hexdigest()


class Tally(NamedTuple):
    """What a list of clips contains."""

    categories: Counter  # {name: number of clips}
    num_frames: int  # of all clips together


def tally(clips):
    """The `Tally` of a list of clips or a `ClipTable`."""
    if not isinstance(clips, ClipTable):
        return Tally(Counter(clip.category for clip in clips), sum(clip.num_frames for clip in clips))
    _, firsts, counts = np.unique(clips.categories, return_index=True, return_counts=True)
    names = (clips[first].category for first in firsts)
    counts = Counter(dict(zip(names, counts.tolist(), strict=True)))
    return Tally(counts, int(clips.num_frames.sum(dtype=np.int64)))


def _count_lines(path):
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _load(folder):
    """The mapped rows of an index file and their mapped columns; None if they are missing or damaged."""
    try:
        paths = [os.path.join(folder, f"{name}.npy") for name in COLUMNS | SETS]
        # Still mapped; elements of a memmap take ten times as long.
        columns = [np.asarray(np.load(each, mmap_mode="r")) for each in paths]
        with open(os.path.join(folder, FILE_ROWS), "rb") as file:
            text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError, EOFError):
        return None
    starts, *others, label_starts, label_values = columns
    whole = len({len(starts) - 1, *map(len, others)}) == 1 and starts[-1] <= len(text)
    labelled = len(label_starts) == len(starts) and label_starts[-1] == len(label_values)
    if whole and (labelled or len(label_starts) == len(label_values) == 1):
        return [text, *columns]
    return None


def _build(path, folder):
    """Write the rows of an index file and their columns into a folder."""
    rows = os.path.join(folder, FILE_ROWS)
    shutil.copyfile(path, rows)
    columns = _Columns(read_labels(beside(path)))
    with open(rows, "rb") as file:
        lines = _Lines(file)
        start = lines.position
        for where, row in parse_rows(path, lines):
            columns.add(start, *parse_clips(where, row, 1))
            start = lines.position
    columns.save(folder, start)


def write_table(folder, clips):
    """Write clips (an iterable of `Clip`) as an index file with its columns into a new folder."""
    os.makedirs(folder)
    columns, end = _Columns(), 0
    with open(os.path.join(folder, FILE_ROWS), "wb") as file:
        writer = csv.writer(_Encoded(file), lineterminator="\n")
        for clip in clips:
            columns.add(end, clip)
            end += writer.writerow(clip)
    columns.save(folder, end)


class _Encoded:
    """What csv.writer writes to, and so its `writerow` returns bytes, not characters."""

    def __init__(self, file):
        self._file = file

    def write(self, text):
        """Returns the number of bytes."""
        return self._file.write(text.encode("utf-8", ERRORS))


class _Columns:
    """Collects the columns of an index file. labels: as `read_labels` returns them."""

    def __init__(self, labels=None):
        self._starts, self._num_frames, self._labels = array("q"), array("i"), _Labels()
        self._sets = SetBuilder(labels) if labels else None

    def add(self, start, clip):
        """Add a clip whose row starts at byte `start`."""
        self._starts.append(start)
        self._num_frames.append(clip.num_frames)
        self._labels.add(clip)
        if self._sets:
            self._sets.add(clip)

    def save(self, folder, end):
        """Write the files of COLUMNS and SETS; end: where the last row ends."""
        labels, sets = self._labels, self._sets.sets() if self._sets else NO_SETS
        columns = np.append(self._starts, end), self._num_frames, labels.categories, labels.videos, *sets
        for (name, dtype), values in zip((COLUMNS | SETS).items(), columns, strict=True):
            np.save(os.path.join(folder, f"{name}.npy"), np.asarray(values, dtype))


class _Labels:
    """Numbers of the clips' categories and videos, from 0, in the order in which they first appear."""

    def __init__(self):
        self.categories, self.videos = array("i"), array("i")
        self._names, self._ids = {}, {}
        self._folders = {}  # {folder of audio files: its category's number}, to look at each folder once

    def add(self, clip):
        """Add a clip's labels."""
        folder, _, name = clip.path_audio.rpartition(os.sep)
        if folder not in self._folders:
            self._folders[folder] = self._names.setdefault(clip.category, len(self._names))
        self.categories.append(self._folders[folder])
        stem, _, _ = name.rpartition(".")
        stem = stem if stem and "." not in stem else clip.id  # the same, but for names with several dots
        video = video_of(stem)
        self.videos.append(self._ids.setdefault(video, len(self._ids)))


class _Lines:
    """Decoded lines of a binary file; `position` is where the next one starts."""

    def __init__(self, file):
        self._file = file
        self.position = len(BOM) if file.read(len(BOM)) == BOM else 0
        file.seek(self.position)

    def __iter__(self):
        return self

    def __next__(self):
        line = self._file.readline()
        if not line:
            raise StopIteration
        self.position += len(line)
        return line.decode("utf-8", ERRORS)
