"""Work in processes of which any may be killed: it is replaced, and its work is done again.

concurrent.futures' pool gives up all work if one process is killed, and then may wait for ever: the thread
that feeds it does not notice while another process, e.g. of a data loader, has a copy of the pipe.
"""

import logging
import multiprocessing
import threading
import traceback
from concurrent.futures import CancelledError, ThreadPoolExecutor
from multiprocessing.connection import wait

from engine.processes.children import end_with_parent, leave_signals
from utils import Fault

ATTEMPTS = 3  # processes that one piece of work may end

logger = logging.getLogger(__name__)


class _Ended(Exception):
    """A worker process ended with work to do."""


class Pool:
    """Up to `num_workers` processes, each started when it is first needed; a context.

    prepare: a function without arguments that each process calls first.
    """

    def __init__(self, num_workers, prepare):
        self._prepare = prepare
        # A thread for each process: it sends the work, waits for the result and notices a death.
        self._threads = ThreadPoolExecutor(num_workers, "pool", initializer=leave_signals)
        self._own = threading.local()  # .worker: the process of this thread
        self._workers = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def submit(self, function, *args):
        """A future of function(*args), computed in a process.

        Its result raises the function's error, or Fault if `ATTEMPTS` processes were killed over it.
        """
        return self._threads.submit(self._run, function, args)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        """End the processes: after their work, or at once if there was an error."""
        if any(error):
            self._end()
        self._threads.shutdown(cancel_futures=any(error))
        self._end()

    def _run(self, function, args):
        for _ in range(ATTEMPTS):
            worker = self._find_worker()
            try:
                value, error, text = worker.call(function, args)
            except _Ended as ended:
                self._own.worker = None
                if self._is_closed:
                    raise CancelledError from None
                reason = str(ended)
                logger.warning("a worker process %s; another one does its work", reason)
                continue
            if error is not None:
                raise error from RuntimeError(f"in a worker process:\n{text}")
            return value
        raise Fault(
            f"worker processes that score and write pages {reason} {ATTEMPTS} times: lower --workers, or "
            "--num_vis; the same command goes on"
        )

    def _find_worker(self):
        worker = getattr(self._own, "worker", None)
        if worker is None:
            with self._lock:  # also: one process starts at a time
                if self._is_closed:
                    raise CancelledError
                worker = self._own.worker = _Worker(self._prepare)
                self._workers.add(worker)
        return worker

    def _end(self):
        with self._lock:
            self._is_closed = True
        for worker in self._workers:
            worker.end()


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, prepare):
        context = multiprocessing.get_context("spawn")  # forking a process with threads may hang
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, prepare), name="pool worker", daemon=True)
        self._process.start()
        other.close()  # so that the pipe breaks if the process ends

    def call(self, function, args):
        """(value, None, "") or (None, error, its traceback) of the function; raises `_Ended`."""
        try:
            self._pipe.send((function, args))
            wait([self._pipe, self._process.sentinel])
            if self._pipe.poll():
                return self._pipe.recv()
        except (EOFError, ConnectionError):
            pass
        self._process.join()
        code = self._process.exitcode
        raise _Ended(f"ended by signal {-code} (out of memory?)" if code < 0 else f"ended with status {code}")

    def end(self):
        """End the process now."""
        self._process.kill()
        self._process.join()


def _work(pipe, prepare):
    end_with_parent()
    prepare()
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        try:
            answer = function(*args), None, ""
        except Exception as error:  # it is the result
            answer = None, error, traceback.format_exc()
        pipe.send(answer)
