"""yt-dlp with this project's settings: downloads one video and classifies the outcome."""

import errno
import io
import logging
import os
import re
import socket
import urllib.error
from typing import NamedTuple

import limits
from dataset.download.video_list import FAILED, GONE
from dataset.preprocess.probe import read_header
from media import file_url, media_input, path_ffmpeg, run_ffmpeg
from utils import UserError

# Functions import yt-dlp, which takes a second, so that --help and mistakes are answered at once.

URL_TEMPLATE = "https://www.youtube.com/watch?v={id}"
FORMAT = "bv*+ba/b"  # the best by this order; res is the shorter side of a frame:
FORMAT_ORDER = ["res:480", "ext:mp4:m4a", "vcodec:h264"]
JS_RUNTIMES = ("deno", "node")  # YouTube needs one; yt-dlp uses whichever is installed
SEGMENT_SLACK = 2  # seconds by which a segment may be too long before it is cut
CUT = "-map 0:V:0 -map 0:a:0? -c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac".split()
SAFE_INPUT = ["-protocol_whitelist", "file", "-format_whitelist", limits.CONTAINERS]  # of ffmpeg
MAX_REASON = 200  # characters
REFUSED, UNREACHABLE, BROKEN, FULL = "refused", "unreachable", "broken", "full"  # kinds of FAILED
STATUS_KINDS = {403: REFUSED, 404: GONE, 408: BROKEN, 410: GONE, 429: REFUSED, 451: GONE}  # 5xx: BROKEN
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
ROUTE_ERRORS = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
# YouTube distinguishes these only by message. The first match counts.
MESSAGES = (
    (REFUSED, "not a bot|try again later|rate.limited|captcha|please sign in|page needs to be reloaded"),
    (
        GONE,
        "private|video (is )?(unavailable|not available|no longer available)|has been removed|terminated"
        "|copyright|blocked it|your country|confirm your age|age.restricted|members.only|join this channel"
        "|requires payment|drm protected",
    ),
)

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """How an attempt ended. kind: a state or kind of failure; pause: seconds that the server asks to wait."""

    kind: str
    reason: str = ""
    pause: float = 0.0


class Options(NamedTuple):
    """The flags of these names; times in seconds. cookies: the text of the file."""

    url_template: str = URL_TEMPLATE
    attempts: int = 5
    backoff: float = 5.0
    wait: float = 2.0
    timeout: float = 30.0
    cookies: str | None = None
    cookies_from_browser: str | None = None


def judge(error):
    """Classify an exception of yt-dlp: by its types if possible, else by its message. Returns an Outcome."""
    from yt_dlp.networking.exceptions import HTTPError, TransportError
    from yt_dlp.utils import DownloadError, ExtractorError, GeoRestrictedError

    causes = _causes(error)
    kind, pause = FAILED, 0.0
    answer = _first(causes, HTTPError)
    if answer:
        kind = STATUS_KINDS.get(answer.status, BROKEN if answer.status >= 500 else FAILED)
        pause = _seconds(answer.response.headers.get("Retry-After"))
    elif _first(causes, GeoRestrictedError):
        kind = GONE
    elif _first(causes, TransportError):
        kind = UNREACHABLE if any(map(_is_no_connection, causes)) else BROKEN
    elif any(map(_is_disk_full, causes)):
        kind = FULL
    elif isinstance(error, DownloadError) and len(causes) == 1:
        kind = BROKEN  # yt-dlp gave up on a transfer and dropped the cause
    elif (known := _first(causes, ExtractorError)) and known.expected:
        matches = (kind for kind, words in MESSAGES if re.search(words, known.orig_msg, re.IGNORECASE))
        kind = next(matches, FAILED)
    return Outcome(kind, reason(causes), pause)


def _first(causes, kind):
    return next((cause for cause in causes if isinstance(cause, kind)), None)


def _causes(error):
    """An exception and everything that caused it, the outermost first."""
    found, left = [], [error]
    while left:
        error = left.pop(0)
        if isinstance(error, BaseException) and error not in found:
            found.append(error)
            info = getattr(error, "exc_info", None) or (None, None, None)
            left += [info[1], getattr(error, "cause", None), error.__cause__, error.__context__]
    return found


def _is_disk_full(error):
    """Whether the disk is full, for this process or, by its message, for ffmpeg."""
    return getattr(error, "errno", None) in DISK_ERRORS or "No space left on device" in str(error)


def _is_no_connection(error):
    """Whether no connection was made. Some types are compared by name: requests may not be installed."""
    return (
        isinstance(error, socket.gaierror)
        or getattr(error, "errno", None) in ROUTE_ERRORS
        or isinstance(error, urllib.error.URLError)
        or type(error).__name__ in ("ConnectTimeout", "ProxyError", "CertificateVerifyError")
    )


def reason(causes):
    """One line for the ledger, without yt-dlp's boilerplate."""
    from yt_dlp.utils import ExtractorError, YoutubeDLError

    known, error = _first(causes, ExtractorError), causes[0]
    own = isinstance(error, (YoutubeDLError, UserError))
    text = known.orig_msg if known else str(error) if own else f"{type(error).__name__}: {error}"
    text = re.split(r"[;,.]? please report this issue", " ".join(text.split()))[0]
    text = re.sub(r"^(ERROR: |\[download\] (Got error: )?)+", "", text)
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"


def _seconds(text):
    """Seconds of a Retry-After header; 0 for a date."""
    return float(text) if text and text.isdecimal() else 0.0


def _arguments_of_ffmpeg():
    """yt-dlp's postprocessor_args that make all of its steps with ffmpeg read safe files only."""
    from yt_dlp.postprocessor import ffmpeg

    steps = [each for each in vars(ffmpeg).values() if isinstance(each, type)]
    steps = [each for each in steps if issubclass(each, ffmpeg.FFmpegPostProcessor)]
    return {f"{each.pp_key().lower()}+ffmpeg_i": SAFE_INPUT for each in steps}


def _arguments_of_transfers(timeout):
    """yt-dlp's external_downloader_args for segments, which ffmpeg fetches: no local files, within limits."""
    safe = ["-protocol_whitelist", "http,https,httpproxy,tcp,tls", "-format_whitelist", limits.CONTAINERS]
    return {
        "ffmpeg_i": [*safe, "-rw_timeout", str(round(1e6 * timeout))],  # microseconds
        "ffmpeg_o": ["-preset", "veryfast", "-fs", str(limits.MAX_VIDEO_BYTES)],
    }


class Sink:
    """The logger of yt-dlp: nothing goes to stdout; each warning is logged once, not once per video."""

    def __init__(self):
        self._seen = set()

    def debug(self, message):
        """Ignore a message."""

    info = error = stdout = debug  # errors come as exceptions

    def warning(self, message, **_):
        text = re.sub(r"^(\[[\w:+-]+\] )?([A-Za-z0-9_-]{11}: )?", "", message)
        if text not in self._seen:
            self._seen.add(text)
            logger.warning("yt-dlp: %s", text)


class Client:
    """yt-dlp for one job. halt: an Event that aborts transfers."""

    def __init__(self, options, sink, halt):
        from yt_dlp import YoutubeDL
        from yt_dlp.utils import YoutubeDLError

        browser = options.cookies_from_browser
        self._halt = halt
        self._ydl = YoutubeDL(
            {
                "format": FORMAT,
                "format_sort": FORMAT_ORDER,
                "merge_output_format": "mp4",
                "postprocessors": [{"key": "FFmpegVideoRemuxer", "preferedformat": "mp4"}],
                "ffmpeg_location": path_ffmpeg(),
                "cookiefile": io.StringIO(options.cookies) if options.cookies is not None else None,
                "cookiesfrombrowser": tuple(browser.split(":", 1)) if browser else None,
                "socket_timeout": options.timeout,
                "retries": 0,  # the caller decides on retries
                "fragment_retries": 0,
                "extractor_retries": 0,
                "skip_unavailable_fragments": False,
                "js_runtimes": {name: {} for name in JS_RUNTIMES},
                "progress_hooks": [self._abort],
                "nocheckcertificate": False,
                "enable_file_urls": False,
                # A file from the server may be a playlist of local files, whatever its name.
                "postprocessor_args": _arguments_of_ffmpeg(),
                "external_downloader_args": _arguments_of_transfers(options.timeout),
                "noplaylist": True,
                "cachedir": False,
                "quiet": True,
                "noprogress": True,
                "color": "no_color",
                "logger": sink,
            }
        )
        try:
            _ = self._ydl.cookiejar  # read now, to fail before any job starts
        except YoutubeDLError as error:
            raise UserError(f"cookies cannot be read: {reason(_causes(error))}") from None

    def fetch(self, url, folder, start=None, end=None):
        """Download a video, or its segment from `start` to `end` in seconds, into `folder`; returns the path.

        Raises what yt-dlp raises. The file is hidden, and its name ends in .mp4 once it is complete. A
        partial file is resumed. Where the segment alone cannot be had, the whole video is fetched, and cut.
        """
        if start is None:
            return self._download(url, folder, "")
        from yt_dlp.utils import DownloadError, download_range_func

        self._ydl.params |= {
            "download_ranges": download_range_func(None, [(start, end)]),
            "force_keyframes_at_cuts": True,  # else it starts at the keyframe before
        }
        try:
            path = self._download(url, folder, "segment-")
        except DownloadError as error:
            if judge(error).kind != BROKEN or self._halt.is_set():
                raise
            path = None
        finally:
            del self._ydl.params["download_ranges"], self._ydl.params["force_keyframes_at_cuts"]
        if path and 0 < read_header(path) <= end - start + SEGMENT_SLACK:
            return path
        path = path or self._download(url, folder, "")
        return _cut(path, os.path.join(folder, ".cut.mp4"), start, end)

    def _download(self, url, folder, prefix):
        # outtmpl is a template: yt-dlp expands variables such as $HOME, then %(…)s.
        safe = folder.replace("%", "%%").replace("$", "%(dollar|$)s")
        self._ydl.params["outtmpl"]["default"] = os.path.join(safe, f".{prefix}%(format_id)s.%(ext)s")
        files = self._ydl.extract_info(url).get("requested_downloads")
        if not files:
            raise UserError("no single video at this URL")
        return files[0]["filepath"]

    def close(self):
        """Close the connections."""
        self._ydl.close()

    def _abort(self, status):
        size = max(status.get(key) or 0 for key in ("downloaded_bytes", "total_bytes"))
        if size > limits.MAX_VIDEO_BYTES:
            raise UserError(f"larger than {limits.MAX_VIDEO_BYTES} bytes (SOP_MAX_VIDEO_BYTES)")
        if self._halt.is_set():
            from yt_dlp.utils import DownloadCancelled

            raise DownloadCancelled


def _cut(path, path_cut, start, end):
    """Write the seconds from `start` to `end` of a video to `path_cut`, and return that."""
    times = ["-ss", str(start), "-t", str(end - start)]
    run_ffmpeg([*times, *media_input(path), *CUT, file_url(path_cut)])
    return path_cut
