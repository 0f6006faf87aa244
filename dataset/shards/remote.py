"""Shards on servers, by range requests through fsspec, with blocks of them cached on disk.

The cache is the folder SOP_SHARD_CACHE. Its files are complete or absent, and all processes of a machine
share it: whoever adds a file deletes those not used for longest, so that it stays within
SOP_SHARD_CACHE_BYTES. What is cached is never asked for again: a shard that changes needs a new name.
"""

import contextlib
import functools
import hashlib
import logging
import os
import time

import limits
from dataset.shards.members import Members, path_index
from utils import UserError, replacing

BLOCK = 4 << 20  # bytes per request
TRIES = 6
FIRST_WAIT = 0.5  # seconds before the second try; each further one waits twice as long
FINAL_STATUSES = {400, 401, 403, 410, 416}  # answers that are the same the next time
FOLDER = os.path.join("~", ".cache", "sound-of-pixels", "shards")

logger = logging.getLogger(__name__)

_warned = set()  # folders on servers


class RemoteShard:
    """A shard on a server. Raises UserError, naming it, if it or its index cannot be read."""

    def __init__(self, url):
        self.url = url
        self._key = hashlib.sha256(os.fsencode(url)).hexdigest()[:32]
        path = self._path("index.npy")
        if not os.path.exists(path):
            self._retry(path_index(url), lambda: self._fetch_index(path))
        self.members = Members(url, path)

    @staticmethod
    def reopen():
        """None: there is no file."""

    def read_at(self, offset, count):
        """Exactly `count` bytes from `offset` on."""
        parts, end = [], offset + count
        for number in range(offset // BLOCK, -(-end // BLOCK)):
            start = number * BLOCK
            parts.append(self._read_block(number, max(offset - start, 0), min(end - start, BLOCK)))
        return b"".join(parts)

    def _read_block(self, number, first, end):
        """Bytes first … end of a block, from the cache or the server."""
        path, start = self._path(str(number)), number * BLOCK
        size = min(BLOCK, self.members.size - start)
        found = _read_cached(path, size, first, end)
        if found is None:
            data = self._retry(self.url, lambda: self._fetch(self.url, start, size))
            with contextlib.suppress(OSError):  # a full disk: the cache only saves time
                _store(path, data)
            found = data[first:end]
        return found

    def _fetch(self, url, start, size):
        files = _file_system(url.partition("://")[0], os.getpid())
        data = files.cat_file(url, start=start, end=start + size, timeout=limits.REQUEST_SECONDS)
        if len(data) > size:
            raise UserError(f"{url}: {len(data)} bytes, asked for {size}: the server knows no range requests")
        if len(data) < size:
            raise OSError(f"{len(data)} of {size} bytes")
        return data

    def _fetch_index(self, path):
        url = path_index(self.url)
        files = _file_system(url.partition("://")[0], os.getpid())
        with replacing(path) as temporary:
            with open(temporary, "wb") as file:
                file.write(files.cat_file(url, timeout=limits.REQUEST_SECONDS))
            try:
                Members(self.url, temporary)
            except UserError as error:  # perhaps truncated
                raise OSError(error) from None

    def _path(self, name):
        return os.path.join(folder_cache(), f"{self._key}-{name}")

    @staticmethod
    def _retry(url, ask):
        """The result of `ask`, which is tried again after errors that may pass."""
        for number in range(TRIES):
            try:
                return ask()
            except UserError:
                raise
            except Exception as error:  # each file system has its own
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                final = isinstance(error, (FileNotFoundError, PermissionError))
                if final or getattr(error, "status", None) in FINAL_STATUSES or number == TRIES - 1:
                    raise UserError(f"{url}: cannot be read: {reason}") from None
                _warn(os.path.dirname(url), reason)
                time.sleep(FIRST_WAIT * 2**number)
        raise AssertionError("the last try returns or raises")


def _warn(folder, reason):
    """Say once per process that requests to a folder of shards fail."""
    level = logging.DEBUG if folder in _warned else logging.WARNING
    logger.log(level, "%s: %s: such requests are sent again, for about 15 s each", folder, reason)
    _warned.add(folder)


@functools.lru_cache
def _file_system(scheme, process):
    """fsspec's file system of a scheme, for one process: connections do not survive a fork."""
    try:
        import fsspec

        return fsspec.filesystem(scheme)
    except ImportError as error:
        hint = "run `pip install -r requirements-remote.txt`"
        raise UserError(f"shards at {scheme}:// need more packages: {hint} ({error})") from None


def folder_cache():
    """The folder of cached blocks and indexes."""
    return os.path.expanduser(os.environ.get("SOP_SHARD_CACHE") or FOLDER)


def _read_cached(path, size, first, end):
    """Bytes first … end of a cached file of `size` bytes; None if it is not there."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if os.fstat(handle).st_size != size:  # a full disk, or damage
            return None
        os.utime(handle)  # used now
        return os.pread(handle, end - first, first)
    finally:
        os.close(handle)


def _store(path, data):
    """Add a file to the cache, then delete those not used for longest beyond its limit."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
    entries = []
    for entry in os.scandir(os.path.dirname(path)):
        with contextlib.suppress(FileNotFoundError):  # another process deleted it
            status = entry.stat()
            entries.append((status.st_mtime_ns, status.st_size, entry.path))
    surplus = sum(size for _, size, _ in entries) - limits.SHARD_CACHE_BYTES
    for _, size, old in sorted(entries):
        if surplus <= 0:
            break
        surplus -= size
        with contextlib.suppress(FileNotFoundError):
            os.remove(old)
