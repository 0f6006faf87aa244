"""What memory, disks and killed processes do to a command, in one line each."""

import contextlib
import errno
import os
import re
import shutil
import threading

from utils import Fault, UserError

SHARED = "/dev/shm"  # where data loaders put their batches
# Parts of messages of torch, which raises RuntimeError for all of these.
NO_SHARED = ("shared memory", "(shm)", "Bus error", "/torch_")
NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "could not create a memory object",
    "bad_alloc",
    "can't start new thread",
)
NO_GPU_MEMORY = ("CUDA out of memory", "CUDA error: out of memory")
NOT_WRITTEN = ("inline_container", "PytorchStreamWriter", "iostream error")
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}
AGAIN = "the same command goes on from what is saved"


@contextlib.contextmanager
def one_line(folder):
    """Raise Fault, with one line, instead of what a full memory or disk or a killed process raises.

    folder: where the command writes.
    """
    hook, threading.excepthook = threading.excepthook, _leave_to_main
    try:
        yield
    except Exception as error:
        reason = explain(error, folder)
        if reason is None:
            raise
        raise Fault(reason) from error
    finally:
        threading.excepthook = hook


def _leave_to_main(found):
    """TensorBoard's thread fails if the disk is full, and the main thread then gets the same error."""
    if not isinstance(found.exc_value, OSError):
        threading.__excepthook__(found)


def explain(error, folder):
    """The line for the first of the errors that led to this one; None if they are of other kinds."""
    reason = None
    while error is not None and not isinstance(error, UserError):
        reason = _explain_one(error, folder) or reason
        error = error.__cause__ or error.__context__
    return str(error) if isinstance(error, Fault) else reason  # closing files after a fault may fail, too


def _explain_one(error, folder):
    text = str(error)

    def has(parts):
        return isinstance(error, RuntimeError) and any(part in text for part in parts)

    if isinstance(error, OSError) and error.errno in FULL:
        return _not_written(os.fsdecode(error.filename or folder), error.strerror)
    if has(NOT_WRITTEN) or type(error).__name__ == "LibsndfileError":
        return _not_written(folder, text.strip().splitlines()[-1])
    if has(NO_GPU_MEMORY):
        return f"not enough GPU memory: lower --batch_size_per_gpu; {AGAIN}"
    if isinstance(error, MemoryError) or has(NO_MEMORY):
        return f"not enough memory: lower --batch_size_per_gpu or --workers; {AGAIN}"
    if has(NO_SHARED):
        return (
            f"shared memory is too small for data loading processes: {SHARED} {_space(SHARED)}; --workers 0 "
            f"needs none, and docker run --shm-size or mount -o remount,size=8G {SHARED} enlarge it"
        )
    killed = has(["DataLoader worker"]) and re.search(r"killed by signal: (.*?)\.|exited unexpectedly", text)
    if killed:
        how = f"was killed ({killed[1]})" if killed[1] else "ended unexpectedly"
        return f"a data loading process {how}; out of memory? Then lower --workers; {AGAIN}"
    return None


def _not_written(path, reason):
    return f"{path}: cannot be written: {reason} ({_space(path)}); {AGAIN}"


def _space(path):
    """How much is free where `path` is, or would be."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    usage = shutil.disk_usage(path)
    return f"has {usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MiB free"
