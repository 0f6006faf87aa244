"""How fast training examples are read from folders and from shards, from a cold cache and a warm one."""

import os
import random
import statistics
import time

import numpy as np
import soundfile
from PIL import Image

from dataset.index import Clip, path_frame, read_index, write_index
from dataset.music import MUSICMixDataset, Sampling
from dataset.shards import __main__ as shards
from engine.machine.memory import keep_memory
from utils import progress

RATE, FPS, SECONDS = 11025, 8, 10  # of the clips that are made
SIZE = 246, 328  # pixels of a frame, as dataset.preprocess writes them
QUALITY = 60  # of their JPEGs
CATEGORIES = 20
ROUNDS = 6
ITEMS = 50  # mixtures in a round
DROP_CACHES = "/proc/sys/vm/drop_caches"


def measure(count, work):
    """Make `count` clips in folders and in shards in `work`; returns lines of text with the figures.

    A round reads mixtures of clips that no earlier round of its kind has read. Folders and shards alternate.
    """
    lists = _make(count, work)
    lines = [f"{count} clips of {SECONDS} s with {SECONDS * FPS} frames"]
    data = {}
    keep_memory()  # as main.py
    _open(lists["folders"])[1]  # loads libraries
    lines.append(f"a cold cache has been emptied of {_forget(work)}")
    for name, path in lists.items():
        start = time.perf_counter()
        data[name] = _open(path)
        data[name][0]
        lines.append(f"{name}: first example after {time.perf_counter() - start:.2f} s from a cold cache")
    for kind in ("cold", "warm"):
        wall, cpu = _rounds(data, work, kind == "cold")
        rates = {name: ITEMS / statistics.median(wall[name]) for name in data}
        ratios = [one / other for one, other in zip(wall["folders"], wall["shards"], strict=True)]
        costs = [f"{name} {statistics.median(cpu[name]) / ITEMS * 1000:.1f} ms" for name in data]
        lines.append(
            f"{kind}: {rates['folders']:.0f} mixtures/s from folders, {rates['shards']:.0f} from shards: "
            f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f}); "
            f"processor time of a mixture: {', '.join(costs)}"
        )
    return lines


def _open(path):
    return MUSICMixDataset(read_index(path), Sampling(), train=True)


def _make(count, work):
    """{"folders": path of an index file, "shards": path of the same clips' in shards}."""
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize(SIZE[::-1], Image.BICUBIC)
    clips = []
    for number in progress(range(count), desc="clips", unit="clip"):
        name = f"{number % CATEGORIES:02d}/{number:07d}"
        clip = Clip(f"{work}/audio/{name}.wav", f"{work}/frames/{name}", SECONDS * FPS)
        os.makedirs(os.path.dirname(clip.path_audio), exist_ok=True)
        os.makedirs(clip.path_frames)
        wave = 0.3 * np.sin(np.arange(SECONDS * RATE) * (0.05 + number % 97 / 500))
        soundfile.write(clip.path_audio, wave, RATE, subtype="PCM_16")
        noise.save(path_frame(clip.path_frames, 1), quality=QUALITY)
        with open(path_frame(clip.path_frames, 1), "rb") as file:
            data = file.read()
        for frame in range(2, SECONDS * FPS + 1):
            with open(path_frame(clip.path_frames, frame), "wb") as file:
                file.write(data)
        clips.append(clip)
    write_index(f"{work}/train.csv", clips)
    shards.main(["--lists", f"{work}/train.csv", "--out", f"{work}/shards", "--sound", "keep"])
    return {"folders": f"{work}/train.csv", "shards": f"{work}/shards/train.csv"}


def _rounds(data, work, cold):
    """Seconds and processor seconds of the rounds: two of {name: list}."""
    wall, cpu = ({name: [] for name in data} for _ in range(2))
    order = random.Random(int(cold)).sample(range(len(data["shards"])), len(data["shards"]))
    if cold:
        _forget(work)
    for number in range(ROUNDS):
        items = order[number * ITEMS : (number + 1) * ITEMS]
        for name, dataset in list(data.items())[:: 1 if number % 2 else -1]:
            if not cold:
                _read(dataset, items)
            start, start_cpu = time.perf_counter(), time.process_time()
            _read(dataset, items)
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - start_cpu)
    return wall, cpu


def _read(dataset, items):
    for index in items:
        assert not dataset[index]["info"]["failures"]


def _forget(work):
    """Empty the system's cache of the files in `work`; returns what it has been emptied of."""
    os.sync()
    try:
        with open(DROP_CACHES, "w", encoding="ascii") as file:
            file.write("3")
        return "contents, folders and names"
    except OSError:  # only root may
        pass
    for folder, _, names in os.walk(work):
        for name in names:
            handle = os.open(os.path.join(folder, name), os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)
    return "contents"
