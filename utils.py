"""Small helpers with no better home."""

import contextlib
import functools
import json
import logging
import os
import subprocess
import sys
import tempfile

import imageio_ffmpeg
from tqdm import tqdm

EXIT_USER_ERROR = 2  # argparse exits with it too
NO_COMPLAINTS = "Conversion failed!", "frame=", "size=", "[out#"  # ends of ffmpeg's log that say nothing
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count


class UserError(ValueError):
    """Something that the user can mend: the message names the file, what was expected and what was found."""


def command(main):
    """Decorate a command's `main`: a UserError, or a disk's, becomes one line on stderr and exit status 2."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        with contextlib.suppress(AttributeError):  # a stand-in for stdout
            sys.stdout.reconfigure(errors="surrogateescape")  # file names as bytes, in any encoding
        try:
            return main(*args, **kwargs)
        except BrokenPipeError:  # the reader of our output has gone: `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_USER_ERROR)
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)

    return wrapper


def set_up_logging(level=logging.INFO):
    """Log lines with the time of day to stderr; commands call it once, libraries never."""
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path beside `path`, with its suffix; rename it onto `path` if the block succeeds.

    Otherwise remove it. Readers of `path` see the old file or the new one whole, never a part.
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
    """(folder relative to `root`, names of its files) of all folders under it, but hidden ones; links are
    followed, each folder once."""
    seen = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        yield ("" if relative == "." else relative), names


def save_json(path, value):
    """Write `value` as JSON, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def progress(iterable=None, **kwargs):
    """tqdm over `iterable`, quiet when the output is not a terminal or not even warnings are logged."""
    quiet = not logging.getLogger().isEnabledFor(logging.WARNING)
    return tqdm(iterable, disable=quiet or None, dynamic_ncols=True, **kwargs)


def path_ffmpeg():
    """The ffmpeg binary that imageio-ffmpeg brings along or finds. Raises UserError if there is none."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise UserError(f"no ffmpeg: {error}") from None


def file_url(path):
    """A path that ffmpeg takes for neither an option (`-x.mp4`) nor a protocol (`a:b.mp4`)."""
    return f"file:{os.path.abspath(path)}"


def run_ffmpeg(arguments, data=None, log=None, ffmpeg=None):
    """Run ffmpeg with `arguments` (a list of str), overwriting outputs; `data` (bytes) goes to its stdin.

    log: a list that takes the lines of its log; ffmpeg: the binary, None for imageio-ffmpeg's.
    Returns its standard output (bytes). Raises UserError with ffmpeg's last line of complaint if it fails.
    """
    start = [ffmpeg or path_ffmpeg(), "-hide_banner", "-loglevel", "error", "-y"]
    stdin = {"input": data} if data is not None else {"stdin": subprocess.DEVNULL}
    try:
        result = subprocess.run(start + list(arguments), capture_output=True, **stdin)
    except OSError as error:
        raise UserError(f"{start[0]}: cannot be run as ffmpeg: {error}") from None
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    if log is not None:
        log += lines
    if result.returncode:
        complaints = [line for line in lines if not line.startswith(NO_COMPLAINTS)] or ["no message"]
        raise UserError(f"ffmpeg failed ({result.returncode}): {complaints[-1]}")
    return result.stdout
