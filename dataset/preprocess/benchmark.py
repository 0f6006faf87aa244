"""Compare the speed of `convert` with the usual two ffmpeg calls per video: frames, then audio."""

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from statistics import median

from dataset.preprocess.convert import JPEG_QUALITY, Settings, convert
from media import file_url, media_input, run_ffmpeg
from utils import progress

MAX_VIDEOS = 12  # sampled evenly from all videos
ROUNDS = 5


def benchmark(videos, jobs, settings=None):
    """Convert some of `videos` (paths), `jobs` at a time, alternating both ways. Returns a table as text.

    Raises UserError if a video cannot be converted.
    """
    settings = settings or Settings()
    videos = videos[:: -(-len(videos) // MAX_VIDEOS)]
    ways = {"one pass (this project)": _one_pass, "two calls (frames, audio)": _two_calls}
    times, seconds = {name: [] for name in ways}, 0
    for _ in progress(range(ROUNDS), unit="round"):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
                folders = [tempfile.mkdtemp(dir=folder) for _ in videos]
                start = time.perf_counter()
                results = list(pool.map(way, videos, folders, repeat(settings)))
                times[name].append(time.perf_counter() - start)
            seconds = sum(filter(None, results)) or seconds
    one, two = (median(values) for values in times.values())
    lines = [
        f"{len(videos)} videos, {seconds:.0f} s, {jobs} at a time, medians of {ROUNDS} alternating rounds"
    ]
    lines += [
        f"{name:26} {median(values):6.2f} s  {seconds / median(values) / jobs:6.1f} s of video/s and job"
        for name, values in times.items()
    ]
    return "\n".join([*lines, f"time of one pass / time of two calls: {one / two:.2f}"])


def _one_pass(video, folder, settings):
    return convert(
        video, os.path.join(folder, "frames"), os.path.join(folder, "a.wav"), folder, settings
    ).seconds


def _two_calls(video, folder, settings):
    source, out = media_input(video), file_url(folder)
    pictures = ["-r", str(settings.fps), "-q:v", str(JPEG_QUALITY), f"{out}/%06d.jpg"]
    run_ffmpeg([*source, *pictures], ffmpeg=settings.ffmpeg)
    run_ffmpeg(
        [*source, "-vn", "-ac", "1", "-ar", str(settings.rate), f"{out}/a.wav"], ffmpeg=settings.ffmpeg
    )
