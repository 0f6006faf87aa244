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


def end_with_parent():
    """End this process and its children soon after its parent ended: a killed parent cannot end it."""
    parent = multiprocessing.parent_process().pid
    threading.Thread(target=_wait_for, args=(parent,), daemon=True).start()


def _wait_for(parent):
    while os.getppid() == parent:
        time.sleep(SECONDS)
    signal_children(signal.SIGKILL)
    os._exit(1)


def leave_signals():
    """Block `FOR_PARENT` in this thread, and in all processes that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_PARENT)


def prepare_loader(worker_id):
    """A data loader's `worker_init_fn`. Torch's own check, every 5 s, needs a worker that is idle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent ends its workers
    end_with_parent()
