"""Index files: one clip per row, `AUDIO_PATH,FRAMES_PATH,NUMBER_FRAMES`, no header.

Mixture lists: one mixture per row, the columns of its N clips side by side.
"""

import csv
import os
import re
from itertools import islice
from typing import NamedTuple

import limits
from utils import UserError, replacing, walk

NUM_COLUMNS = 3  # per clip
ERRORS = "surrogateescape"  # preserves the bytes of file names that are not UTF-8
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # that can stand for a video, with a sound
AUDIO_SUFFIXES = (".wav", ".mp3")  # the first is preferred
NUMBER = re.compile("[0-9]{1,18}")  # more digits overflow
SEGMENT = re.compile(r"([A-Za-z0-9_-]{11})_[0-9]{6}(?:_[0-9]{3})?")  # `dataset.download` names segments so
SUFFIXES = re.compile(f"({'|'.join(map(re.escape, VIDEO_SUFFIXES + AUDIO_SUFFIXES))})+\\Z", re.IGNORECASE)


def strip_suffixes(path):
    """A path without audio and video suffixes: `flute/STKXyBGSGyE` for `flute/STKXyBGSGyE.mp4`."""
    return SUFFIXES.sub("", path)


def video_of(clip_id):
    """The id of a clip's video: `STKXyBGSGyE` for its segment `STKXyBGSGyE_000030`, and for the whole."""
    match = SEGMENT.fullmatch(clip_id)
    return match[1] if match else clip_id


def path_frame(folder, number):
    """The path of a frame; numbers start at 1."""
    return os.path.join(folder, f"{number:06d}.jpg")


def find_videos(root):
    """The videos under `root`, at any depth, as sorted paths relative to it; hidden ones are skipped.

    Raises UserError if the folder does not exist or contains no videos.
    """
    if not os.path.isdir(root):
        raise UserError(f"no folder {root}: expected videos such as {root}/<category>/<id>.mp4")
    paths = [
        os.path.join(folder, name)
        for folder, names in walk(root)
        for name in names
        if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith(".")
    ]
    if not paths:
        raise UserError(f"no videos under {root}: expected {', '.join(VIDEO_SUFFIXES)}")
    return sorted(paths)


class Clip(NamedTuple):
    """One row of an index file. Relative paths are relative to the working directory."""

    path_audio: str
    path_frames: str
    num_frames: int

    @property
    def category(self):
        """The audio file's folder: `trumpet` for `data/audio/trumpet/STKXyBGSGyE.wav`."""
        return os.path.basename(os.path.dirname(self.path_audio))

    @property
    def id(self):
        """The clip's id: `STKXyBGSGyE` for `data/audio/trumpet/STKXyBGSGyE.wav`."""
        return strip_suffixes(os.path.splitext(os.path.basename(self.path_audio))[0])

    @property
    def video(self):
        """The video's id, which all of its segments share; see `video_of`."""
        return video_of(self.id)

    @property
    def name(self):
        """`category/id`, for messages."""
        return f"{self.category}/{self.id}"


def read_index(path):
    """Read an index file into a list of `Clip`.

    Raises UserError, naming file and line, if the file is missing or empty or if a row is not a clip.
    """
    return [clip for where, row in read_rows(path) for clip in parse_clips(where, row, 1)]


def read_mixtures(path):
    """Read a mixture list into a list of tuples of N `Clip`, N being that of the first row.

    Raises UserError, naming file and line, if the file is missing or empty or if a row is not N clips.
    """
    return parse_mixtures(read_rows(path, "mixture list"))


def parse_mixtures(rows):
    """Parse the rows of a mixture list, as `read_rows` returns them; see `read_mixtures`."""
    num_mix = size_of_mixtures(rows[0][1])
    return [parse_clips(where, row, num_mix) for where, row in rows]


def size_of_mixtures(row):
    """The number of clips in a mixture of a list whose first row is `row`, at least 2."""
    return max(2, len(row) // NUM_COLUMNS)


def read_rows(path, what="index file", most=None):
    """The non-blank rows of a table, at most `most`, as [(file:line, columns)]; see `parse_clips`.

    Raises UserError, calling the file `what`, if it is missing, empty or not a table.
    """
    return list(islice(iterate_rows(path, what), most))


def iterate_rows(path, what="index file"):
    """Yield the rows of a table one by one; see `read_rows`."""
    try:
        with open(path, newline="", encoding="utf-8-sig", errors=ERRORS) as file:
            yield from parse_rows(path, file, what)
    except FileNotFoundError:
        raise UserError(f"no {what} {path}: make one with `python create_index_files.py`") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a table: {error.strerror}") from None


def parse_rows(path, lines, what="index file"):
    """Yield the rows of the lines of the table `path`; see `read_rows`."""
    count, reader = 0, csv.reader(lines)
    try:
        for row in filter(None, reader):
            count += 1
            yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: cannot be read as a table: {error}") from None
    if not count:
        raise UserError(f"{path}: the {what} is empty")


def parse_clips(where, row, num_mix):
    """Parse a row into a tuple of `num_mix` clips. Raises UserError, naming `where`, if it is malformed."""
    if len(row) != num_mix * NUM_COLUMNS:
        times = f" {num_mix} times" if num_mix > 1 else ""
        raise UserError(
            f"{where}: expected AUDIO_PATH,FRAMES_PATH,NUMBER_FRAMES{times}, found {len(row)} column(s)"
        )
    if num_mix == 1:
        return (_parse_clip(where, row),)
    starts = range(0, len(row), NUM_COLUMNS)
    return tuple(_parse_clip(where, row[start : start + NUM_COLUMNS]) for start in starts)


def _parse_clip(where, columns):
    path_audio, path_frames, count = map(str.strip, columns)
    if not (path_audio and path_frames):
        raise UserError(f"{where}: expected two paths, found an empty one")
    if "\0" in path_audio + path_frames:
        raise UserError(f"{where}: expected two paths, found a null character")
    num_frames = int(count) if NUMBER.fullmatch(count) else 0
    if not num_frames:
        raise UserError(f"{where}: expected a number of frames above 0, found {count[:30]!r}")
    if num_frames > limits.MAX_FRAMES:
        raise UserError(
            f"{where}: expected at most {limits.MAX_FRAMES} frames (SOP_MAX_FRAMES), found {count}"
        )
    return Clip(path_audio, path_frames, num_frames)


def write_index(path, clips):
    """Write clips (an iterable of `Clip`) as an index file, atomically."""
    write_rows(path, clips)


def write_mixtures(path, mixtures):
    """Write mixtures (an iterable of tuples of `Clip`) as a mixture list, atomically."""
    write_rows(path, ([column for clip in mixture for column in clip] for mixture in mixtures))


def write_rows(path, rows):
    """Write a table (an iterable of rows), atomically."""
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors=ERRORS) as file,
    ):
        csv.writer(file, lineterminator="\n").writerows(rows)


def shared_ids(clips, others):
    """The sorted ids of the videos that two iterables of `Clip` share; the first may be long."""
    videos = {clip.video for clip in others}
    return sorted({clip.video for clip in clips if clip.video in videos})
