"""Test data of `benchmark`, videos that compress like photographs, and the input pipeline that reads it.

Videos are 640 × 360 pixels and a few seconds long. Hard links repeat their frames for clips of minutes, whose
sounds have the full length. Everything depends only on a seed.
"""

import os
import statistics
import tempfile
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from PIL import Image

import dataset.frames
import dataset.music
from benchmark import reference
from benchmark.clock import in_turn, ratio, stopwatch
from dataset.index import Clip, path_frame
from dataset.music import MUSICMixDataset
from dataset.preprocess.convert import Settings, convert
from media import run_ffmpeg

WIDTH, HEIGHT = 640, 360  # pixels
FPS = 8  # frames/s
RATE = 11025  # samples/s, in both trees
CATEGORIES = "cello", "flute"
ROOM = 96  # margin in pixels, in which the frame moves
STAGES = "sound", "decode", "resize", "rest"
# The timed functions. The project's `pictures` reads all frames of a clip and includes `decode`.
PROJECT = {
    "sound": (dataset.music, "read_window"),
    "decode": (dataset.frames, "read_pixels"),
    "pictures": (dataset.music, "read_clip"),
}
REFERENCE = {
    "sound": (reference, "load_sound"),
    "decode": (reference, "open_picture"),
    "resize": (reference, "resize"),
}


class Trees(NamedTuple):
    """Two trees of the same clips, as lists of `Clip`, and one of the videos."""

    old: list  # frames of full size, as older pipelines extract them
    own: list  # frames as dataset.preprocess writes them, shorter side at most 246
    video: str


def make_trees(folder, num_clips=8, seconds=180, video_seconds=4):
    """Write both trees into `folder`: `num_clips` clips of `seconds`, in two categories."""
    old, own = [], []
    for number in range(num_clips):
        category, name = CATEGORIES[number % len(CATEGORIES)], f"clip{number}"
        video = os.path.join(folder, f"{name}.mp4")
        sound = make_sound(seconds, RATE, number)
        write_video(video, video_seconds, number)
        path_audio = os.path.join(folder, "audio", category, f"{name}.wav")
        os.makedirs(os.path.dirname(path_audio), exist_ok=True)
        soundfile.write(path_audio, sound, RATE, subtype="PCM_16")
        for clips, tree, side in ((old, "old", 0), (own, "own", Settings().short_side)):
            path_frames = os.path.join(folder, tree, category, f"{name}.mp4")
            clips.append(Clip(path_audio, path_frames, seconds * FPS))
            with tempfile.TemporaryDirectory(dir=folder) as work:
                result = convert(
                    video, path_frames, os.path.join(work, "sound.wav"), work, Settings(FPS, RATE, side)
                )
            _repeat(path_frames, result.num_frames, seconds * FPS)
    return Trees(old, own, video)


def _repeat(folder, count, wanted):
    """Extend the `count` frames in a folder to `wanted`, forwards and backwards in turn."""
    order = [*range(1, count + 1), *range(count, 0, -1)]
    for number in range(count + 1, wanted + 1):
        os.link(path_frame(folder, order[(number - 1) % len(order)]), path_frame(folder, number))


def make_sound(seconds, rate, seed):
    """[seconds * rate] float: notes of eight partials and half a second each, with faint noise."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(0.5 * rate)) / rate
    fall = np.exp(-4 * times)
    notes = []
    for _ in range(2 * seconds):
        hertz = 110 * 2 ** (rng.integers(0, 36) / 12)
        partials = [np.sin(2 * np.pi * k * hertz * times) / k for k in range(1, 9) if k * hertz < rate / 2]
        notes.append(0.25 * fall * sum(partials))
    wave = np.resize(np.concatenate(notes), seconds * rate)
    return wave + 0.003 * rng.standard_normal(len(wave))


def make_picture(width, height, seed):
    """uint8 [height, width, 3] with the spectrum of a photograph: noise of all scales, edges, fine grain."""
    rng = np.random.default_rng(seed)
    layers = np.zeros((height, width, 3), np.float32)
    size = 4
    while size < width:
        noise = rng.standard_normal((size * height // width + 2, size, 3)).astype(np.float32)
        noise = 0.7 * noise[:, :, :1] + 0.3 * noise  # colour varies less than brightness
        planes = [
            Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC)
            for plane in np.ascontiguousarray(noise.transpose(2, 0, 1))
        ]
        layers += np.stack([np.asarray(plane) for plane in planes], axis=2) / size**0.7
        size *= 2
    picture = 120 + 80 * layers
    y, x = np.mgrid[:height, :width]
    for _ in range(30):  # overlapping objects
        left, top, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(8, height / 5)
        inside = (x - left) ** 2 + (y - top) ** 2 < radius**2
        picture[inside] = 0.5 * picture[inside] + 0.5 * rng.uniform(0, 255, 3)
    return np.clip(picture + rng.normal(0, 3, (height, width, 1)), 0, 255).astype(np.uint8)


def write_video(path, seconds, seed):
    """A video of a moving picture with sound; H.264 and AAC, as video sites use."""
    whole = make_picture(WIDTH + ROOM, HEIGHT + ROOM, seed)
    count = seconds * FPS
    pictures = []
    for angle in 2 * np.pi * np.arange(count) / count:
        left, top = round(ROOM / 2 * (1 + np.cos(angle))), round(ROOM / 2 * (1 + np.sin(angle)))
        pictures.append(whole[top : top + HEIGHT, left : left + WIDTH])
    with tempfile.NamedTemporaryFile(suffix=".wav") as sound:
        soundfile.write(sound.name, make_sound(seconds, 44100, seed), 44100)
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS)]
        coding = [
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-crf",
            "18",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "aac",
        ]
        run_ffmpeg([*raw, "-i", "-", "-i", sound.name, *coding, path], data=np.stack(pictures).tobytes())


def measure_input(trees, sampling, rounds, items):
    """Both paths on the old tree, and the project on its own: {tables, ratios}.

    A sample is a training example, ready for a batch. The reference's `rest` includes STFTs and conversion to
    float, which the project does on the device, as part of the step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    readers = {
        "reference": reference.ReferenceDataset(trees.old, sampling, train=True),
        "project_old": MUSICMixDataset(trees.old, sampling, train=True),
        "project_own": MUSICMixDataset(trees.own, sampling, train=True),
    }
    stages = {name: [] for name in readers}
    indices = list(range(items))

    def read(name):
        with stopwatch(REFERENCE if name == "reference" else PROJECT) as seconds:
            for index in indices:
                readers[name][index % len(readers[name])]
        stages[name].append(seconds)
        indices[:] = [index + 1 for index in indices]

    seconds = in_turn({name: lambda name=name: read(name) for name in readers}, rounds)
    torch.set_num_threads(threads)
    tables = {name: _table(seconds[name], stages[name][1:], items) for name in readers}
    ratios = {f"input_{tree}_tree": ratio(seconds, project=f"project_{tree}") for tree in ("old", "own")}
    return tables, ratios


def _table(totals, stages, items):
    """Samples/s, and milliseconds per sample and stage; medians over rounds."""
    rows = []
    for total, seconds in zip(totals, stages, strict=True):
        row = dict(seconds)
        if "pictures" in row:
            row["resize"] = row.pop("pictures") - row["decode"]
        rows.append(row | {"rest": total - sum(row.values())})
    table = {f"{stage}_ms": 1000 * statistics.median(row[stage] for row in rows) / items for stage in STAGES}
    return {"samples_per_s_and_core": items / statistics.median(totals)} | table
