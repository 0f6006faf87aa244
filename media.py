"""Files that others made: only regular files are opened, and ffmpeg reads and writes within limits."""

import contextlib
import errno
import math
import os
import re
import signal
import stat
import subprocess
import threading

import limits
from utils import UserError

NO_COMPLAINTS = "Conversion failed!", "frame=", "size=", "[out#"  # ffmpeg's last lines that explain nothing
LOG_LEVEL = re.compile(r"\[(?:fatal|error|warning|info)\] ")  # in ffmpeg's lines, with -loglevel level+…
# What exit statuses of ffmpeg mean. It catches SIGXCPU, and exits with 255 after any signal.
TOO_SLOW = "more than {seconds:.0f} s of processor time (SOP_FFMPEG_SECONDS), or a signal"
TOO_LARGE = "a file of too many bytes (SOP_FFMPEG_OUTPUT_BYTES)"
TOO_MUCH = "too much memory (SOP_FFMPEG_BYTES), or a crash"
STOPPED = {255: TOO_SLOW, -signal.SIGXCPU: TOO_SLOW, -signal.SIGXFSZ: TOO_LARGE, -signal.SIGABRT: TOO_MUCH}
# Allocators reserve address space for each thread, which counts as memory.
FFMPEG_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}


@contextlib.contextmanager
def writing_sound(path):
    """Within the block, libsndfile's errors become an OSError that names `path`, e.g. if the disk is full."""
    import soundfile  # here: most commands do not need it

    try:
        yield
    except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts that all was written
        reason = getattr(error, "error_string", None) or "not all of it was written"
        raise OSError(f"{path}: cannot be written: {reason}") from None


def path_ffmpeg():
    """The path of the ffmpeg that imageio-ffmpeg bundles or finds. Raises UserError if there is none."""
    import imageio_ffmpeg  # here: --help and mistakes are answered without it

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise UserError(f"ffmpeg not found: {error}") from None


def file_url(path):
    """A URL that ffmpeg cannot mistake for an option (`-x.mp4`) or a protocol (`a:b.mp4`)."""
    return f"file:{os.path.abspath(path)}"


def open_regular(path):
    """Open a file for reading bytes. Raises OSError, also for pipes and devices: they may never end."""
    return open(path, "rb", opener=_open_regular)


def _open_regular(path, flags):
    _check_regular(path, os.stat(path))
    handle = os.open(path, flags | os.O_NONBLOCK)  # it may have become a pipe in the meantime
    try:
        _check_regular(path, os.fstat(handle))
    except OSError:
        os.close(handle)
        raise
    return handle


def _check_regular(path, status):
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # `open` refuses folders
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))


@contextlib.contextmanager
def time_limit(name, seconds=None):
    """Within the block, raise UserError, naming `name`, after `seconds`: a network disk may never answer.

    seconds: None for `limits.SECONDS_TO_READ`. Only the main thread of a process can be interrupted, and only
    where the system has SIGALRM; elsewhere the block has no limit.
    """
    seconds = limits.SECONDS_TO_READ if seconds is None else seconds
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number, frame):
        raise UserError(f"{name}: not read within {seconds:g} s (SOP_SECONDS_TO_READ)")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def media_input(path):
    """ffmpeg's arguments to read a file that others made: a regular file in a known container, and no other.

    Raises UserError if it is no regular file that can be read.
    """
    try:
        open_regular(path).close()
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    source = ["-protocol_whitelist", "file", "-format_whitelist", limits.CONTAINERS]
    return [*source, "-max_pixels", str(limits.MAX_PIXELS), "-i", file_url(path)]


def run_ffmpeg(arguments, data=None, log=None, ffmpeg=None, seconds=limits.FFMPEG_SECONDS):
    """Run ffmpeg with `arguments` (a list of str), overwriting outputs; `data` (bytes) goes to its stdin.

    log: a list to which its log lines are added; ffmpeg: the binary, None for imageio-ffmpeg's; seconds: of
    processor time that it may take. Returns its standard output (bytes). Raises UserError with ffmpeg's last
    error message if it fails, or exceeds one of the limits in limits.py.
    """
    start = [ffmpeg or path_ffmpeg(), "-hide_banner", "-loglevel", "error", "-y"]
    pipes = {"stdin": subprocess.DEVNULL if data is None else subprocess.PIPE}
    pipes |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        process = subprocess.Popen(start + list(arguments), env=os.environ | FFMPEG_ENVIRONMENT, **pipes)
    except OSError as error:
        raise UserError(f"{start[0]}: cannot be run as ffmpeg: {error}") from None
    with process:
        try:
            _limit_process(process.pid, seconds)
            output, errors = process.communicate(data)
        except BaseException:
            process.kill()
            raise
    lines = errors.decode(errors="replace").strip().splitlines()
    if log is not None:
        log += lines
    if process.returncode:
        reason = STOPPED.get(process.returncode, "").format(seconds=seconds) or _complaint(lines)
        raise UserError(f"ffmpeg failed ({process.returncode}): {reason}")
    return output


def _limit_process(pid, seconds):
    """Limit the memory, the processor time and the files of a process, where the system can (Linux)."""
    import resource

    if not hasattr(resource, "prlimit"):
        return
    wanted = {
        resource.RLIMIT_AS: limits.FFMPEG_BYTES,
        resource.RLIMIT_CPU: math.ceil(seconds),
        resource.RLIMIT_FSIZE: limits.FFMPEG_OUTPUT_BYTES,
    }
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        for kind, value in wanted.items():
            _, most = resource.prlimit(pid, kind)
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.prlimit(pid, kind, (value, most))


def _complaint(lines):
    """The last line of ffmpeg's log that explains a failure."""
    lines = [re.sub(LOG_LEVEL, "", line) for line in lines]
    explaining = [line for line in lines if not line.startswith(NO_COMPLAINTS)] or ["no message"]
    hint = " (SOP_FFMPEG_BYTES)" if "Cannot allocate memory" in explaining[-1] else ""
    return explaining[-1] + hint
