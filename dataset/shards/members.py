"""The index beside a shard: name, offset and length of every member.

`000012.tar.index.npy` is an array of (name, offset, length), sorted by name and memory-mapped by readers. The
empty name, which comes first, has the length of the shard itself. Clip `flute/abc` has the members
`flute/abc.flac` (or .wav, .mp3, …), `flute/abc.000001.jpg` … and `flute/abc.json`.
"""

import os
import re
import tarfile
from bisect import bisect_left

import numpy as np

import limits
from dataset.index import Clip
from media import open_regular
from utils import UserError, replacing

SUFFIX = ".index.npy"
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus")
JPEG, WEBP = ".jpg", ".webp"
PICTURE = re.compile(r"(.+)\.([0-9]+)\.(?:jpg|webp)\Z", re.DOTALL)  # clip, number
NUMBERS = np.dtype("<i8")


def path_index(path):
    """The path of the index of a shard."""
    return path + SUFFIX


def list_members(path):
    """{name: (offset, length)} of the regular files in a tar file; folders are left out.

    Raises UserError, naming the tar file, if it is damaged, and for anything that is neither file nor folder
    or has a name that leaves the folder, occurs twice or is longer than a path may be.
    """
    found = {}
    try:
        with open_regular(path) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            size = os.fstat(stream.fileno()).st_size
            for member in tar:
                if not member.isdir():
                    _check(path, member, size, found)
                    found[member.name] = member.offset_data, member.size
    except (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be read as a tar file: {_reason(error)}") from None
    return found


def _reason(error):
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _check(path, member, size, found):
    """Raise UserError for a member that a shard should not have. size: of the tar file, bytes."""
    name, reason = member.name, ""
    if not member.isreg() or member.issparse():
        reason = "not a regular file"
    elif name.startswith("/") or {"", ".", ".."} & set(name.split("/")) or "\0" in name:
        reason = "a name that leads elsewhere"
    elif len(os.fsencode(name)) > limits.MAX_NAME_BYTES:
        reason = f"a name of more than {limits.MAX_NAME_BYTES} bytes (SOP_MAX_NAME_BYTES)"
    elif name in found:
        reason = "a name that occurs twice"
    elif not 0 <= member.size <= limits.MAX_MEMBER_BYTES:
        reason = f"{member.size} bytes, expected at most {limits.MAX_MEMBER_BYTES} (SOP_MAX_MEMBER_BYTES)"
    elif member.offset_data + member.size > size:
        reason = "truncated"
    if reason:
        raise UserError(f"{path}: member {name[:100]!r}: {reason}")


def write_members(path, path_file=None):
    """Index a shard: write the array of its members, atomically. Raises as `list_members`.

    path_file: of the index, None: beside the shard.
    """
    rows = {os.fsencode(name): where for name, where in list_members(path).items()}
    rows[b""] = 0, os.path.getsize(path)
    width = max(1, *map(len, rows))
    kind = np.dtype([("name", f"S{width}"), ("offset", NUMBERS), ("length", NUMBERS)])
    values = np.array([(name, *rows[name]) for name in sorted(rows)], kind)
    with replacing(path_file or path_index(path)) as temporary, open(temporary, "wb") as file:
        np.save(file, values)


def check_index(path):
    """Raise UserError if the shard `path` has no index."""
    if not os.path.exists(path_index(path)):
        hint = f"make one with `python -m dataset.shards --index {path}`"
        raise UserError(f"{path}: no index {path_index(path)}: {hint}")


class Members:
    """The members of a shard, found by name in its index. size: of the shard, bytes.

    path: of the shard, for messages; path_file: of its index, if that is a copy elsewhere. Raises UserError
    if there is no index, or if the file is no index.
    """

    def __init__(self, path, path_file=None):
        if path_file is None:
            check_index(path)
        try:
            rows = np.load(path_file or path_index(path), mmap_mode="r", allow_pickle=False)
            rows = np.asarray(rows)  # still mapped; elements of a memmap take ten times as long
        except (OSError, ValueError, EOFError) as error:
            hint = "" if path_file else f": make it again with `python -m dataset.shards --index {path}`"
            raise UserError(
                f"{path_index(path)}: cannot be read as an index: {_reason(error)}{hint}"
            ) from None
        fields = rows.dtype.fields or {}
        kinds = {name: field[0] for name, field in fields.items()}
        text = kinds.pop("name", np.dtype("V1"))
        if rows.ndim != 1 or text.kind != "S" or kinds != {"offset": NUMBERS, "length": NUMBERS}:
            raise UserError(f"{path_index(path)}: not an index: expected name, offset and length")
        self.path = path
        self._names, self._offsets, self._lengths = rows["name"], rows["offset"], rows["length"]
        if not (len(rows) and self._names[0] == b""):
            raise UserError(f"{path_index(path)}: not an index: expected the shard's size first")
        self.size = int(self._lengths[0])

    def check_size(self, size):
        """Raise UserError unless the shard's file has `size` bytes by its index."""
        if size != self.size:
            raise UserError(
                f"{self.path}: {size} bytes, expected {self.size} by its index: copy both again, delete both "
                f"to pack the clips again, or index it with `python -m dataset.shards --index {self.path}`"
            )

    def find(self, name):
        """(offset, length) of the member `name`, in bytes; None if there is none. Raises UserError."""
        wanted = os.fsencode(name)
        row = bisect_left(self._names, wanted, lo=1)
        if row == len(self._names) or self._names[row] != wanted:
            return None
        offset, length = int(self._offsets[row]), int(self._lengths[row])
        if not (offset >= 0 and 0 <= length <= limits.MAX_MEMBER_BYTES and offset + length <= self.size):
            raise UserError(f"{path_index(self.path)}: member {name!r} lies outside of the shard")
        return offset, length

    def names(self, start=""):
        """All names that begin with `start`, sorted by their bytes."""
        wanted = os.fsencode(start)
        row, found = bisect_left(self._names, wanted, lo=1), []
        while row < len(self._names) and self._names[row].startswith(wanted):
            found.append(os.fsdecode(bytes(self._names[row])))
            row += 1
        return found

    def clips(self):
        """The clips in the shard that have sound and pictures, in the order of the shard."""
        sounds, counts = {}, {}
        for name in self.names():
            picture = PICTURE.fullmatch(name)
            stem, suffix = os.path.splitext(name)
            if picture:
                counts[picture[1]] = counts.get(picture[1], 0) + 1
            elif suffix in SOUND_SUFFIXES:
                sounds.setdefault(stem, name)
        keys = sorted(sounds.keys() & counts, key=lambda key: self.find(sounds[key]))
        return [Clip(f"{self.path}/{sounds[key]}", f"{self.path}/{key}", counts[key]) for key in keys]
