"""Videos that wait for separation, one after another in a thread of its own, and their results on disk."""

import contextlib
import logging
import os
import queue
import re
import secrets
import shutil
import threading
import time
from dataclasses import dataclass
from typing import ClassVar

from media import media_input, run_ffmpeg
from utils import UserError, watch_progress

QUIET_SECONDS = 1  # that the end may take without a word
TIME = re.compile(rb"^out_time_us=(\d+)", re.MULTILINE)  # in ffmpeg's -progress

logger = logging.getLogger(__name__)


class _Stopped(Exception):
    """The server ends: abandon the video in work."""


@dataclass
class Job:
    """One video. `name` is what its sender calls it: text to show, never a path."""

    id: str
    name: str
    upload: str  # file
    folder: str  # of the results
    state: str = "waiting"  # then "working", then "done" or "failed"
    step: str = ""  # label of the progress bar
    done: int = 0  # windows
    total: int = 0
    text: str = ""  # a line about the result, or the error
    files: tuple = ()  # names of the wavs in `folder`

    SHOWN: ClassVar = ("id", "name", "state", "step", "done", "total", "text", "files")

    def shown(self):
        """A dict of what the page may know."""
        return {key: getattr(self, key) for key in self.SHOWN}


class Jobs:
    """A context: the jobs of a server and their thread. At its end, the video in work is abandoned.

    uploads, results: existing folders; separate: a function (path, folder, name) -> a line about the result,
    which writes index.html and wavs to `folder`. It raises UserError for videos that cannot be used.
    """

    def __init__(self, uploads, results, separate):
        self._uploads, self._results, self._separate = uploads, results, separate
        self._jobs = {}
        self._queue = queue.Queue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(QUIET_SECONDS)
        if self._thread.is_alive():
            logger.info("waiting for the video in work, up to its next window; Ctrl-C again ends at once")
            self._thread.join()

    def add(self, name, stream):
        """Save a binary stream and queue it; returns its `Job`. Raises UserError if it is empty."""
        key = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(8)
        name = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
        job = Job(key, name, os.path.join(self._uploads, key), os.path.join(self._results, key))
        try:
            with open(job.upload, "xb") as file:
                shutil.copyfileobj(stream, file)
                if not file.tell():
                    raise UserError(f"{name}: the file is empty")
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.remove(job.upload)
            raise
        self._jobs[key] = job
        self._queue.put(job)
        return job

    def all(self):
        """The jobs as dicts, oldest first."""
        return [job.shown() for job in list(self._jobs.values())]

    def folder(self, key):
        """The folder of a finished job's results, or None."""
        job = self._jobs.get(key)
        return job.folder if job and job.state == "done" else None

    def _work(self):
        while (job := self._queue.get()) and not self._stopping.is_set():
            self._run(job)

    def _run(self, job):
        job.state = "working"
        try:
            with watch_progress(lambda *progress: self._report(job, *progress)):
                job.text = self._separate(job.upload, job.folder, job.name)
            names = [name for name in os.listdir(job.folder) if name.endswith(".wav")]
            job.files = tuple(sorted(names, key=lambda name: (name == "residual.wav", name)))
            state = "done"
        except Exception as error:  # whatever it was, the server goes on
            job.text, state = self._complaint(job, error), "failed"
            shutil.rmtree(job.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.remove(job.upload)
        logger.info("%s: %s: %s", state, job.name, job.text)
        job.state = state  # last: readers then find the rest complete

    @staticmethod
    def _complaint(job, error):
        """The line that tells the user about an exception."""
        if isinstance(error, _Stopped):
            return "the server was stopped"
        if isinstance(error, (UserError, OSError)):
            return str(error).replace(job.upload, job.name)
        logger.error("%s", job.name, exc_info=error)
        return "an error in the program: its terminal says which"

    def _report(self, job, step, done, total):
        if self._stopping.is_set():
            raise _Stopped
        job.step, job.done, job.total = step, done, total


def check_seconds(path, max_seconds):
    """Raise UserError if a video is longer than `max_seconds`; counted, as headers may lack the duration.

    What cannot be read passes: the separation says why it cannot.
    """
    tracks = ["-map", "0:V?", "-map", "0:a?", "-c", "copy", "-t", str(max_seconds + 1)]
    try:
        log = run_ffmpeg([*media_input(path), *tracks, "-progress", "-", "-f", "null", "-"])
    except UserError:
        return
    if max(map(int, TIME.findall(log)), default=0) > max_seconds * 1e6:
        raise UserError(f"longer than {max_seconds} s, the most that this server takes (--max_seconds)")
