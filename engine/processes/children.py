"""Child processes: they end with their parent, and leave signals to it."""

import multiprocessing
import os
import signal
import threading
import time

from utils import signal_children

SECONDS = 0.5  # between two looks at the parent
# What a terminal, Slurm or an operator sends to all processes at once; the parent decides what they mean.
FOR_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
KNOWS_SENDERS = hasattr(signal, "sigtimedwait")  # macOS does not: there, SIGTERM from anybody ends a loader


def end_with_parent():
    """End this process and its children when its parent sends SIGTERM, and soon after the parent ended.

    A killed parent cannot end it. SIGTERM is to be blocked, see `leave_signals`: from others, it is ignored.
    """
    parent = multiprocessing.parent_process().pid
    threading.Thread(target=_wait_for, args=(parent,), daemon=True).start()


def _wait_for(parent):
    while os.getppid() == parent:
        if not KNOWS_SENDERS:
            time.sleep(SECONDS)
            continue
        received = signal.sigtimedwait([signal.SIGTERM], SECONDS)
        if received and received.si_pid == parent:
            break
    signal_children(signal.SIGKILL)
    os._exit(1)


def leave_signals():
    """Block `FOR_PARENT` in this thread, and in all processes that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_PARENT)


def prepare_loader(worker_id):
    """A data loader's `worker_init_fn`: it outlives signals to all processes, and ends with its parent.

    The parent's last step needs this worker's batch. Torch's own check, every 5 s, needs an idle worker.
    """
    if KNOWS_SENDERS:
        leave_signals()
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
