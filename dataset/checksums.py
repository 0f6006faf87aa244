"""Checksums of what was decoded, so that others can tell whether their data are the same."""

import hashlib

from dataset.shards.read import open_media

SIZE = 8  # bytes
CHUNK = 1 << 20  # bytes of a file read at a time


def checksum(data):
    """A short hex checksum of bytes or of a contiguous array."""
    return hashlib.blake2b(data, digest_size=SIZE).hexdigest()


def file_checksum(path):
    """A short hex checksum of a file's bytes. Raises OSError if it cannot be read."""
    found = hashlib.blake2b(digest_size=SIZE)
    with open_media(path) as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()
