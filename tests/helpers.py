"""Shared by several tests: small options and networks, clips on disk, mixtures for the page."""

import csv
import functools
import io
import os
import shutil
from pathlib import Path

import numpy as np
import soundfile
import torch

import create_index_files
import viz
from arguments import parse_args
from dataset.index import read_index
from engine.build import build_separator
from engine.evaluation import metrics
from engine.evaluation.evaluate import Evaluator
from engine.loaders import build_val_loader
from engine.options import path_val, training_options
from tests.golden.golden_weights import fill
from utils import save_json

PROJECT = Path(__file__).parents[1]
GOLDEN = os.path.join(os.path.dirname(__file__), "golden")
FPS = 8  # pictures/s
NUM_FRAMES = 160  # 20 seconds
RATE = 11025  # samples/s
HOP = 256  # samples
ROWS_HZ = 128  # rows of a mask
SMALL = (
    "--pretrained none --arch_sound unet5 --arch_frame resnet18fc --ngf 4 --num_channels 4 --imgSize 32 "
    "--audLen 16383 --workers 0 --batch_size_per_gpu 4"
).split()
NETWORKS = (
    "--arch_sound unet5 --arch_frame resnet18fc --ngf 4 --num_channels 4 --imgSize 32 --audLen 16383".split()
)
SCORES = {"sdr": 7.25, "sir": 12.5, "sar": -1.5, "si_sdr": 6.0, "sdr_mixture": 0.25, "sdr_oracle": 14.0}


class Pool:
    """Stands in for the process pool: computes at once, in this process."""

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass

    @staticmethod
    def submit(function, *args):
        """A finished future of the call's result."""
        result = function(*args)
        return type("Future", (), {"result": staticmethod(lambda: result)})


def small_args(*flags):
    return parse_args([*SMALL, *flags])


def make_separator(args):
    """Networks whose masks straddle one half, so that no estimate is silent."""
    separator = build_separator(args)
    for net in (separator.net_sound, separator.net_frame, separator.net_synthesizer):
        fill(net)
    return separator


def make_checkpoint(folder, *flags, options=True, bias=None):
    """A folder of tiny networks; with `bias`, all masks are sigmoid(bias)."""
    args = parse_args([*NETWORKS, "--pretrained", "none", *flags])
    separator = build_separator(args)
    folder.mkdir(parents=True)
    for name in ("sound", "frame", "synthesizer"):
        net = getattr(separator, f"net_{name}")
        fill(net)
        if name == "synthesizer" and bias is not None:
            net.scale.data.zero_()
            net.bias.data.fill_(bias)
        torch.save(net.state_dict(), folder / f"{name}_best.pth")
    if options:
        save_json(folder / "options.json", training_options(args))
    return str(folder)


def make_evaluator(args, separator=None, bss="fast"):
    separator = separator or make_separator(args)
    loader = build_val_loader(args)
    return Evaluator(separator, separator, torch.device("cpu"), loader, Pool(), path_val(args), bss)


def count_calls(monkeypatch, name):
    """A list to which each call of a function of `metrics` adds the shape of its estimates."""
    shapes, function = [], getattr(metrics, name)

    def counted(sources, estimates):
        shapes.append(tuple(estimates.shape[:-1]))
        return function(sources, estimates)

    monkeypatch.setattr(metrics, name, counted)
    return shapes


def flat(summary, start=""):
    """A summary without nesting: {"statistics.sdr.mean": ...}."""
    values = {}
    for key, value in summary.items():
        values |= flat(value, f"{start}{key}.") if isinstance(value, dict) else {start + key: value}
    return values


# ---- clips of an index


@functools.cache
def silence(suffix, seconds):
    """The bytes of a silent sound file; the MP3 standard has no low rates."""
    file, rate = io.BytesIO(), 8000 if suffix == ".mp3" else 100
    soundfile.write(file, np.zeros(int(seconds * rate)), rate, format=suffix[1:].upper())
    return file.getvalue()


def make_clip(
    root, key, frames="frames", folder_suffix=".mp4", suffix=".wav", num_frames=NUM_FRAMES, seconds=None
):
    """Write silence and empty pictures; seconds None: as long as the pictures.

    suffix None: no sound; num_frames None: no pictures.
    """
    if suffix:
        path = root / "audio" / (key + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(silence(suffix, (num_frames or 0) / FPS if seconds is None else seconds))
    if num_frames:
        folder = root / frames / (key + folder_suffix)
        folder.mkdir(parents=True)
        for number in range(1, num_frames + 1):
            (folder / f"{number:06d}.jpg").touch()


def create(root, *flags, frames="frames"):
    create_index_files.main(
        [f"--root_audio={root}/audio", f"--root_frame={root}/{frames}", f"--path_output={root}", *flags]
    )
    return read_index(root / "train.csv"), read_index(root / "val.csv")


def keys(**counts):
    return [
        f"{category}/{category[:2]}{number:09d}" for category in counts for number in range(counts[category])
    ]


def table(path):
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


# ---- a mixture for the page


def log_freqs(rows=ROWS_HZ, rate=RATE):
    """Hz of the rows of the network's log-frequency axis."""
    return ((21 ** np.linspace(0, 1, rows) - 1) / 20 * rate / 2).astype(np.float32)


def sing(hertz, samples, rate=RATE):
    """A tone with two overtones, swelling and fading twice a second [L]."""
    times = np.arange(samples) / rate
    voice = sum(np.sin(2 * np.pi * hertz * k * times) / k for k in (1, 2, 3))
    return (0.2 * voice * (1 - np.cos(4 * np.pi * times))).astype(np.float32)


def moving_blob(pictures, height, width):
    """Pictures uint8 [T, H, W, 3] with a bright blob that goes from left to right."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    blobs = [np.exp(-((x - k / pictures) ** 2 + (y - 0.5) ** 2) / 0.02) for k in range(pictures)]
    return np.stack([np.stack([200 * blob + 20, 120 * blob + 60 * y, 90 * x], -1) for blob in blobs]).astype(
        np.uint8
    )


def make_source(index, samples, rate, freqs, pictures, size, scores=None):
    """A source with its own pitch; its mask is a band around it, its energy a spot in a corner."""
    wav = sing(330 * (index + 1.5), samples, rate)
    frames = moving_blob(pictures, *size)
    mask = np.zeros((len(freqs), samples // HOP + 1), np.float32)
    mask[np.abs(freqs - 330 * (index + 1.5)) < 100] = 1
    energy = np.full((14, 14), 0.05, np.float32)
    energy[2, 3 + index] = 5
    return viz.SourceView(
        clip=f"instrument{index}/AbCdEfGhIjK",
        category=f"instrument{index}",
        frames=frames,
        energy=energy,
        still=frames[pictures // 2],
        mask=0.8 * mask + 0.1,
        true_mask=mask,
        estimate=0.9 * wav,
        true=wav,
        oracle=0.95 * wav,
        scores=SCORES if scores is None else scores,
    )


def make_view(name="0007", num_mix=2, seconds=2, size=(64, 64), rate=RATE, freqs=None, scores=SCORES):
    """A MixtureView of `num_mix` tones."""
    samples, pictures = int(seconds * rate), int(seconds * FPS)
    freqs = log_freqs(rate=rate) if freqs is None else freqs
    sources = [make_source(k, samples, rate, freqs, pictures, size, scores) for k in range(num_mix)]
    return viz.MixtureView(
        name=name,
        mix=sum(source.true for source in sources) / num_mix,
        weight=np.full((len(freqs), samples // HOP + 1), 0.5, np.float32),
        freqs=freqs,
        rate=rate,
        fps=FPS,
        hop_seconds=HOP / rate,
        scores=scores,
        sources=sources,
    )


def with_source(view, **fields):
    """The view, with fields of its first source replaced."""
    return view._replace(sources=[view.sources[0]._replace(**fields), *view.sources[1:]])


# ---- evaluated runs


def write_run(folder, scores, ids=None, clips=None, status=None):
    """The folder of an evaluated run of mixtures of two clips.

    scores [M, 2]: SDR; ids: of its protocol; clips: M pairs; status: {mixture: why it is not scored}.
    """
    folder.mkdir(parents=True)
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow("mixture source clip category status loss sdr sir sar si_sdr sdr_mixture".split())
        for m, sources in enumerate(scores):
            for n, sdr in enumerate(sources):
                clip = clips[m][n] if clips else f"flute/{'abcdef'[(m + n) % 6]}"
                found = (status or {}).get(m, "scored")
                values = [sdr, sdr + 5, sdr + 2, sdr - 1, 1.0] if found == "scored" else [""] * 5
                writer.writerow([m, n, clip, clip.split("/")[0], found, 0.1, *values])
    if ids:
        save_json(folder / "protocol.json", {"mixtures": [{"id": each} for each in ids]})
    return str(folder)


def show_rows(folder, count, seconds=1):
    """Write the media of `count` rows of an evaluation page, all alike."""
    viz.write_row(folder, make_view(name="0000", seconds=seconds))
    for index in range(1, count):
        shutil.copytree(os.path.join(folder, "0000"), os.path.join(folder, f"{index:04d}"))
