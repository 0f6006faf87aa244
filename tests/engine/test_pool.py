"""Worker processes that are killed, and what becomes of their work."""

import multiprocessing
import os
import signal
import subprocess
import time

import pytest

from engine.processes.pool import Pool
from utils import Fault, UserError

LARGE = 8 << 20  # bytes; more than a pipe holds
SECONDS = 300  # after which a hanging pool fails its test


def nothing():
    pass


def die_once(marker, data):
    """The length of `data`; the first call kills its process."""
    if not os.path.exists(marker):
        open(marker, "x").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return len(data)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fail(error):
    raise error


def pid_after(seconds):
    time.sleep(seconds)
    return os.getpid()


def results(futures):
    return [future.result(timeout=SECONDS) for future in futures]


def test_a_killed_worker_is_replaced_and_all_work_is_done(tmp_path, caplog):
    marker = str(tmp_path / "killed")
    with Pool(1, nothing) as pool:
        futures = [pool.submit(die_once, marker, bytes(LARGE)) for _ in range(6)]
        assert results(futures) == 6 * [LARGE]
    assert "a worker process ended by signal 9" in caplog.text


def test_work_that_kills_each_worker_ends_in_one_line():
    with Pool(1, nothing) as pool:
        lost = pool.submit(die)
        expected = r"ended by signal 9 \(out of memory\?\) 3 times: lower --workers"
        with pytest.raises(Fault, match=expected):
            lost.result(timeout=SECONDS)
        assert pool.submit(len, "abc").result(timeout=SECONDS) == 3


def test_errors_of_the_work_are_those_of_the_result():
    with Pool(1, nothing) as pool:
        for error in (UserError("a.mp4: damaged"), OSError(28, "No space left on device")):
            with pytest.raises(type(error)) as found:
                pool.submit(fail, error).result(timeout=SECONDS)
            assert str(found.value) == str(error)
            assert "in fail" in str(found.value.__cause__)


def test_leaving_by_an_error_ends_workers_at_once():
    pool = Pool(1, nothing)
    pool.submit(nothing).result(timeout=SECONDS)
    queued = [pool.submit(pid_after, 10 * SECONDS) for _ in range(3)]
    started = time.monotonic()
    pool.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert time.monotonic() - started < SECONDS
    assert all(future.done() for future in queued)
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("pool")]


def test_workers_do_not_see_signals_to_the_whole_group():
    """Ctrl-C reaches all processes of the terminal: the parent decides what becomes of them."""
    with Pool(1, nothing) as pool:
        worker = pool.submit(pid_after, 0).result(timeout=SECONDS)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            subprocess.run(["bash", "-c", f"kill -{number.value} {worker}"], check=True)
        assert pool.submit(pid_after, 0).result(timeout=SECONDS) == worker
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())  # in this thread
