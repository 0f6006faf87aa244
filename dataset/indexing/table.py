"""Index files of any length: rows stay in the file, and numpy arrays beside it say where they are.

`open_index` builds these arrays once, in the folder `<index file>.columns`. They are memory-mapped, so that
all loader processes share them, and built again when the file changes.
"""

import contextlib
import csv
import hashlib
import io
import mmap
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dataset.index import ERRORS, iterate_rows, parse_clips, read_index, video_of
from dataset.indexing.labels import beside, read_labels
from dataset.indexing.partners import LabelSets, SetBuilder
from utils import UserError

MANY = 100_000  # rows from which on an index file is opened as a table
SUFFIX = ".columns"
COLUMNS = {"starts": np.int64, "num_frames": np.int32, "categories": np.int32, "videos": np.int32}
SETS = {"label_starts": np.int64, "label_values": np.int32}  # see `LabelSets`; NO_SETS without `labels.csv`
NO_SETS = LabelSets(np.zeros(1), np.zeros(1))  # empty files cannot be mapped
STAMP = "stamp"  # column of size and time of change of the file, and of `labels.csv` beside it
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

    path: the index file. Raises UserError, naming file and line, if a row is not a clip.
    """

    def __init__(self, path):
        self.path = path
        self._open()

    def _open(self):
        stamp = stamp_of(self.path)
        folder = self.path + SUFFIX
        columns = _load(folder, stamp)
        if columns is None:
            _build(self.path, folder, stamp)
            columns = _load(folder, stamp)
        self.starts, self.num_frames, self.categories, self.videos, *sets = columns
        self.label_sets = LabelSets(*sets) if len(sets[0]) == len(self.starts) else None
        with open(self.path, "rb") as file:
            self.text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self):
        return len(self.starts) - 1

    def __getitem__(self, number):
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        number = range(len(self))[number]  # also below 0; IndexError beyond the end
        start, end = self.starts[number : number + 2].tolist()
        text = self.text[start:end].decode("utf-8", ERRORS)
        (row,) = (row for row in csv.reader(io.StringIO(text, newline="")) if row)
        return parse_clips(self.path, row, 1)[0]

    def __iter__(self):
        rows = iterate_rows(self.path)  # three times as fast as one clip after another
        return (clip for where, row in rows for clip in parse_clips(where, row, 1))

    def labels(self, kind):
        """int32 [clips]: a number for each clip's category or video, from 0."""
        return {"category": self.categories, "video": self.videos}[kind]

    def __getstate__(self):
        return {"path": self.path}

    def __setstate__(self, state):
        self.__init__(state["path"])


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


def stamp_of(path):
    """What changes with an index file or mixture list, and with the `labels.csv` beside it."""
    files = [os.stat(each) for each in (path, beside(path)) if os.path.exists(each)]
    return np.array([(status.st_size, status.st_mtime_ns) for status in files], np.int64)


def write_stamp(folder, stamp):
    """Say in a folder of columns of which state of the file they are."""
    np.save(os.path.join(folder, f"{STAMP}.npy"), stamp)


def is_stamped(folder, stamp):
    """Whether a folder has columns of that state of the file."""
    try:
        return np.array_equal(np.load(os.path.join(folder, f"{STAMP}.npy")), stamp)
    except (OSError, ValueError):
        return False


def _load(folder, stamp):
    """The memory-mapped columns; None if they are missing, damaged or of another state of the file."""
    if not is_stamped(folder, stamp):
        return None
    try:
        paths = [os.path.join(folder, f"{name}.npy") for name in COLUMNS | SETS]
        # Still mapped; elements of a memmap take ten times as long.
        columns = [np.asarray(np.load(path, mmap_mode="r")) for path in paths]
    except (OSError, ValueError):
        return None
    starts, *others, label_starts, label_values = columns
    whole = len({len(starts) - 1, *map(len, others)}) == 1
    labelled = len(label_starts) == len(starts) and label_starts[-1] == len(label_values)
    return columns if whole and (labelled or len(label_starts) == len(label_values) == 1) else None


def _build(path, folder, stamp):
    """Write the columns of an index file; several processes may do it at the same time."""
    columns = dict(zip(COLUMNS | SETS, _read_columns(path), strict=True))
    with replacing_folder(folder, path) as temporary:
        for name, values in columns.items():
            np.save(os.path.join(temporary, f"{name}.npy"), values)
        write_stamp(temporary, stamp)


@contextlib.contextmanager
def replacing_folder(folder, path):
    """A temporary folder that takes the place of `folder` at the end, unless another process was faster.

    Raises UserError if the columns of the file `path` cannot be written there.
    """
    temporary = None
    try:
        temporary = tempfile.mkdtemp(
            prefix=f".{os.path.basename(folder)}-", dir=os.path.dirname(folder) or "."
        )
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was faster
            os.rename(temporary, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot write the columns of {path}: {error}") from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _read_columns(path):
    """Arrays in the order of COLUMNS and SETS, read from the whole index file."""
    starts, num_frames, table = [], [], read_labels(beside(path))
    labels, sets = _Labels(), SetBuilder(table)
    with open(path, "rb") as file:
        lines = _Lines(file)
        reader = csv.reader(lines)
        start = lines.position
        for row in reader:
            if row:
                (clip,) = parse_clips(f"{path}:{reader.line_num}", row, 1)
                starts.append(start)
                num_frames.append(clip.num_frames)
                labels.add(clip)
                if table:
                    sets.add(clip)
            start = lines.position
    values = (
        [*starts, start],
        num_frames,
        labels.categories,
        labels.videos,
        *(sets.sets() if table else NO_SETS),
    )
    return [np.array(column, dtype) for column, dtype in zip(values, (COLUMNS | SETS).values(), strict=True)]


class _Labels:
    """Numbers of the clips' categories and videos, from 0, in the order in which they first appear."""

    def __init__(self):
        self.categories, self.videos = [], []
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
