"""`labels.csv`: the labels of clips that have several, and their published split; one row per clip.

It lies beside videos, beside the frames and audio made of them, and beside index files, whose clips it tells
more about. Clips that are not in it have one label, their category.
"""

import csv
import os
from typing import NamedTuple

from dataset.index import ERRORS, write_rows
from utils import UserError

FILE_LABELS = "labels.csv"
COLUMNS = ("clip", "labels", "split")
SEPARATOR = ";"  # of labels


class Entry(NamedTuple):
    """What is known of a clip: a tuple of labels, and its part of the published split or ""."""

    labels: tuple
    split: str


def beside(path):
    """The table of labels in the folder of the file or folder `path`."""
    return os.path.join(os.path.dirname(os.path.normpath(path)), FILE_LABELS)


def read_labels(path, ids=None):
    """The table {id of a clip: Entry} of the clips `ids`, None: all; {} without a file.

    Raises UserError, naming the line, if it is malformed.
    """
    table = {}
    try:
        with open(path, newline="", encoding="utf-8-sig", errors=ERRORS) as file:
            reader = csv.reader(file)
            header = tuple(next(reader, ()))
            if header != COLUMNS:
                found = ",".join(header)[:60]
                raise UserError(f"{path}: expected the columns {','.join(COLUMNS)}, found {found!r}")
            for row in reader:
                if len(row) != len(COLUMNS):
                    raise UserError(f"{path}:{reader.line_num}: expected 3 columns, found {len(row)}")
                if ids is None or row[0] in ids:
                    table[row[0]] = Entry(tuple(filter(None, row[1].split(SEPARATOR))), row[2])
    except FileNotFoundError:
        return {}
    except (csv.Error, OSError) as error:
        raise UserError(f"{path}: cannot be read as a table: {error}") from None
    return table


def add_labels(path, table):
    """Add the entries of `table` to the file, atomically; they replace those of the same clips."""
    known = read_labels(path)
    if table.items() <= known.items():
        return
    rows = ((clip, SEPARATOR.join(entry.labels), entry.split) for clip, entry in (known | table).items())
    write_rows(path, [COLUMNS, *sorted(rows)])
