"""Download released weights to ckpt/<id>/: `python -m models.download_weights`.

Interrupted downloads are resumed, by a retry or by the next run, if the server supports it. Files that turn
out not to be checkpoints are deleted.
"""

import contextlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

import environment  # noqa: F401

from utils import Parser, UserError, command, progress, set_up_logging

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


class _Broken(Exception):
    """A failure that a retry may fix."""


def fetch(url, path, attempts=ATTEMPTS, pause=PAUSE):
    """Download a checkpoint to `path` unless it exists; pause: seconds before the first retry.

    Returns whether it was downloaded. Raises UserError with the server's answer. `path.part` is kept only if
    the server can resume it.
    """
    if os.path.exists(path):
        return False
    part = path + ".part"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _transfer_with_retries(url, part, attempts, pause)
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
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
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
    length = response.headers["Content-Length"]
    total = have + int(length) if length else None
    try:
        _copy(response, part, have, total)
        size = os.path.getsize(part)
        if total is not None and size < total:
            raise _Broken(f"the connection was lost after {size} of {total} bytes")
    except BaseException:
        if not (continues or response.headers["Accept-Ranges"] == "bytes"):
            _remove(part)
        raise


def _copy(response, part, have, total):
    name = os.path.basename(part).removesuffix(".part")
    bar = progress(desc=name, total=total, initial=have, unit="B", unit_scale=True)
    with bar, open(part, "ab" if have else "wb") as file:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _check_checkpoint(path):
    with open(path, "rb") as file:
        start = file.read(len(LEGACY_MAGIC))
    if not start:
        raise UserError("the server sent an empty file")
    if start != LEGACY_MAGIC and not zipfile.is_zipfile(path):
        raise UserError(f"the server sent a file that is not a checkpoint: it starts with {start!r}")


def _remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _parse(argv):
    parser = Parser(EXAMPLES, prog="download_weights", description="Download released weights to ckpt/ID/.")
    parser.add_argument("id", nargs="?", default=RELEASED_ID, help="name of the model (%(default)s)")
    parser.add_argument("--url", default=BASE_URL, help="URL of the folder that contains ID (%(default)s)")
    parser.add_argument("--ckpt", default="./ckpt", help="folder of checkpoints (%(default)s)")
    args = parser.parse_args(argv)
    if not args.url.startswith(("http://", "https://")):
        parser.error(f"argument --url: expected http://… or https://…, found {args.url!r}")
    return args


@command
def main(argv=None):
    """Download the three files of a released model; stop with exit status 1 at the first failure."""
    args = _parse(argv)
    set_up_logging()
    for name in FILES:
        path = os.path.join(args.ckpt, args.id, name)
        try:
            fetched = fetch(f"{args.url.rstrip('/')}/{urllib.parse.quote(args.id)}/{name}", path)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"{path}: {'downloaded' if fetched else 'already exists'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
