"""Signals that ask a run to stop: a step ends, the run is saved, and the process exits with EXIT_STOPPED."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time

from engine.processes.children import FOR_PARENT
from utils import Stopped

# In these seconds after the first signal, others are copies of it: a terminal and Slurm reach all processes,
# and torchrun passes on what it gets.
COPIES = 2
STATUS = 128  # plus the signal's number: the shells' convention


class Stop:
    """Within the block, the first of FOR_PARENT is a request; a later one ends this process and its children.

    name: of the signal that came, "" before. Only the main thread receives signals.
    """

    def __init__(self, clock=time.monotonic):
        self.name = ""
        self._clock = clock
        self._since = None
        self._raises = False
        self._handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._receive) for number in FOR_PARENT}
        return self

    def __exit__(self, *error):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self):
        """Within the block, which a resumed run repeats, a request raises `Stopped`; elsewhere it waits."""
        self._raises = True
        try:
            if self.name:
                raise Stopped(self.name)
            yield
        finally:
            self._raises = False

    def _receive(self, number, frame):
        now = self._clock()
        if not self.name:
            self.name, self._since = signal.Signals(number).name, now
            if self._raises:
                raise Stopped(self.name)
        elif now - self._since > COPIES:
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(STATUS + number)
