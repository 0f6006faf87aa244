"""Small helpers with no better home."""

import argparse
import contextlib
import contextvars
import difflib
import errno
import functools
import io
import json
import logging
import math
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time

from tqdm import tqdm

import limits

EXIT_USER_ERROR = 2  # the same as argparse's
NO_COMPLAINTS = "Conversion failed!", "frame=", "size=", "[out#"  # ffmpeg's last lines that explain nothing
LOG_LEVEL = re.compile(r"\[(?:fatal|error|warning|info)\] ")  # in ffmpeg's lines, with -loglevel level+…
# What exit statuses of ffmpeg mean. It catches SIGXCPU, and exits with 255 after any signal.
TOO_SLOW = "more than {seconds:.0f} s of processor time (SOP_FFMPEG_SECONDS), or a signal"
TOO_LARGE = "a file of too many bytes (SOP_FFMPEG_OUTPUT_BYTES)"
TOO_MUCH = "too much memory (SOP_FFMPEG_BYTES), or a crash"
STOPPED = {255: TOO_SLOW, -signal.SIGXCPU: TOO_SLOW, -signal.SIGXFSZ: TOO_LARGE, -signal.SIGABRT: TOO_MUCH}
# Allocators reserve address space for each thread, which counts as memory.
FFMPEG_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shells' convention
LINE_SECONDS = 30  # between lines about progress where there is no terminal

logger = logging.getLogger(__name__)
_watcher = contextvars.ContextVar("watcher", default=None)  # of progress, see `watch_progress`


class UserError(ValueError):
    """A mistake that the user can fix. The message names the file, what was expected and what was found."""


def command(main):
    """Decorate a command's `main`: a UserError or OSError becomes one line on stderr and exit status 2."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        with contextlib.suppress(AttributeError):  # a stand-in for stdout
            sys.stdout.reconfigure(errors="surrogateescape")  # file names as bytes, in any encoding
        try:
            return main(*args, **kwargs)
        except BrokenPipeError:  # the reader closed the pipe, e.g. `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_USER_ERROR)
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)

    return wrapper


class _DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the examples as they are written, and the defaults of all flags that have one."""

    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """The parser of a command: a mistake is one line on stderr, and the help ends with examples.

    examples: one command per line; show_defaults: whether the help adds them to each flag.
    """

    def __init__(self, examples, show_defaults=False, **options):
        lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
        formatter = _DefaultsFormatter if show_defaults else argparse.RawDescriptionHelpFormatter
        super().__init__(epilog=f"examples:\n{lines}", formatter_class=formatter, **options)

    def parse_args(self, args=None, namespace=None):
        """Parse `args`; a flag that does not exist is an error that names the nearest one."""
        args, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._suggestion(unknown)}")
        return args

    def check_saved(self, values, where):
        """Raise UserError, naming `where`, unless saved values of flags are of their types and choices."""
        for action in (action for action in self._actions if action.dest in values):
            value = values[action.dest]
            kinds = (int, float) if action.type is float else (action.type or str,)
            wanted = " or ".join(kind.__name__ for kind in kinds)
            if type(value) in kinds and action.choices:
                wanted = f"one of {', '.join(map(str, action.choices))}"
            if type(value) not in kinds or (action.choices and value not in action.choices):
                raise UserError(f"{where}: {action.dest}: expected {wanted}, found {value!r}")

    def _suggestion(self, unknown):
        wrong = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
        near = difflib.get_close_matches(wrong or "", self._option_string_actions, 1)
        if near:
            return f"; did you mean {near[0]}?"
        return f"; {self.prog} --help lists all flags"

    def error(self, message):
        """Exit with the message as one line, without the usage."""
        self.exit(EXIT_USER_ERROR, f"error: {message}\n")


def set_up_logging(level=logging.INFO):
    """Log to stderr, with the time of day. Commands call it once, libraries never."""
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path beside `path`, with its suffix; rename it to `path` if the block succeeds.

    Otherwise delete it. Readers of `path` see either the old file or the complete new one.
    """
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".writing-", suffix=os.path.splitext(name)[1])
    os.close(handle)
    try:
        os.chmod(temporary, 0o644)
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def walk(root):
    """Yield (folder relative to `root`, its file names) of `root` and all folders in it but hidden ones.

    Symbolic links are followed, and each folder is visited once. Folders that cannot be read are logged.
    """
    seen = set()
    for folder, inner, names in os.walk(root, onerror=_name_unreadable, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        yield ("" if relative == "." else relative), names


def _name_unreadable(error):
    if not isinstance(error, FileNotFoundError):  # deleted in the meantime
        logger.warning("left out: %s: %s", error.filename, error.strerror)


def save_json(path, value):
    """Write `value` as JSON, atomically."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


@contextlib.contextmanager
def writing_sound(path):
    """Within the block, libsndfile's errors become an OSError that names `path`, e.g. if the disk is full."""
    import soundfile  # here: most commands do not need it

    try:
        yield
    except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts that all was written
        reason = getattr(error, "error_string", None) or "not all of it was written"
        raise OSError(f"{path}: cannot be written: {reason}") from None


class Progress(tqdm):
    """A progress bar; where stderr is not a terminal, a log line at least every LINE_SECONDS instead.

    line: a function that returns the text of a line, instead of count, speed and time left.
    """

    def __init__(self, iterable=None, line=None, clock=time.monotonic, **options):
        self._line, self._clock = line or self._count_line, clock
        self._watcher, self._label, self._counted = _watcher.get(), options.get("desc", ""), 0
        self._is_shown = sys.stderr.isatty()
        self._ended = threading.Event()
        self._began = self._last = clock()
        file = sys.stderr if self._is_shown else io.StringIO()
        super().__init__(iterable, file=file, dynamic_ncols=self._is_shown, **options)
        if not (self._is_shown or self.disable):
            threading.Thread(target=self._report_regularly, daemon=True).start()

    def report(self):
        """Log a line now; where there is no terminal, the next one follows within LINE_SECONDS."""
        self._last = self._clock()
        if not self.disable:
            logger.info("%s", self._line())

    def update(self, n=1):
        """Count `n` more, and call the watcher; tqdm itself does not count while bars are disabled."""
        self._counted += n
        if self._watcher:
            self._watcher(self._label, self._counted, self.total)
        return super().update(n)

    def display(self, *arguments, **options):
        """Draw the bar, if there is a terminal."""
        return super().display(*arguments, **options) if self._is_shown else True

    def close(self):
        """End the bar, or the lines."""
        self._ended.set()
        super().close()

    def _report_regularly(self):
        while not self._ended.wait(max(0.0, self._last + LINE_SECONDS - self._clock())):
            if self._clock() >= self._last + LINE_SECONDS:
                self.report()

    def _count_line(self):
        seconds, done = self._clock() - self._began, self.n - self.initial
        count, total = (self.format_sizeof(n) if self.unit_scale else n for n in (self.n, self.total or 0))
        unit = self.unit if self.unit_scale else f"{self.unit}s"
        text = f"{self.desc}: " if self.desc else ""
        text += f"{count} of {total} {unit}" if self.total else f"{count} {unit}"
        if not (done and seconds and self.total):
            return f"{text}, {duration(seconds)} so far"
        speed = self.format_sizeof(done / seconds) if self.unit_scale else f"{done / seconds:.3g}"
        return f"{text}, {speed} {unit}/s, {duration((self.total - self.n) / done * seconds)} left"


def progress(iterable=None, **options):
    """A `Progress` over `iterable`, which is silent if warnings are not logged: not in the main process."""
    quiet = not logging.getLogger().isEnabledFor(logging.WARNING)
    return Progress(iterable, disable=quiet, **options)


def duration(seconds):
    """Seconds as text: `40 s`, `12 min`, `3 h 5 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextlib.contextmanager
def watch_progress(watcher):
    """Within the block, in this thread: each `update` of a progress bar calls watcher(label, done, total)."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


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
