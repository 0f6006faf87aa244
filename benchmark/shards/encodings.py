"""Bytes, decoding time and scores of clips whose sound and frames are encoded in several ways."""

import json
import os
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from dataset.audio import read_window
from dataset.frames import read_clip
from dataset.index import Clip, path_frame, read_index, write_index
from dataset.shards.encode import encode_picture, encode_sound
from utils import UserError, progress

ROUNDS = 3  # of decoding, of which the fastest counts


class Variant(NamedTuple):
    """How clips are encoded, see `dataset.shards.encode`."""

    sound: str = "keep"
    frames: str = "keep"
    quality: int = 75
    side: int | None = None  # maximum of a frame's shorter side, pixels; None: as it is


VARIANTS = {
    "wav, frames as they are": Variant(),
    "FLAC": Variant("flac"),
    "Opus": Variant("opus"),
    "JPEG, quality 90": Variant("keep", "jpeg", 90),
    "JPEG, quality 75": Variant("keep", "jpeg", 75),
    "JPEG, quality 60": Variant("keep", "jpeg", 60),
    "WebP, quality 75": Variant("keep", "webp", 75),
    "JPEG, quality 90, 176 pixels": Variant("keep", "jpeg", 90, 176),
    "JPEG, quality 75, 128 pixels": Variant("keep", "jpeg", 75, 128),
    "FLAC; JPEG, quality 75": Variant("flac", "jpeg", 75),
    "Opus; JPEG, quality 60": Variant("opus", "jpeg", 60),
}
COLUMNS = "encoding", "KB sound", "KB frames", "KB clip", "ms to decode", "SDR", "difference"


def measure(variants, list_val, run, work):
    """Measure variants of the clips of an index file: {name: row}, a row having the keys of COLUMNS.

    run: the folder of a trained run, whose networks are evaluated; work: a folder for copies. Raises
    UserError if the evaluation fails.
    """
    clips, rows = read_index(list_val), {}
    for name, variant in progress(variants.items(), desc="encodings", unit="encoding"):
        folder = os.path.join(work, "clips")
        encoded = [_encode(clip, variant, folder) for clip in clips]
        path_list = os.path.join(folder, "val.csv")
        write_index(path_list, encoded)
        sound = sum(os.path.getsize(clip.path_audio) for clip in encoded) / len(clips) / 1000
        frames = sum(map(_bytes_of_frames, encoded)) / len(clips) / 1000
        sdr, window = _evaluate(run, path_list, work)
        first = next(iter(rows.values()))["SDR"] if rows else sdr
        values = name, sound, frames, sound + frames, _decoding(encoded, window) * 1000, sdr, sdr - first
        rows[name] = dict(zip(COLUMNS, values, strict=True))
        shutil.rmtree(folder)
    return rows


def table(rows):
    """The rows as a table in Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "| " + " | ".join(["---"] * len(COLUMNS)) + " |"]
    for row in rows.values():
        name, sound, frames, both, milliseconds, sdr, difference = row.values()
        cells = name, f"{sound:.0f}", f"{frames:.0f}", f"{both:.0f}", f"{milliseconds:.1f}"
        lines.append("| " + " | ".join([*cells, f"{sdr:.2f}", f"{difference:+.2f}"]) + " |")
    return "\n".join(lines)


def _encode(clip, variant, folder):
    """A copy of a clip in `folder`, encoded."""
    suffix = os.path.splitext(clip.path_audio)[1]
    with open(clip.path_audio, "rb") as file:
        suffix, sound = encode_sound(file.read(), suffix, variant.sound)
    path_audio = os.path.join(folder, "audio", clip.name + suffix)
    path_frames = os.path.join(folder, "frames", clip.name)
    os.makedirs(os.path.dirname(path_audio), exist_ok=True)
    os.makedirs(path_frames)
    with open(path_audio, "wb") as file:
        file.write(sound)
    for number in range(1, clip.num_frames + 1):
        with open(path_frame(clip.path_frames, number), "rb") as file:
            data = encode_picture(file.read(), variant.frames, variant.quality, variant.side)
        with open(path_frame(path_frames, number), "wb") as file:  # readers go by the content, not the name
            file.write(data)
    return Clip(path_audio, path_frames, clip.num_frames)


def _bytes_of_frames(clip):
    return sum(entry.stat().st_size for entry in os.scandir(clip.path_frames))


def _decoding(clips, options):
    """CPU seconds to read a clip's window and frames, as evaluation reads them."""
    count, size = options["num_frames"], options["imgSize"]
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for clip in clips:
            centre = max(1, clip.num_frames // 2)
            seconds = (centre - 0.5) / options["frameRate"]
            read_window(clip.path_audio, seconds, options["audLen"], options["audRate"])
            read_clip(clip.path_frames, [centre] * count, size)
        best = min(best, (time.process_time() - start) / len(clips))
    return best


def _evaluate(run, path_list, work):
    """(mean SDR in dB of the run's networks on the clips of an index file, the run's options)."""
    ckpt = os.path.join(work, "ckpt")
    name = os.path.basename(os.path.abspath(run))
    shutil.copytree(
        run, os.path.join(ckpt, name), ignore=shutil.ignore_patterns("visualization", "tensorboard")
    )
    command = [sys.executable, "main.py", "--mode", "eval", "--ckpt", ckpt, "--id", name]
    command += ["--list_val", path_list, "--list_val_mix", "", "--num_vis", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        if done.returncode:
            raise UserError(f"{run}: cannot be evaluated: {done.stderr.strip().splitlines()[-1:]}")
        with open(os.path.join(ckpt, name, "metrics.json"), encoding="utf-8") as file:
            sdr = json.load(file)["sdr"]
        with open(os.path.join(run, "options.json"), encoding="utf-8") as file:
            return sdr, json.load(file)
    finally:
        shutil.rmtree(ckpt)
