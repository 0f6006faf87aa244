"""Limits on files that others made, all in one place: sizes, lengths, memory and time.

An environment variable replaces each number: `SOP_MAX_PIXELS=1e8 python separate.py photo.jpg …`. Sizes are
checked in headers, before anything is decoded.
"""

import os
import sys


def _limit(name, default):
    """`default`, or the environment variable SOP_<name>; without a number above 0 in it, the program ends."""
    text = os.environ.get(f"SOP_{name}", "")
    try:
        value = float(text or default)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        print(f"error: SOP_{name}: expected a number above 0, found {text!r}", file=sys.stderr)
        sys.exit(2)
    return int(value)


MAX_PIXELS = _limit("MAX_PIXELS", 40e6)  # of a picture or a video's frame; 8K video has 33 million
MAX_SECONDS = _limit("MAX_SECONDS", 4 * 3600)  # of a video or a sound that is decoded whole
MAX_FPS = _limit("MAX_FPS", 1000)  # frames/s of a video
MAX_CHANNELS = _limit("MAX_CHANNELS", 32)  # of a sound
MAX_RATE = _limit("MAX_RATE", 384_000)  # samples/s of a sound
MAX_FRAMES = _limit("MAX_FRAMES", 10_000_000)  # pictures of a clip, by its index row
MAX_MEMBER_BYTES = _limit("MAX_MEMBER_BYTES", 1e9)  # of a file in a shard
MAX_NAME_BYTES = _limit("MAX_NAME_BYTES", 1024)  # of its name
SHARD_CACHE_BYTES = _limit("SHARD_CACHE_BYTES", 20e9)  # of shards on servers, cached on disk
REQUEST_SECONDS = _limit("REQUEST_SECONDS", 60)  # of one request to such a server; it is repeated
SECONDS_TO_READ = _limit("SECONDS_TO_READ", 300)  # of a clip's sound and pictures for one mixture
MAX_LIST_BYTES = _limit("MAX_LIST_BYTES", 64e6)  # of a downloaded list of videos
MAX_VIDEO_BYTES = _limit("MAX_VIDEO_BYTES", 8e9)  # of a downloaded video
MAX_WEIGHTS_BYTES = _limit("MAX_WEIGHTS_BYTES", 4e9)  # of a downloaded file of weights

FFMPEG_BYTES = _limit("FFMPEG_BYTES", 8 * 2**30)  # address space of an ffmpeg process
FFMPEG_SECONDS = _limit("FFMPEG_SECONDS", 48 * 3600)  # processor time of an ffmpeg process
FFMPEG_OUTPUT_BYTES = _limit("FFMPEG_OUTPUT_BYTES", 64e9)  # of each file that it writes
FFMPEG_PIPE_BYTES = _limit("FFMPEG_PIPE_BYTES", 1e9)  # of what it hands over in memory

# ffmpeg reads these containers only, by content. Not among them: playlists (HLS, DASH, concat), which name
# other files and URLs, and patterns of file names.
CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,"  # video; mov is mp4, too, and matroska is webm
    "wav,w64,aiff,caf,mp3,aac,flac"
)
