"""What a video claims to be, checked against limits.py before decoding, and the complaints of decoders."""

import re

import limits
from media import media_input, run_ffmpeg
from utils import UserError

LOG = ("-loglevel", "level+info", "-nostats")  # lines begin with their level, after the part that says them
DURATION = re.compile(r"^\[info\] +Duration: (\d+):(\d+):([\d.]+),")
TRACK = re.compile(r"^\[info\] +Stream #\d+:\d+.*?: (Video|Audio): (.*)")
SIZE = re.compile(r", (\d+)x(\d+)\b")
FPS = re.compile(r", ([\d.]+)(k?) fps\b")
RATE = re.compile(r", (\d+) Hz\b")
CHANNELS = re.compile(r", (\d+) channels\b")  # other layouts are named, and have at most 24
TIME = re.compile(rb"^out_time_us=(\d+)", re.MULTILINE)  # in -progress
# Lines about damage: errors, and warnings that something could not be decoded as it was meant.
DAMAGE = re.compile(r"\[error\]|\[warning\].*(?:corrupt|invalid|not implemented|does not match|audible)")
PREFIX = re.compile(r"^(?:\[[^]]* @ [^]]*\] )*\[(?:error|warning)\] ")
PROBE_SECONDS = 600  # of processor time, to read the packets of a video


def read_header(path, ffmpeg=None):
    """Check a video against the limits, without decoding it. Returns its length in seconds by its packets.

    0 if it cannot be read: decoding it then says why. Raises UserError, saying what is too large.
    """
    log = []
    tracks = "-map 0:V:0? -map 0:a:0? -c copy -progress - -f null -".split()
    try:
        output = run_ffmpeg(
            [*LOG, *media_input(path), *tracks], log=log, ffmpeg=ffmpeg, seconds=PROBE_SECONDS
        )
    except UserError:
        output = b""
    for kind, text in (match.groups() for match in map(TRACK.match, log) if match):
        _check_picture(text) if kind == "Video" else _check_sound(text)
    counted = max(map(int, TIME.findall(output)), default=0) / 1e6
    if max(claimed_seconds(log), counted) > limits.MAX_SECONDS:
        hours = limits.MAX_SECONDS / 3600
        raise UserError(f"longer than {hours:g} hours (SOP_MAX_SECONDS), or its timestamps are broken")
    return counted


def _check_picture(text):
    size, fps = SIZE.search(text), FPS.search(text)
    if size and int(size[1]) * int(size[2]) > limits.MAX_PIXELS:
        raise UserError(
            f"{size[1]} × {size[2]} pixels, expected at most {limits.MAX_PIXELS} (SOP_MAX_PIXELS)"
        )
    value = float(fps[1]) * (1000 if fps[2] else 1) if fps else 0
    if value > limits.MAX_FPS:
        raise UserError(f"{value:g} frames/s, expected at most {limits.MAX_FPS} (SOP_MAX_FPS)")


def _check_sound(text):
    rate, channels = RATE.search(text), CHANNELS.search(text)
    if rate and int(rate[1]) > limits.MAX_RATE:
        raise UserError(f"{rate[1]} samples/s, expected at most {limits.MAX_RATE} (SOP_MAX_RATE)")
    if channels and int(channels[1]) > limits.MAX_CHANNELS:
        raise UserError(f"{channels[1]} channels, expected at most {limits.MAX_CHANNELS} (SOP_MAX_CHANNELS)")


def claimed_seconds(log):
    """The duration that ffmpeg read in a video's header, seconds; 0 if there is none."""
    for match in filter(None, map(DURATION.match, log)):
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return 0


def damage(log):
    """A note on what decoders complained about, by a log of level+info; empty if they did not."""
    lines = [line for line in log if DAMAGE.search(line)]
    if not lines:
        return ""
    return f"damaged: the decoders complained {len(lines)} times, first: {PREFIX.sub('', lines[0])}"
