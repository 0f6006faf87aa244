"""Download released weights to ckpt/<id>/: `python -m models.download_weights`.

Interrupted downloads are resumed, by a retry or by the next run, if the server supports it. Files that turn
out not to be checkpoints, or not those of --sha256, are deleted.
"""

import argparse
import contextlib
import hashlib
import http.client
import logging
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import zipfile

import environment  # noqa: F401

import limits
from utils import Parser, UserError, command, progress, set_up_logging
from web import open_url

EXAMPLES = """
./scripts/download_trained_model.sh
./scripts/download_trained_model.sh ID --url https://example.org/models
"""
BASE_URL = "http://sound-of-pixels.csail.mit.edu/release"
RELEASED_ID = (
    "MUSIC-2mix-LogFreq-resnet18dilated-unet7-linear-frames3stride24-maxpool-binary-weightedLoss"
    "-channels32-epoch100-step40_80"
)
FILES = ("sound_best.pth", "frame_best.pth", "synthesizer_best.pth")
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # start of torch.save's files before version 1.6
ATTEMPTS = 5
PAUSE = 1.0  # seconds before the first retry; doubled before each further one
TIMEOUT = 30  # seconds without a response
CHUNK = 1 << 18  # bytes
TOO_MANY_REQUESTS = 429
RANGE_NOT_SATISFIABLE = 416
TOO_LARGE = f"larger than {limits.MAX_WEIGHTS_BYTES} bytes (SOP_MAX_WEIGHTS_BYTES)"
SHA256 = re.compile("[0-9a-f]{64}")

logger = logging.getLogger(__name__)


class _Broken(Exception):
    """A failure that a retry may fix."""


def fetch(url, path, attempts=ATTEMPTS, pause=PAUSE, sha256=None):
    """Download a checkpoint to `path` unless it exists; pause: seconds before the first retry.

    sha256: of the file, hexadecimal, if it is known. Returns whether it was downloaded. Raises UserError with
    the server's answer, or if it is another file. `path.part` is kept only if the server can resume it.
    """
    if os.path.exists(path):
        return False
    part = path + ".part"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _transfer_with_retries(url, part, attempts, pause)
        _check_hash(part, sha256)
        _check_checkpoint(part)
        os.replace(part, path)
    except _Broken as error:
        raise UserError(f"{url}: {error} ({attempts} attempts)") from None
    except (UserError, OSError) as error:
        _remove(part)
        raise UserError(f"{url}: {error}") from None
    finally:
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(os.path.dirname(path))
    return True


def _transfer_with_retries(url, part, attempts, pause):
    for attempt in range(1, attempts + 1):
        try:
            _transfer(url, part)
        except _Broken:
            if attempt == attempts:
                raise
            time.sleep(pause * 2 ** (attempt - 1))
        else:
            break


def _transfer(url, part):
    """Try once, resuming `part` if it exists. Raises UserError for failures that no retry can fix."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    try:
        with open_url(url, TIMEOUT, {"Range": f"bytes={have}-"} if have else {}) as response:
            _receive(response, part, have)
    except urllib.error.HTTPError as error:
        _judge(error, part)
    except urllib.error.URLError as error:
        raise _Broken(f"no response: {error.reason}") from None
    except http.client.InvalidURL as error:
        raise UserError(str(error)) from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Broken(f"the connection was lost: {error}") from None


def _judge(error, part):
    answer = f"the server answered {error.code} {error.reason}"
    if error.code == RANGE_NOT_SATISFIABLE:
        _remove(part)  # longer than the file on the server
    if error.code >= 500 or error.code in (TOO_MANY_REQUESTS, RANGE_NOT_SATISFIABLE):
        raise _Broken(answer)
    raise UserError(answer)


def _receive(response, part, have):
    """Write a response's body to `part`, appending to its `have` bytes if the server resumes there."""
    if response.headers.get_content_type() == "text/html":
        raise UserError(f"the server answered {response.status} with a web page, not a checkpoint")
    continues = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    have = have if continues else 0
    length = _length(response.headers["Content-Length"])
    total = None if length is None else have + length
    if (total or 0) > limits.MAX_WEIGHTS_BYTES:
        raise UserError(TOO_LARGE)
    try:
        _copy(response, part, have, total)
        size = os.path.getsize(part)
        if total is not None and size < total:
            raise _Broken(f"the connection was lost after {size} of {total} bytes")
    except BaseException:
        if not (continues or response.headers["Accept-Ranges"] == "bytes"):
            _remove(part)
        raise


def _length(text):
    """The number of a Content-Length header; None if there is none."""
    if text is not None and not re.fullmatch("[0-9]{1,18}", text):
        raise UserError(f"the server answered with Content-Length: {text[:20]!r}, expected a number")
    return None if text is None else int(text)


def _copy(response, part, have, total):
    name = os.path.basename(part).removesuffix(".part")
    bar = progress(desc=name, total=total, initial=have, unit="B", unit_scale=True)
    with bar, open(part, "ab" if have else "wb") as file:
        while chunk := response.read(CHUNK):
            if file.tell() + len(chunk) > limits.MAX_WEIGHTS_BYTES:
                raise UserError(TOO_LARGE)
            file.write(chunk)
            bar.update(len(chunk))


def _check_hash(path, wanted):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    found = digest.hexdigest()
    if wanted not in (None, found):
        raise UserError(f"the server sent another file: SHA-256 {found}, expected {wanted}")


def _check_checkpoint(path):
    """Raise UserError unless a file can be read as weights: by torch, or without it by its checksums."""
    with open(path, "rb") as file:
        start = file.read(len(LEGACY_MAGIC))
    if not start:
        raise UserError("the server sent an empty file")
    if start != LEGACY_MAGIC and not _is_whole_zip(path):
        raise UserError(f"the server sent a file that is not a checkpoint: it starts with {start!r}")
    try:
        import torch
    except ModuleNotFoundError:
        return
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, in damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the server sent a file that cannot be read as weights: {reason}") from None
    if not (isinstance(weights, dict) and weights and all(map(torch.is_tensor, weights.values()))):
        raise UserError("the server sent a file that cannot be read as weights: it holds something else")


def _is_whole_zip(path):
    """Whether a zip file, uncompressed as torch writes it, has a pickle and the content of its checksums."""
    try:
        with zipfile.ZipFile(path) as file:
            entries = file.infolist()
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            return stored and len(pickles) == 1 and file.testzip() is None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError, EOFError):
        return False


def _remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _sha256(text):
    if not SHA256.fullmatch(text.lower()):
        raise argparse.ArgumentTypeError(f"expected 64 hexadecimal digits, found {text!r}")
    return text.lower()


def _parse(argv):
    parser = Parser(EXAMPLES, prog="download_weights", description="Download released weights to ckpt/ID/.")
    parser.add_argument("id", nargs="?", default=RELEASED_ID, help="name of the model (%(default)s)")
    parser.add_argument("--url", default=BASE_URL, help="URL of the folder that contains ID (%(default)s)")
    parser.add_argument("--ckpt", default="./ckpt", help="folder of checkpoints (%(default)s)")
    text = f"published SHA-256 sums of {', '.join(FILES)}, to be compared with those of the files"
    parser.add_argument("--sha256", nargs=3, type=_sha256, default=(None,) * 3, metavar="SUM", help=text)
    args = parser.parse_args(argv)
    if not args.url.startswith(("http://", "https://")):
        parser.error(f"argument --url: expected http://… or https://…, found {args.url!r}")
    if os.path.basename(args.id) != args.id or args.id in ("", ".", ".."):
        parser.error(f"expected a plain name, found {args.id!r}; --ckpt sets the folder")
    return args


@command
def main(argv=None):
    """Download the three files of a released model; stop with exit status 1 at the first failure."""
    args = _parse(argv)
    set_up_logging()
    for name, sha256 in zip(FILES, args.sha256, strict=True):
        path = os.path.join(args.ckpt, args.id, name)
        try:
            url = f"{args.url.rstrip('/')}/{urllib.parse.quote(args.id)}/{name}"
            fetched = fetch(url, path, sha256=sha256)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"{path}: {'downloaded' if fetched else 'already exists'}")
        if fetched and sha256 is None and args.url.startswith("http://"):
            logger.warning("not encrypted, and not compared with --sha256: the network may have changed it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
