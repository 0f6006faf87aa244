"""Small media for all tests: tones and coloured frames in the layout of MUSIC."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # their threads would slow each other down
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import soundfile
from PIL import Image

from dataset.index import Clip, write_index
from tests.videos import make_video, tone

RATE = 11025  # samples/s
FPS = 8
CATEGORIES = {
    "violin": (440.0, (200, 40, 40)),
    "tuba": (110.0, (40, 40, 200)),
    "flute": (880.0, (40, 200, 40)),
}


def make_clip(root, category, name, seconds, hertz, colour):
    """Write `seconds` of a tone with a slow tremolo, and frames of one colour; returns the `Clip`."""
    times = np.arange(int(seconds * RATE)) / RATE
    wave = 0.4 * np.sin(2 * np.pi * hertz * times) * (0.6 + 0.4 * np.sin(2 * np.pi * 0.5 * times))
    path_audio = os.path.join(root, "audio", category, f"{name}.wav")
    path_frames = os.path.join(root, "frames", category, f"{name}.mp4")
    os.makedirs(os.path.dirname(path_audio), exist_ok=True)
    os.makedirs(path_frames, exist_ok=True)
    soundfile.write(path_audio, wave, RATE, subtype="PCM_16")
    count = int(seconds * FPS)
    noise = np.random.default_rng(len(name)).integers(-20, 20, (48, 64, 3))
    picture = Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))
    for k in range(1, count + 1):
        picture.save(os.path.join(path_frames, f"{k:06d}.jpg"))
    return Clip(path_audio, path_frames, count)


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Three categories of three clips of 20 s, each at its own pitch: (folder, list of clips)."""
    root = str(tmp_path_factory.mktemp("tree"))
    clips = [
        make_clip(root, category, f"{category}{n}", 20, hertz * 2 ** (n / 12), colour)
        for n in range(3)
        for category, (hertz, colour) in CATEGORIES.items()
    ]
    write_index(os.path.join(root, "train.csv"), clips)
    write_index(os.path.join(root, "val.csv"), clips[:6])
    return root, clips


@pytest.fixture(scope="session")
def good_video(tmp_path_factory):
    """A three-second grey video with a tone."""
    path = tmp_path_factory.mktemp("good") / "good.mp4"
    return make_video(path, [100] * 75, 25, tone(3), codec="aac")
