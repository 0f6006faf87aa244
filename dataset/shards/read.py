"""Open files of clips, wherever they are: on disk, in shards, or in shards on a server.

A path such as `data/shards/000012.tar/flute/abc.wav` names a member of a shard; a frame's path,
`data/shards/000012.tar/flute/abc/000001.jpg`, names `flute/abc.000001.jpg`, or `.webp`. Members are
read by their position, so that threads and forked processes may share a shard's file.
"""

import errno
import functools
import io
import os
import re
import stat
import weakref

from dataset.shards.members import JPEG, PICTURE, WEBP, Members, check_index, path_index
from media import open_regular

MEMBER = re.compile(r"(.+?\.tar)/(?:(.+)/([0-9]+\.jpg)|(.+))", re.DOTALL)  # shard, clip and frame, or name
SERVERS = "http://", "https://", "s3://"
MAX_OPEN = 128  # shards that a process keeps open; each has two file descriptors


def open_media(path):
    """Open a file of a clip for reading bytes.

    Raises OSError, also for what is not a regular file, and UserError for a shard that cannot be used.
    """
    shard, name = _locate(path)
    if shard is None:
        return open_regular(path)
    return Member(os.fspath(path), shard, *_find_there(shard, name, path))


def read_media(path):
    """The bytes of a file of a clip. Raises as `open_media` does."""
    shard, name = _locate(path)
    if shard is None:
        with open_regular(path) as file:
            return file.read()
    return shard.read_at(*_find_there(shard, name, path))


def is_file(path):
    """Whether there is a file `path`, on disk or in a shard. Raises UserError as `open_media` does."""
    shard, name = _locate(path, missing_ok=True)
    return os.path.isfile(path) if shard is None else _find(shard, name) is not None


def list_frames(path):
    """The names of files in the folder `path`, or of the frames of a clip in a shard: `000001.jpg` ….

    Raises OSError if there is no such folder, and UserError as `open_media` does.
    """
    shard, name = _locate(path)
    if shard is None:
        return os.listdir(path)
    found = (PICTURE.fullmatch(member) for member in shard.members.names(f"{name}."))
    return [f"{picture[2]}.jpg" for picture in found if picture and picture[1] == name]


def is_folder(path):
    """Whether there is a folder `path`, on disk or as frames in a shard. Raises UserError as `open_media`."""
    shard, _ = _locate(path, missing_ok=True)
    return os.path.isdir(path) if shard is None else bool(list_frames(path))


def path_on_disk(path):
    """The path whose time of change is that of `path`: of the shard, for a member of one."""
    member = MEMBER.fullmatch(os.fspath(path))
    return path if member is None or os.path.isdir(member[1]) else member[1]


class Member(io.RawIOBase):
    """A part of a shard as a file for reading; `name` is its path.

    offset: where it starts in the shard; size: its length; both in bytes. libsndfile and PIL cannot pass on
    errors of `readinto`: it returns nothing then, and `close` raises.
    """

    def __init__(self, name, shard, offset, size):
        self.name, self.offset, self.size = name, offset, size
        self._shard, self._position, self._error = shard, 0, None
        self._handle = None

    def readable(self):
        """True."""
        return True

    def seekable(self):
        """True."""
        return True

    def tell(self):
        """The position, in bytes."""
        return self._position

    def seek(self, offset, whence=os.SEEK_SET):
        """Move to a position; returns it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer):
        """Fill `buffer` as far as possible; returns the number of bytes."""
        try:
            data = self._take(len(buffer))
        except BaseException as error:  # also of a signal; raised by `close`
            self._error = self._error or error
            return 0
        buffer[: len(data)] = data
        return len(data)

    def readall(self):
        """All bytes from the position on."""
        return self._take(self.size)

    def handle(self):
        """A descriptor of the shard at the member's start, until `close`; None if the shard is on a server.

        It does not end where the member does. Raises OSError.
        """
        if self._handle is None:
            self._handle = self._shard.reopen()
            if self._handle is not None:
                os.lseek(self._handle, self.offset, os.SEEK_SET)
        return self._handle

    def close(self):
        """Raise the error that ended a `readinto`, if there was one."""
        super().close()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
        error, self._error = self._error, None
        if error:
            raise error

    def _take(self, count):
        count = max(0, min(count, self.size - self._position))
        data = self._shard.read_at(self.offset + self._position, count) if count else b""
        self._position += len(data)
        return data


def _find_there(shard, name, path):
    found = _find(shard, name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, f"no member {name} in the shard", os.fspath(path))
    return found


def _find(shard, name):
    """(offset, length) of the member `name`, or of a WebP in the place of a JPEG; None if there is none."""
    found = shard.members.find(name)
    if found is None and name.endswith(JPEG):
        return shard.members.find(name.removesuffix(JPEG) + WEBP)
    return found


def _locate(path, missing_ok=False):
    """(shard, name of the member) of a path; shard None for a path on disk.

    missing_ok: whether a shard that does not exist counts as a path on disk.
    """
    member = MEMBER.fullmatch(os.fspath(path))
    if member is None:
        return None, None
    path_shard, clip, frame, name = member.groups()
    name = name or f"{clip}.{frame}"
    if path_shard.startswith(SERVERS):
        return _open_remote(path_shard), name
    try:
        status = os.stat(path_shard)
    except FileNotFoundError:
        if missing_ok:
            return None, None
        raise
    if stat.S_ISDIR(status.st_mode):
        return None, None
    try:
        status_index = os.stat(path_index(path_shard))
    except FileNotFoundError:
        check_index(path_shard)
        raise
    return _open_local(path_shard, _state(status), _state(status_index)), name


def _state(status):
    """What differs between a file and the one that replaces it."""
    return status.st_ino, status.st_size, status.st_mtime_ns


class _LocalShard:
    """A shard on disk, open until nothing refers to it."""

    def __init__(self, path, state):
        self.path, self.members, self._state = path, Members(path), state
        _, size, _ = state
        self.members.check_size(size)
        with open_regular(path) as file:
            self._handle = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._handle)

    def reopen(self):
        """Another descriptor of the file; None if it has been replaced. Raises OSError."""
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        if _state(os.fstat(handle)) == self._state:
            return handle
        os.close(handle)
        return None

    def read_at(self, offset, count):
        """Exactly `count` bytes from `offset` on. Raises OSError."""
        parts, done = [], 0
        while done < count:
            part = os.pread(self._handle, count - done, offset + done)
            if not part:
                raise OSError(errno.EIO, "the shard is truncated", self.path)
            parts.append(part)
            done += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


@functools.lru_cache(MAX_OPEN)
def _open_local(path, state, state_index):
    """The shard in a file; other states of the file or its index are another shard."""
    return _LocalShard(path, state)


@functools.lru_cache(MAX_OPEN)
def _open_remote(path):
    from dataset.shards.remote import RemoteShard  # needs packages that are optional

    return RemoteShard(path)
