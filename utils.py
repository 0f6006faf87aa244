"""Small helpers with no better home."""

import argparse
import contextlib
import contextvars
import difflib
import functools
import glob
import io
import json
import logging
import math
import os
import re
import signal
import sys
import tempfile
import threading
import time
import zipfile

from tqdm import tqdm

EXIT_FAULT = 1
EXIT_USER_ERROR = 2  # the same as argparse's
EXIT_STOPPED = 75  # EX_TEMPFAIL in sysexits.h: the same command may succeed later
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shells' convention
CHUNK = 1 << 20  # bytes read at a time
DIRECTORY = 0x10  # attribute of an entry of a zip archive; torch reads nothing of such an entry
LINE_SECONDS = 30  # between lines about progress where there is no terminal

logger = logging.getLogger(__name__)
_watcher = contextvars.ContextVar("watcher", default=None)  # of progress, see `watch_progress`


class UserError(ValueError):
    """A mistake that the user can fix. The message names the file, what was expected and what was found."""


class Fault(UserError):
    """Something broke that is no mistake in the command, e.g. a process was killed; it may work next time."""


class Stopped(KeyboardInterrupt):
    """A signal ended the work: what was done is saved, and the same command continues it."""


def command(main):
    """Decorate a command's `main`: errors that need no traceback become one line on stderr.

    Exit status 1 for a Fault, 2 for any other UserError or OSError, 75 for `Stopped`, and 130 for Ctrl-C.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        with contextlib.suppress(AttributeError):  # a stand-in for stdout
            sys.stdout.reconfigure(errors="surrogateescape")  # file names as bytes, in any encoding
        try:
            with _children_end_too():
                return main(*args, **kwargs)
        except BrokenPipeError:  # the reader closed the pipe, e.g. `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_USER_ERROR)
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(EXIT_FAULT if isinstance(error, Fault) else EXIT_USER_ERROR)
        except Stopped as stop:
            print(stop, file=sys.stderr)
            sys.exit(EXIT_STOPPED)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)

    return wrapper


@contextlib.contextmanager
def _children_end_too():
    """Within the block, SIGTERM ends the children of this process as well, such as ffmpeg."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end_with_children)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_with_children(number, frame):
    signal_children(number)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def signal_children(number):
    """Send a signal to the processes that this one started; Linux only."""
    for path in glob.glob("/proc/self/task/*/children"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:  # a thread or process ended
            for child in file.read().split():
                os.kill(int(child), number)


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


def whole(low, high):
    """An argparse type: a whole number from `low` to `high`."""

    def parse(text):
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, found {text!r}")
        return int(text)

    return parse


def tag_of(part):
    """The name of a part (i, n) in the names of its files: "2of8"; "" for all."""
    return "" if part == (1, 1) else "{}of{}".format(*part)


def i_of_n(text):
    """An argparse type: `2/8` is (2, 8), the second of eight parts."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"expected i/n with i from 1 to n, as in 2/8, found {text!r}")
    return int(match[1]), int(match[2])


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
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError) and error.errno and error.filename is None:  # a write to a full disk
            error.filename = path
        raise


def find_damage(path):
    """What is wrong with a zip archive, such as a file of `torch.save`, by its checksums; "" if nothing is.

    Also "" for other files, which have no checksums.
    """
    try:
        if not zipfile.is_zipfile(path):
            return ""
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:  # checks the checksum, not the size
                    size = sum(len(part) for part in iter(lambda: file.read(CHUNK), b""))
                if size != entry.file_size or entry.external_attr & DIRECTORY:
                    return f"damaged (entry {entry.filename})"
    except Exception as error:  # zipfile raises many types for damaged archives
        return f"damaged ({error})"
    return ""


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
    """Write `value` as JSON, atomically; numbers that are not finite become null, as JSON has none."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(_without_nan(value), file, indent=2, allow_nan=False)
        file.write("\n")


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
