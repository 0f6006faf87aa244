"""Damaged media: each is read or refused, soon and in little memory; silent wrongs are counted."""

import json
import os
import random
import resource
import signal
import tempfile
import time
from collections import Counter

import numpy as np
import soundfile
from PIL import Image

from dataset.audio import read_window
from dataset.frames import read_pixels
from dataset.index import path_frame
from dataset.preprocess.convert import convert
from engine.separation.unpack import check_input, unpack
from media import run_ffmpeg
from utils import UserError

HANG_SECONDS, MAX_BYTES = 10, 1e9
START_SECONDS = 120  # until a process begins with its first file, while others use the processor
WORKERS = 2
SECONDS, RATE, SIDE = 2, 11025, 64  # of sounds and videos; samples/s; pixels
AUDIBLE_DB = 30  # signal to error; what is below differs audibly
VISIBLE = 2  # grey levels; pictures with a larger mean difference differ visibly
SOUNDS, PICTURES, VIDEOS = ("wav", "flac", "ogg", "mp3"), ("jpg", "png", "webp", "bmp"), ("mp4", "mkv", "avi")
SHARES = {SOUNDS: 0.45, PICTURES: 0.4, VIDEOS: 0.15}
OUTCOMES = "refused", "read, no difference", "read, differs, said so", "read, differs without a word"
REFUSED, SAME, SAID, SILENT = OUTCOMES
CODERS = {
    "mp4": "-c:v libx264 -c:a aac",
    "mkv": "-c:v libx264 -c:a libopus -ar 48000",
    "avi": "-c:v mpeg4 -c:a libmp3lame -ar 44100",
}


def soak(folder, size, seed):
    """(lines to print, problems) of reading `size["media"]` damaged files."""
    folder = os.path.join(folder, "media")
    os.mkdir(folder)
    make_originals(folder)
    results, problems = _work_all(folder, size["media"], seed)
    lines = [f"{len(results)} damaged files, each read or refused:"]
    for kinds in SHARES:
        for kind in kinds:
            counts = Counter(each["outcome"] for each in results if each["kind"] == kind)
            lines.append(f"  {kind:4} " + ", ".join(f"{name}: {counts[name]}" for name in OUTCOMES))
    slowest = max(results, key=lambda each: each["seconds"])
    most = max(each["bytes"] for each in results)
    lines.append(f"slowest: {slowest['seconds']:.1f} s, a damaged {slowest['kind']}")
    lines.append(f"memory of a reading process grew by at most {most / 1e6:.0f} MB")
    if most > MAX_BYTES:
        problems.append(f"{most / 1e6:.0f} MB of memory were used")
    return lines, problems


def make_originals(folder):
    """Write one whole file of each kind: `original.<kind>`."""
    rng = np.random.default_rng(0)
    times = np.arange(SECONDS * RATE) / RATE
    wave = 0.3 * np.sin(2 * np.pi * 300 * times * (1 + times / 4)) + 0.02 * rng.standard_normal(len(times))
    for kind in SOUNDS:
        rate = RATE if kind != "mp3" else 2 * RATE
        soundfile.write(f"{folder}/original.{kind}", np.repeat(wave, rate // RATE), rate)
    y, x = np.mgrid[:96, :128]
    picture = np.stack([x * 2, y * 2, 128 + 60 * np.sin(x / 5) * np.cos(y / 7)], -1)
    for kind in PICTURES:
        Image.fromarray(picture.astype(np.uint8)).save(f"{folder}/original.{kind}", quality=85)
    inputs = f"-f lavfi -i testsrc=size=128x96:rate=25:duration={SECONDS} -f lavfi -i sine=duration={SECONDS}"
    for kind, coding in CODERS.items():
        run_ffmpeg([*inputs.split(), "-pix_fmt", "yuv420p", *coding.split(), f"{folder}/original.{kind}"])


def mutate(data, rng):
    """The bytes of a file with wrong, missing or more bytes, often near its start, where headers are."""
    data = bytearray(data)
    place = rng.randrange(min(len(data), rng.choice([64, 1024, len(data)])))
    length = rng.choice([1, 4, 64, 1024])
    kind = rng.randrange(6)
    if kind == 0:
        for _ in range(rng.choice([1, 3, 20])):
            data[rng.randrange(place, len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[max(place, 1) :]
    elif kind == 2:
        del data[place : place + length]
    elif kind == 3:
        data[place : place + length] = bytes([rng.choice([0, 255])]) * length
    elif kind == 4:
        data[place:place] = rng.randbytes(length)
    else:
        other = rng.randrange(len(data))
        data[place : place + length] = data[other : other + length]
    return bytes(data)


def _work_all(folder, count, seed):
    """Results of all numbers, from processes that are replaced if they crash or hang; and these problems."""
    problems = []
    ranges = [list(range(number, count, WORKERS)) for number in range(WORKERS)]
    workers = [_Worker(folder, numbers, seed) for numbers in ranges]
    while not all(worker.is_done() for worker in workers):
        for worker in workers:
            problems += worker.watch()
        time.sleep(0.1)
    results = [each for worker in workers for each in worker.results()]
    return [each for each in results if "outcome" in each], problems


class _Worker:
    """A forked process that reads damaged files, and says before and after each what it does."""

    def __init__(self, folder, numbers, seed):
        self.folder, self.numbers, self.seed = folder, numbers, seed
        self.log = os.path.join(folder, f"log{numbers[0]}")
        open(self.log, "w").close()
        self._start()

    def _start(self):
        self.pid = os.fork()
        self.changed = time.monotonic()
        self.size = self.first_size = os.path.getsize(self.log)
        if not self.pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libmpg123 complains there
            try:
                _work(self.folder, self.numbers, self.seed, self.log)
            except BaseException as error:
                print(f"not refused in one line: {error!r}", flush=True)
                os._exit(1)
            os._exit(0)

    def is_done(self):
        return not self.pid

    def results(self):
        with open(self.log, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def watch(self):
        """Replace the process if it crashed or hangs; returns the problem."""
        if self.is_done():
            return []
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if ended and not status:
            self.pid = 0
            return []
        size, now = os.path.getsize(self.log), time.monotonic()
        if size != self.size:
            self.size, self.changed = size, now
        has_begun = size > self.first_size
        if not ended and now - self.changed <= (HANG_SECONDS if has_begun else START_SECONDS):
            return []
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        what = f"ended with {os.waitstatus_to_exitcode(status)}" if ended else "hung"
        if not has_begun:
            self.pid = 0
            return [f"a process {what} before its first file"]
        number = self.results()[-1]["number"]
        self.numbers = [each for each in self.numbers if each > number]
        self._start()
        return [f"number {number} of seed {self.seed} {what}"]


def _work(folder, numbers, seed, log):
    originals = {kind: _read(f"{folder}/original.{kind}", kind) for kinds in SHARES for kind in kinds}
    at_start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of a copy of the parent
    with open(log, "a", encoding="utf-8") as file:
        for number in numbers:
            print(json.dumps({"number": number}), file=file, flush=True)
            rng = random.Random(f"{seed}/{number}")
            kind = rng.choice(rng.choices(list(SHARES), SHARES.values())[0])
            began = time.monotonic()
            found = outcome(folder, kind, rng, originals[kind])
            seconds = time.monotonic() - began
            more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - at_start
            child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            # Linux counts what this process had when it started the child, too.
            most = 1024 * max(more, child if child > 1.1 * at_start else 0)
            result = {"number": number, "kind": kind, "outcome": found, "seconds": seconds, "bytes": most}
            print(json.dumps(result), file=file, flush=True)


def outcome(folder, kind, rng, original):
    """Damage a file and read it: one of OUTCOMES."""
    with open(f"{folder}/original.{kind}", "rb") as file:
        data = mutate(file.read(), rng)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=f".{kind}") as damaged:
        damaged.write(data)
        damaged.flush()
        try:
            *found, complaint = _read(damaged.name, kind, rng.random() < 0.5)
        except UserError:
            return REFUSED
    if not any(map(differs, found, original[:-1])):
        return SAME
    return SAID if complaint else SILENT


def _read(path, kind, separates=False):
    """[sound [L] or None, pictures [T, …] or None, complaint], as training or separation reads a file."""
    if kind in SOUNDS:
        return read_window(path, SECONDS / 2, SECONDS * RATE, RATE), None, ""
    if kind in PICTURES:
        complaints = []
        return None, read_pixels(path, SIDE, complaints)[0].numpy()[..., :3], complaints
    with tempfile.TemporaryDirectory() as work:
        frames, sound = os.path.join(work, "frames"), os.path.join(work, "sound.wav")
        if separates:
            check_input(path)
            result = unpack(path, work, 8, RATE)
        else:
            result = convert(path, frames, sound, work)
        numbers = range(1, result.num_frames + 1)
        pictures = [np.asarray(Image.open(path_frame(frames, number)).convert("RGB")) for number in numbers]
        return soundfile.read(sound)[0], np.stack(pictures), result.note


def differs(found, original):
    """Whether a sound or pictures differ audibly or visibly from the original's."""
    if found is None:
        return False
    if found.ndim == 1:
        length = min(len(found), len(original))
        error = np.mean((found[:length] - original[:length]) ** 2) if length else 1
        level = np.mean(original**2)
        return abs(len(found) - len(original)) > RATE / 10 or error * 10 ** (AUDIBLE_DB / 10) > level
    if found.shape[1:] != original.shape[1:] or abs(len(found) - len(original)) > 1:
        return True
    pairs = zip(found.astype(float), original.astype(float), strict=False)
    return any(np.abs(one - other).mean() > VISIBLE for one, other in pairs)
