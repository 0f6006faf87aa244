"""Pack clips into shards: tar files of one size, each complete or absent, with the same bytes every time."""

import contextlib
import io
import itertools
import os
import re
import tarfile
from typing import NamedTuple

from dataset.index import NUM_COLUMNS, parse_clips, read_rows, write_rows
from dataset.ledger import Ledger
from dataset.shards.encode import encode_clip
from dataset.shards.members import Members, path_index, write_members
from dataset.shards.settings import check_settings
from utils import UserError, progress

COLUMNS = ("clip", "state", "reason")
SUFFIX = ".tar"


class Failed(NamedTuple):
    """Stands for a clip that cannot be packed."""

    name: str
    reason: str


def pack(clips, folder, shard_bytes, encoding, tag="", total=None, video=None):
    """Pack an iterable of `Clip` or `Failed` into shards in `folder`, except for clips that they have.

    shard_bytes: a shard ends with the clip that reaches this size; tag: the start of the shards' names, which
    tells parts apart that are packed at the same time; video: see `check_settings`. Writes the ledger
    `<tag>-shards.csv`. Returns {name of a clip: why it could not be packed}. Raises UserError if the same
    command is running, if the folder's shards have other settings, or if two clips have one name.
    """
    failures = {}
    start = f"{tag}-" if tag else ""
    with Ledger(os.path.join(folder, f"{start}shards.csv"), COLUMNS) as ledger:
        shards, others = find_shards(folder)
        _check_names(others, start)
        check_settings(folder, encoding, video, is_empty=not shards)
        clips = progress(clips, desc="clips", unit="clip", total=total)
        encoded = _encoded(clips, packed_clips(folder), encoding, failures, ledger)
        paths = (os.path.join(folder, f"{start}{number:06d}{SUFFIX}") for number in itertools.count())
        free = (path for path in paths if not os.path.lexists(path))
        for first in encoded:
            names = _write_shard(next(free), itertools.chain([first], encoded), shard_bytes)
            for name in names:
                ledger.record(clip=name, state="done", reason="")
    return failures


def _check_names(others, start):
    """Raise UserError for a tar file that has the name of a shard, but no index: another program made it."""
    for path in others:
        if re.fullmatch(re.escape(start) + "[0-9]{6,}" + re.escape(SUFFIX), os.path.basename(path)):
            hint = f"index it with `python -m dataset.shards --index {path}`, or move it away"
            raise UserError(f"{path}: a tar file without an index where a shard would go: {hint}")


def _encoded(clips, there, encoding, failures, ledger):
    """Yield (name, members) of the clips that are not `there`; those that cannot be read go to `failures`."""
    seen = {}

    def fail(name, reason):
        failures[name] = reason
        ledger.record(clip=name, state="failed", reason=reason)

    for clip in clips:
        if isinstance(clip, Failed):
            fail(*clip)
            continue
        if seen.setdefault(clip.name, clip) != clip:
            raise UserError(f"{clip.path_audio} and {seen[clip.name].path_audio}: two clips of one name")
        found = there.get(clip.name)
        if found and found.num_frames != clip.num_frames:
            counts = f"{found.num_frames} frames, expected {clip.num_frames}"
            raise UserError(f"{found.path_frames}: {counts}: delete that shard and its index")
        if found:
            continue
        try:
            yield clip.name, encode_clip(clip, encoding)
        except UserError as error:
            fail(clip.name, str(error))


def _write_shard(path, encoded, shard_bytes):
    """Write a shard and its index; returns the names of its clips.

    The index comes first: if the process is killed, there is never a shard without an index.
    """
    temporary, names = f"{path}.part", []
    try:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, members in encoded:
                for member, data in members:
                    tar.addfile(_header(member, len(data)), io.BytesIO(data))
                names.append(name)
                if tar.offset >= shard_bytes:
                    break
        write_members(temporary, path_index(path))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    return names


def _header(name, size):
    header = tarfile.TarInfo(name)  # owner, time of change: the same everywhere
    header.size = size
    return header


def find_shards(folder):
    """The sorted paths of the shards in a folder, and of its tar files without an index.

    Raises UserError if there is no folder.
    """
    if not os.path.isdir(folder):
        raise UserError(f"no folder {folder}: expected shards such as {folder}/000000{SUFFIX}")
    names = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIX))
    paths = [path for name in names if not os.path.isdir(path := os.path.join(folder, name))]
    shards = [path for path in paths if os.path.exists(path_index(path))]
    return shards, sorted(set(paths) - set(shards))


def packed_clips(folder):
    """{name: Clip} of the clips in the shards of a folder.

    Raises UserError if there is no folder, or if a shard or its index is damaged.
    """
    found = {}
    for path in find_shards(folder)[0]:
        members = Members(path)
        members.check_size(os.path.getsize(path))
        found |= {clip.name: clip for clip in members.clips()}
    return found


class ClipList:
    """An index file or mixture list whose clips are packed.

    Raises UserError, naming the file, unless it is one.
    """

    def __init__(self, path):
        self.path = path
        rows = read_rows(path)
        num_mix = max(1, len(rows[0][1]) // NUM_COLUMNS)
        self.rows = [parse_clips(where, row, num_mix) for where, row in rows]

    def write(self, path, packed):
        """Write the list with the clips in shards; returns the number of rows left out for lack of a clip."""
        rows = [row for row in self.rows if all(clip.name in packed for clip in row)]
        write_rows(path, ([column for clip in row for column in packed[clip.name]] for row in rows))
        return len(self.rows) - len(rows)
