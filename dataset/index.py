"""Index files: one clip a row, `AUDIO_PATH,FRAMES_PATH,NUMBER_FRAMES`, no header."""

import csv
import os
from typing import NamedTuple

from utils import UserError, replacing

NUM_COLUMNS = 3


class Clip(NamedTuple):
    """One row of an index file. Relative paths are relative to the working directory."""

    path_audio: str
    path_frames: str
    num_frames: int

    @property
    def category(self):
        """The folder that the sound file lies in: `trumpet` of `data/audio/trumpet/STKXyBGSGyE.wav`."""
        return os.path.basename(os.path.dirname(self.path_audio))

    @property
    def id(self):
        """The video's id: `STKXyBGSGyE` of `data/audio/trumpet/STKXyBGSGyE.wav`."""
        return os.path.splitext(os.path.basename(self.path_audio))[0]

    @property
    def name(self):
        """`category/id`, for people."""
        return f"{self.category}/{self.id}"


def read_index(path):
    """Read an index file into a list of `Clip`.

    Raises UserError, naming file and line, if the file is missing or empty or if a row is not a clip.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if row]
    except FileNotFoundError:
        raise UserError(f"no index file {path}: make one with `python create_index_files.py`") from None
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(f"{path}: cannot be read as a table: {error}") from None
    if not rows:
        raise UserError(f"{path}: the index file is empty")
    return [_parse_row(f"{path}:{number}", row) for number, row in rows]


def _parse_row(where, row):
    if len(row) != NUM_COLUMNS:
        raise UserError(f"{where}: expected AUDIO_PATH,FRAMES_PATH,NUMBER_FRAMES, found {len(row)} column(s)")
    path_audio, path_frames, count = (field.strip() for field in row)
    if not (path_audio and path_frames):
        raise UserError(f"{where}: expected two paths, found an empty one")
    if not (count.isdecimal() and int(count) > 0):
        raise UserError(f"{where}: expected a number of frames above 0, found {count!r}")
    return Clip(path_audio, path_frames, int(count))


def write_index(path, clips):
    """Write clips (an iterable of `Clip`) as an index file, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(clips)
