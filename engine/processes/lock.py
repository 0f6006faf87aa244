"""A lock file: one process at a time writes a folder, on whatever machine it runs.

The file says who holds it. A process of this machine is looked up; one of another machine is believed to be
alive while it touches the file.
"""

import contextlib
import json
import logging
import os
import socket
import tempfile
import threading
import uuid

from utils import Fault, UserError

FILE_LOCK = "training.lock"
TOUCH_SECONDS = 30  # between two touches
STALE_SECONDS = 600  # without a touch, after which a process of another machine counts as dead
WRITE_SECONDS = 10  # that a new file may be empty

logger = logging.getLogger(__name__)


class Lock:
    """Holds `folder`/training.lock; a context. The folder is made if there is none.

    is_restart: the lock of another machine is taken over, as this process continues that one's work. Raises
    UserError, saying who holds it and what to do, if another process does.
    """

    def __init__(self, folder, is_restart=False):
        self.folder = folder
        self.path = os.path.join(folder, FILE_LOCK)
        self._is_restart = is_restart
        self._holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
        self._holder |= {"boot": _boot(), "id": uuid.uuid4().hex}
        self._ended = threading.Event()

    def __enter__(self):
        os.makedirs(self.folder, exist_ok=True)
        while not self._create():
            self._take_over()
        threading.Thread(target=self._keep_touching, daemon=True).start()
        return self

    def __exit__(self, *_):
        """Delete the file, and the folder if nothing else is in it."""
        self._ended.set()
        if self._is_mine():
            os.remove(self.path)
            with contextlib.suppress(OSError):  # it has files
                os.rmdir(self.folder)

    def check(self):
        """Raise Fault unless this process still holds the lock: nothing is to be written any more."""
        if not self._is_mine():
            raise Fault(
                f"{self.path} is gone or of another process: the folder was moved or deleted, or another run "
                "took it over; this one ends and leaves it as it is"
            )

    def _create(self):
        """True if there was no file; O_EXCL works on network file systems as well."""
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        try:
            with open(handle, "w") as file:
                json.dump(self._holder, file)
                file.flush()
                os.fsync(handle)
        except OSError:  # a full disk
            os.remove(self.path)
            raise
        return True

    def _take_over(self):
        """Remove the file if its holder is dead. Raises UserError if it is not."""
        try:
            holder, age = _read(self.path), self._age()
        except FileNotFoundError:
            return
        self._refuse_if_alive(holder, age)
        aside = f"{self.path}.{self._holder['id']}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, aside)
            if _read(aside) != holder:  # another process was faster, this is its new lock
                with contextlib.suppress(FileExistsError):
                    os.link(aside, self.path)
            else:
                logger.info("%s: taken over from %s, which has ended", self.path, _name(holder))
            os.remove(aside)

    def _refuse_if_alive(self, holder, age):
        text = f"{self.folder}: a training is running there: "
        if not holder:
            if age < WRITE_SECONDS:
                raise UserError(f"{text}{self.path} was just made")
        elif holder["host"] != self._holder["host"]:
            if age < STALE_SECONDS and not self._is_restart:
                raise UserError(
                    f"{text}{_name(holder)}, which reported {max(age, 0):.0f} s ago; use another --id. If it "
                    f"is dead, wait {STALE_SECONDS // 60} minutes or remove {self.path}"
                )
        elif holder["boot"] == self._holder["boot"] and _started(holder["pid"]) == holder["started"]:
            raise UserError(f"{text}{_name(holder)}; end it first, or use another --id")

    def _age(self):
        """Seconds since the file was touched, by the clock of its file system."""
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".now-") as now:
            return os.stat(now.name).st_mtime - os.stat(self.path).st_mtime

    def _is_mine(self):
        try:
            return _read(self.path) == self._holder
        except OSError:
            return False

    def _keep_touching(self):
        while not self._ended.wait(TOUCH_SECONDS):
            with contextlib.suppress(OSError):  # `check` complains
                os.utime(self.path)


def _name(holder):
    if not holder:
        return "an unknown process"
    return f"process {holder['pid']} on {holder['host']}"


def _read(path):
    """What a lock file says; {} if it is empty or damaged."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    try:
        holder = json.loads(text)
    except ValueError:
        return {}
    keys = {"host", "pid", "started", "boot"}
    return holder if isinstance(holder, dict) and keys <= holder.keys() else {}


def _started(pid):
    """When a process started, in ticks since boot, which tells it from a later one of its number.

    None if there is no such process; 0 if the system does not say.
    """
    if not os.path.isdir("/proc/self"):
        return 0 if _exists(pid) else None
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if state in (b"Z", b"X") else int(fields[18])  # see proc(5); a zombie has ended


def _exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _boot():
    """A name of the time since the system started; "" if it has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
