"""Files of checkpoints: written durably, read back, and cleared of what killed runs left."""

import contextlib
import copy
import logging
import os
import shutil
import time

import torch

from engine.processes.lock import FILE_LOCK
from utils import Fault, UserError, find_damage, replacing

LEFT_SECONDS = 600  # a temporary file that was not written for so long is nobody's

logger = logging.getLogger(__name__)


def write_checkpoint(path, value, previous=None):
    """Write `value` with torch.save, from the CPU; the file is on disk and checked before it is renamed.

    previous: the name that the file which has been at `path` gets. Raises Fault if the file reads back
    damaged.
    """
    with replacing(path) as temporary:
        torch.save(on_cpu(value), temporary)
        _flush(temporary)
        damage = find_damage(temporary)
        if damage:
            raise Fault(f"{path}: {damage} as soon as it was written: check the disk and the memory")
        if previous and os.path.isfile(path):
            os.replace(path, previous)
    with contextlib.suppress(OSError):  # some file systems cannot flush a folder
        _flush(os.path.dirname(path))


def read_checkpoint(path):
    """Read what `write_checkpoint` wrote, to the CPU. Raises UserError if it is damaged or something else."""
    damage = find_damage(path)
    if damage:
        raise UserError(f"{path}: {damage}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for files that are not checkpoints
        raise UserError(f"{path}: not the state of a run ({error!r})") from None


def _flush(path):
    """Wait until a file, or the names of a folder's files, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def clear_remains(folder):
    """Delete the temporary files that killed runs left in a run's folder.

    Only training writes checkpoints there; other files may be those of an evaluation.
    """
    for inner, _, names in os.walk(folder):
        for path in (os.path.join(inner, name) for name in names if name.startswith(".writing-")):
            with contextlib.suppress(FileNotFoundError):
                if path.endswith(".pth") or time.time() - os.path.getmtime(path) > LEFT_SECONDS:
                    os.remove(path)
                    logger.info("removed %s, which an ended process left", path)


def copy_run(source, folder):
    """Copy the files of a run into another folder, under their names only when all are copied."""
    work = os.path.join(os.path.dirname(folder), f".copying-{os.path.basename(folder)}")
    shutil.rmtree(work, ignore_errors=True)  # of a killed run
    try:
        shutil.copytree(source, work, ignore=shutil.ignore_patterns(FILE_LOCK))
        os.makedirs(folder, exist_ok=True)
        for entry in os.scandir(work):
            os.replace(entry.path, os.path.join(folder, entry.name))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def on_cpu(value):
    """A copy of `value` with all tensors on the CPU, those in its dicts, lists and tuples as well."""
    if torch.is_tensor(value):
        return value.cpu()
    if isinstance(value, dict):
        moved = copy.copy(value)  # keeps a state dict's attributes
        moved.update({key: on_cpu(inner) for key, inner in value.items()})
        return moved
    if isinstance(value, (list, tuple)):
        return type(value)(on_cpu(inner) for inner in value)
    return value
