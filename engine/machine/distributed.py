"""torchrun: ranks and communication.

Without torchrun there is one process, and all functions return at once. Objects, counts and flags are sent
with gloo through the CPU; gradients and statistics with nccl if they are on GPUs.
"""

import contextlib
import functools
import io
import os
import sys
import time
import uuid
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.machine.sync_norm import synchronise_norms
from utils import EXIT_STOPPED, EXIT_USER_ERROR, Stopped, UserError

TIMEOUT = timedelta(hours=1)  # for the other processes to wait in while rank 0 writes pages
POLL = 0.05  # seconds between two reads of torchrun's store
# Keys in torchrun's store, which survives restarts of the processes.
ATTEMPT, TOLD, STOPPED, BEGUN = "attempt", "told", "stopped", "begun"

_store = None  # torchrun's, inside a session


def rank():
    """The number of this process; 0 writes files, logs and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size():
    """The number of processes, on all machines."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main():
    """True in rank 0, which writes files, logs and prints."""
    return rank() == 0


def main_only(function):
    """Decorate a function without a result, so that only rank 0 runs it."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        if is_main():
            function(*args, **kwargs)

    return wrapper


def processes():
    """(number of processes, number of them on this machine)."""
    return world_size(), int(os.environ["LOCAL_WORLD_SIZE"]) if dist.is_initialized() else 1


def gpus_present():
    """The number of GPUs that this process may use: all, or at most one under torchrun."""
    return min(torch.cuda.device_count(), 1 if dist.is_initialized() else sys.maxsize)


def choose_device(num_gpus):
    """The device of this process, made the current one under torchrun.

    Raises UserError if torchrun started more processes than there are GPUs.
    """
    if not num_gpus or not dist.is_initialized():
        return torch.device("cuda" if num_gpus else "cpu")
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= count:
        raise UserError(
            f"torchrun started {processes()[1]} processes on a machine with {count} GPUs: "
            f"use --nproc-per-node {count}, or --num_gpus 0 for the CPU"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


@contextlib.contextmanager
def session():
    """Join torchrun's process group; a UserError or `Stopped` in any process stops all of them.

    One process raises the error, so that it is printed once. The others exit quietly, whether they had the
    same error or lost their connection. After a UserError, restarts exit at once, since they would fail in
    the same way. After `Stopped` they go on: torchrun sends SIGTERM to the others of a killed process, too.
    """
    global _store
    if not dist.is_torchelastic_launched():
        yield
        return
    _store, number, size = next(iter(dist.rendezvous("env://", timeout=TIMEOUT)))
    if _store.check([TOLD]):
        sys.exit(EXIT_USER_ERROR)
    attempt = _meet(_store, number, size)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store = dist.PrefixStore(f"{ATTEMPT}/{attempt}", _store)
    dist.init_process_group(backend, store=store, rank=number, world_size=size, timeout=TIMEOUT)
    _recall(attempt)
    try:
        yield
    except (UserError, OSError, Stopped) as error:
        is_stopped = isinstance(error, Stopped)
        if not _first_to_tell(f"{attempt}/{STOPPED}" if is_stopped else TOLD):
            sys.exit(EXIT_STOPPED if is_stopped else EXIT_USER_ERROR)
        raise
    except Exception:
        if _was_told(attempt):  # this is only a connection lost to the process that reported its error
            sys.exit(EXIT_USER_ERROR)
        raise
    dist.destroy_process_group()
    _store = None


def _meet(store, number, size):
    """The number of this attempt, the same in all processes that are alive.

    torchrun's store survives restarts and still has the addresses of dead processes, and torchrun's count of
    restarts differs between machines. So rank 0 counts attempts, and lists the processes that have joined.
    """
    me = uuid.uuid4().hex
    if number == 0:
        attempt = store.add(ATTEMPT, 1)
        keys = [f"{attempt}/{other}" for other in range(1, size)]
        while not store.check(keys):  # not `get`, which torchrun could only end with SIGKILL, after 30 s
            time.sleep(POLL)
        names = [store.get(key) for key in keys]
        store.set(f"{attempt}/met", b" ".join(names))
        return attempt
    while True:
        attempt, met = store.add(ATTEMPT, 0), False
        if attempt:
            store.set(f"{attempt}/{number}", me)
            key = f"{attempt}/met"
            met = store.check([key]) and me in store.get(key).decode().split()
        if met:
            return attempt
        time.sleep(POLL)


def _recall(attempt):
    """Restore that the run has begun in a store that does not know it, since it moved to another machine."""
    restarts = gather(int(os.environ["TORCHELASTIC_RESTART_COUNT"]))
    if attempt == 1 and max(restarts):
        _store.set(BEGUN, b"")


@main_only
def mark_begun():
    """Record that this torchrun session created the run, see `has_begun`."""
    if _store:
        _store.set(BEGUN, b"")


def has_begun():
    """True if this process is a restart after `mark_begun`: there is a run to resume."""
    return _store is not None and _store.check([BEGUN])


def is_restart():
    """True if torchrun has restarted this process."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def _first_to_tell(key=TOLD):
    """True in the one process that is to report a mistake or a stop, False in all others."""
    try:
        return _store.add(key, 1) == 1
    except RuntimeError:  # the process that held the store has ended
        return False


def _was_told(attempt):
    """Whether a process has reported why it ended; also if it has taken the store with it."""
    try:
        return _store.check([TOLD]) or _store.check([f"{attempt}/{STOPPED}"])
    except RuntimeError:
        return True


@contextlib.contextmanager
def one_voice():
    """If the block exits, as argparse does on errors and for --help, only one process prints its output."""
    if not dist.is_initialized():
        yield
        return
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    except SystemExit:
        if _first_to_tell():
            print(out.getvalue(), end="", flush=True)
            print(err.getvalue(), end="", file=sys.stderr, flush=True)
        raise


def gather(value):
    """[value of each process], the same list everywhere; waits for all processes."""
    if not dist.is_initialized():
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def check_same(values):
    """Raise UserError, naming the keys that differ, unless the dict `values` is the same in all processes."""
    for number, found in enumerate(gather(values)):
        differing = sorted(key for key in values | found if values.get(key) != found.get(key))
        if differing:
            raise UserError(
                f"processes {rank()} and {number} differ in {', '.join(differing)}: all machines need the "
                "same command and the same files at the same paths"
            )


def everywhere(*flags):
    """[True for each flag that is true in all processes]; waits for all processes."""
    return _reduce(torch.tensor([int(flag) for flag in flags]), dist.ReduceOp.MIN).bool().tolist()


def mean(value):
    """The mean of a number over all processes; waits for all processes."""
    return _reduce(torch.tensor(value, dtype=torch.float64), dist.ReduceOp.SUM).item() / world_size()


def _reduce(tensor, operation):
    if dist.is_initialized():
        dist.all_reduce(tensor, operation)
    return tensor


def share_gradients(module, device, sync_bn=False):
    """The module to call in training: under torchrun it averages gradients over all processes.

    It knows only the parameters that are trained now: call this again, with its result, to train more.
    sync_bn: batch normalisation also uses the batches of all processes. Otherwise each process keeps its own
    statistics until `average_norms`.
    """
    if not dist.is_initialized():
        return module
    if isinstance(module, nn.parallel.DistributedDataParallel):
        module = module.module
    if sync_bn:
        synchronise_norms(module, device)
    ids = [device.index] if device.type == "cuda" else None
    model = nn.parallel.DistributedDataParallel(module, device_ids=ids)
    model.broadcast_buffers = False  # newer versions of torch rename the constructor's argument
    return model


def sharing(model, due):
    """The context of a forward and backward pass; gradients stay in this process unless `due`."""
    if due or not isinstance(model, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext()
    return model.no_sync()


def average_gradients(module):
    """Average gradients over all processes, as a backward pass does whose `sharing` is due."""
    for gradient in (parameter.grad for parameter in module.parameters() if parameter.grad is not None):
        gradient.copy_(_reduce(gradient.clone(), dist.ReduceOp.SUM) / world_size())


def norm_statistics(module):
    """[running mean or variance] of all batch normalisation, unless fixed: each process may have its own."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]
    return [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]


@torch.no_grad()
def average_norms(module):
    """Average the running statistics of batch normalisation over all processes, unless they are fixed."""
    for buffer in norm_statistics(module):
        buffer.copy_(_reduce(buffer.clone(), dist.ReduceOp.SUM) / world_size())
