"""Columns of a long table: arrays in files, which processes map instead of reading the table.

They lie beside the table, in `<table>.columns/<state>`, or, where one must not write, in SOP_COLUMNS. The
state has the size and time of change of the table and of the `labels.csv` beside it: what a folder contains
never changes, so that any number of processes may open and build columns at the same time.
"""

import contextlib
import hashlib
import os
import shutil
import time
import uuid

from dataset.indexing.labels import beside
from utils import UserError

SUFFIX = ".columns"
FOLDER = os.path.join("~", ".cache", "sound-of-pixels", "columns")
TRIES = 10
LEFT_SECONDS = 24 * 3600  # after which columns that are being built count as left by a killed process


def open_columns(path, load, build):
    """What `load` returns for the folder with the columns of the table `path`.

    load: returns None for a folder that is missing or damaged; build: fills a new folder. Raises UserError if
    the table cannot be read, or the columns cannot be written.
    """
    roots = [path + SUFFIX, _elsewhere(path)]
    for _ in range(TRIES):
        state = _state(path)
        folders = [os.path.join(root, state) for root in roots]
        found = next((columns for columns in map(load, folders) if columns is not None), None)
        if found is None:
            _build(path, folders, load, build)
        elif _state(path) == state:
            return found
    raise UserError(f"{path}: changes all the time, or its columns do: {roots[0]}")


def _elsewhere(path):
    root = os.path.expanduser(os.environ.get("SOP_COLUMNS") or FOLDER)
    return os.path.join(root, hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:32])


def _state(path):
    try:
        files = [os.stat(path)]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    with contextlib.suppress(OSError):
        files.append(os.stat(beside(path)))
    return "-".join(f"{status.st_size}-{status.st_mtime_ns}" for status in files)


def _build(path, folders, load, build):
    """Fill the first of `folders` that can be written, unless another process was faster."""
    reasons = []
    for folder in folders:
        root = os.path.dirname(folder)
        temporary = os.path.join(root, f".{uuid.uuid4().hex}")
        try:
            os.makedirs(temporary)
            build(temporary)
            _rename(temporary, folder, load)
            _delete_others(root, folder)
            return
        except OSError as error:
            reasons.append(f"{root}: {error.strerror or error}")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(root)  # if nothing could be built
    raise UserError(f"{path}: its columns cannot be written (SOP_COLUMNS): {'; '.join(reasons)}")


def _rename(temporary, folder, load):
    """Give a folder its name; one that is there stays, unless it is damaged."""
    try:
        os.rename(temporary, folder)
    except OSError:
        if load(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # another process was faster
                os.rename(temporary, folder)


def _delete_others(root, folder):
    """Delete columns of former states and of killed processes; who has mapped them keeps them."""
    for entry in os.scandir(root):
        with contextlib.suppress(OSError):  # deleted by another process
            is_old = entry.stat().st_mtime < time.time() - LEFT_SECONDS
            if entry.name != os.path.basename(folder) and (is_old or not entry.name.startswith(".")):
                shutil.rmtree(entry.path, ignore_errors=True)
