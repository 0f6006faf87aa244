"""Fetch released weights into ckpt/<id>/: `python -m models.download_weights`.

A transfer that breaks off is continued where it stopped, at once or by the next run, if the server can do
that. What turns out to be no checkpoint leaves nothing behind.
"""

import argparse
import contextlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

from utils import UserError, command, progress

BASE_URL = "http://sound-of-pixels.csail.mit.edu/release"
RELEASED_ID = (
    "MUSIC-2mix-LogFreq-resnet18dilated-unet7-linear-frames3stride24-maxpool-binary-weightedLoss"
    "-channels32-epoch100-step40_80"
)
FILES = ("sound_best.pth", "frame_best.pth", "synthesizer_best.pth")
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # what torch.save wrote first before version 1.6
ATTEMPTS = 5
PAUSE = 1.0  # seconds before the second attempt; doubled before each one that follows
TIMEOUT = 30  # seconds without an answer
CHUNK = 1 << 18  # bytes
TOO_MANY_REQUESTS = 429
RANGE_NOT_SATISFIABLE = 416


class _Broken(Exception):
    """A transfer that may go better next time."""


def fetch(url, path, attempts=ATTEMPTS, pause=PAUSE):
    """Download a checkpoint onto `path`, unless it is there; pause: seconds before the second attempt.

    Returns whether there was anything to fetch. Raises UserError that says what the server answered.
    `path.part` is left behind only where the server can continue it.
    """
    if os.path.exists(path):
        return False
    part = path + ".part"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _transfer_patiently(url, part, attempts, pause)
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


def _transfer_patiently(url, part, attempts, pause):
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
    """One attempt; continues `part` if it is there. Raises UserError for an answer that will not change."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            _receive(response, part, have)
    except urllib.error.HTTPError as error:
        _judge(error, part)
    except urllib.error.URLError as error:
        raise _Broken(f"no answer: {error.reason}") from None
    except http.client.InvalidURL as error:
        raise UserError(str(error)) from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Broken(f"the connection broke off: {error}") from None


def _judge(error, part):
    answer = f"the server answered {error.code} {error.reason}"
    if error.code == RANGE_NOT_SATISFIABLE:
        _remove(part)  # it is no beginning of what the server has
    if error.code >= 500 or error.code in (TOO_MANY_REQUESTS, RANGE_NOT_SATISFIABLE):
        raise _Broken(answer)
    raise UserError(answer)


def _receive(response, part, have):
    """Write a response's body to `part`: after its first `have` bytes if the server continues there."""
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
            raise _Broken(f"the connection broke off after {size} of {total} bytes")
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
        raise UserError(f"the server sent something that is no checkpoint: it begins with {start!r}")


def _remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _parse(argv):
    parser = argparse.ArgumentParser(
        prog="python -m models.download_weights", description="Fetch released weights into ckpt/ID/."
    )
    parser.add_argument("id", nargs="?", default=RELEASED_ID, help="the model's name (%(default)s)")
    parser.add_argument("--url", default=BASE_URL, help="address of the folder that ID lies in (%(default)s)")
    parser.add_argument("--ckpt", default="./ckpt", help="folder of all runs (%(default)s)")
    args = parser.parse_args(argv)
    if not args.url.startswith(("http://", "https://")):
        parser.error(f"argument --url: expected http://… or https://…, found {args.url!r}")
    return args


@command
def main(argv=None):
    """Fetch the three files of a released model; exit status 1 at the first that cannot be had."""
    args = _parse(argv)
    for name in FILES:
        path = os.path.join(args.ckpt, args.id, name)
        try:
            fetched = fetch(f"{args.url.rstrip('/')}/{urllib.parse.quote(args.id)}/{name}", path)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"{path}: {'fetched' if fetched else 'already there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
