"""Lists of segments of videos, as CSV: VGGSound's, AudioSet's, or any with a header.

    VGGSound   id,start,label,split                     no header; segments of 10 s
    AudioSet   id, start, end, "label,label"            comment lines start with #
    others     id,start,end[,label][,split]             a header with these names; labels separated by ;

Times are in seconds. Labels become folder names, so they are cleaned and validated; ids become file names.
"""

import csv
import logging
import math
import re
from itertools import chain

from dataset.download.video_list import ID, Video, is_folder_name
from dataset.index import ERRORS
from dataset.indexing.labels import SEPARATOR, Entry
from dataset.indexing.split import PARTS
from utils import UserError

VGGSOUND_SECONDS = 10  # of a segment
MAX_START = 999_999  # seconds: six digits of a clip's name
FORMATS = "id,start,label,split (VGGSound), id,start,end,labels (AudioSet), or a header with id,start,end"
UNSAFE = re.compile(r"[/\\;]")  # replaced in labels; AudioSet's are such as /m/09x0r

log = logging.getLogger(__name__)


def read_segments(path):
    """Read a list: (distinct videos, {name of a clip: Entry}, number of invalid rows).

    The category of a video is its first label. Rows of one segment add labels to it. Each invalid row is
    logged as a warning. Raises UserError if the file cannot be read, or is no list of segments.
    """
    videos, table, num_refused = {}, {}, 0
    try:
        with open(path, newline="", encoding="utf-8-sig", errors=ERRORS) as file:
            lines = (line for line in file if not line.startswith("#"))
            rows = (row for row in csv.reader(lines, skipinitialspace=True) if row)
            parse, rows = _choose(rows, path)
            for row in rows:
                try:
                    video, entry = parse(row)
                except ValueError as error:
                    log.warning("%s: %s: skipped %r", path, error, ",".join(row)[:100])
                    num_refused += 1
                    continue
                videos.setdefault(video.clip, video)
                known = table.get(video.clip, Entry((), entry.split))
                table[video.clip] = known._replace(labels=tuple(dict.fromkeys(known.labels + entry.labels)))
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return list(videos.values()), table, num_refused


def _choose(rows, path):
    """The function that parses a row of this list, by its first row, and the rows that it is for."""
    first = next(rows, [])
    names = [name.strip().lower() for name in first]
    if {"id", "start", "end"} <= set(names):
        return (lambda row: _parse_named(dict(zip(names, row, strict=False)))), rows
    if len(first) == 4:
        is_audioset = _is_number(first[2])
        return (_parse_audioset if is_audioset else _parse_vggsound), chain([first], rows)
    raise UserError(f"{path}: expected rows of {FORMATS}, found {','.join(first)[:60]!r}")


def _is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _parse_vggsound(row):
    video, start, label, split = _columns(row)
    if not _is_number(start):
        raise ValueError("not a time in seconds")
    return _make(video, start, float(start) + VGGSOUND_SECONDS, [label], split)


def _parse_audioset(row):
    video, start, end, labels = _columns(row)
    return _make(video, start, end, labels.split(","))


def _columns(row):
    if len(row) != 4:
        raise ValueError(f"not 4 columns but {len(row)}")
    return row


def _parse_named(row):
    labels = row.get("label", "").split(SEPARATOR)
    return _make(row["id"], row.get("start", ""), row.get("end", ""), labels, row.get("split", ""))


def _make(video, start, end, labels, split=""):
    """(Video, Entry) of a row. Raises ValueError if it is not valid."""
    video, split = video.strip(), split.strip()
    if not ID.fullmatch(video):
        raise ValueError("not a video id")
    if not (_is_number(start) and _is_number(end) and 0 <= float(start) <= MAX_START):
        raise ValueError("not a time in seconds")
    if float(end) <= float(start):
        raise ValueError("ends before it starts")
    labels = tuple(dict.fromkeys(filter(None, map(clean_label, labels))))
    if not all(map(is_folder_name, labels)):
        raise ValueError("not a valid folder name")
    if split and split not in PARTS:
        raise ValueError(f"not a split ({', '.join(PARTS)})")
    return Video(labels[0] if labels else "", video, float(start), float(end)), Entry(labels, split)


def clean_label(text):
    """A label without what folder names must not contain: `m_09x0r` for AudioSet's `/m/09x0r`."""
    return UNSAFE.sub("_", text).strip().strip("_")
