"""The click-and-listen page: hear every place of a video, offline, from one folder.

The sound of a cell is a linear combination of R basis streams. The page (templates/listen*) plays all streams
at once, and a click only changes gains. Chunks of sound are loaded as scripts, as pages from file:// cannot
use fetch().
Shapes: S = R + K + 1 streams: the basis, the K sources, the residual; h, w cells; W windows; F rows and
T columns of a spectrogram.
"""

import base64
import concurrent.futures
import glob
import json
import math
import os
import tempfile
from typing import NamedTuple

import numpy as np

from media import file_url, run_ffmpeg
from pages.media import (
    COLOURS_ENERGY,
    COLOURS_SOUND,
    ENERGY_ALPHA,
    FLOOR_DB,
    MP3_RATES,
    frequency_ticks,
    gradient,
    spectrogram,
    write_picture,
)
from pages.render import render
from utils import replacing

CHUNK_SECONDS = 20  # of sound in one script
FADE_SECONDS = 0.1  # overlap of neighbouring chunks, which are cross-faded
MAX_BYTES_PER_MINUTE = 16e6  # of sound, all streams together; keeps pages small enough to copy and share
BITRATES = (128, 112, 96, 80, 64)  # kbit/s of one stream
MP3_BITRATES = {
    32000: (32, 320),
    16000: (8, 160),
    8000: (8, 64),
}  # lowest samples/s -> range of kbit/s, by MPEG version
MP3_QUALITY = 7  # LAME's, 0 to 9: 5 and better shape noise for masking that is lost when streams are combined
MP3_GAIN = 0.95  # LAME attenuates all sound by this factor
PEAK = 0.5  # level at which streams are encoded: headroom, yet far above what codecs treat as inaudible
NUM_ROWS = 128  # of the spectrograms
MEL_BREAK = 700.0  # Hz, where the mel scale turns from linear to logarithmic
NUM_COLOURS = 64  # of a gradient
ENERGY_TICKS = (-12, -6, 0)  # dB, of the scale of the energy overlay
AUDIBLE = 0.1  # of a source's loudest cell: quieter cells lie outside its outline


class PageInfo(NamedTuple):
    """What the page shows besides the streams. All files are in the page's folder."""

    title: str  # name of the video
    video: str  # file, H.264
    size: tuple  # (width, height) of the video, pixels
    seconds: float
    gains: np.ndarray  # float32 [h, w, R], of the basis streams for each cell's sound
    times: np.ndarray  # [W] seconds, centres of the windows of `energy`
    energy: np.ndarray  # float [W, h, w], of each cell's sound, >= 0, any scale
    colours: np.ndarray  # uint8 [h, w, 3], the embedding's
    # of {"name", "file", "colour": "#rrggbb", "cells": [[y, x], …], "share": 0..1 of the sources' and the
    # residual's energy}; where the name is a guess, also {"confidence": cosine similarity, up to 1}
    sources: list
    residual: str  # file
    downloads: list  # of (label, file): all other files
    spectrogram: np.ndarray  # float32 [F, T], magnitude of the mixture, linear frequency from 0 Hz
    spectrogram_top: float  # Hz of its last row
    notes: list  # lines of text
    trained_on: str = ""  # a sentence about the networks' training clips


class PageWriter:
    """Writes the page's folder as sound arrives; keeps two chunks in memory, one being encoded."""

    def __init__(self, folder, rate, num_streams):
        """rate: samples/s, an int; num_streams: S."""
        self.folder, self.rate = folder, rate
        self.fade = 2 * round(FADE_SECONDS / 2 * rate)  # samples
        self.step = CHUNK_SECONDS * rate  # samples
        self.rate_coded, self.kilobits = coded_rate(rate), bitrate(num_streams)
        self.waiting = np.zeros((num_streams, self.step + self.fade), np.float32)
        self.filled = 0  # number of samples in `waiting`
        self.num_chunks = 0
        self.pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())  # ffmpeg does the work
        self.encoding = None  # (number, length, futures) of the chunk that is being encoded
        os.makedirs(os.path.join(folder, "sound"), exist_ok=True)
        for path in glob.glob(os.path.join(glob.escape(folder), "sound", "[0-9]*.js")):
            os.remove(path)  # of an earlier page, perhaps with more chunks

    def add(self, streams):
        """Append samples, streams float32 [S, n]; write the chunks that they complete."""
        assert streams.shape[0] == len(self.waiting), "a row per stream"
        while streams.shape[1]:
            full = self.waiting.shape[1] - (0 if self.num_chunks else self.fade // 2)  # none before time 0
            part = streams[:, : full - self.filled]
            self.waiting[:, self.filled : self.filled + part.shape[1]] = part
            self.filled += part.shape[1]
            streams = streams[:, part.shape[1] :]
            if self.filled == full:
                self._write_chunk()
                self.waiting[:, : self.fade] = self.waiting[:, full - self.fade : full].copy()
                self.filled = self.fade

    def close(self, info):
        """Write the remaining sound and then index.html; info: a PageInfo."""
        assert self.filled, "a page needs sound"
        assert len(self.waiting) == info.gains.shape[-1] + len(info.sources) + 1, "basis, sources, residual"
        self._write_chunk()
        self._finish_chunk()
        self.pool.shutdown()
        write_overview(os.path.join(self.folder, "overview.webp"), info)
        edges = mel_edges(min(info.spectrogram_top, self.rate / 2))
        residual = {"name": "residual", "file": info.residual, "colour": "#8b929d"}
        residual["share"] = 1 - sum(source["share"] for source in info.sources)
        sound = {
            "rate": self.rate_coded,
            "chunkSeconds": CHUNK_SECONDS,
            "fadeSeconds": self.fade / self.rate,
            "numChunks": self.num_chunks,
        }
        render(
            self.folder,
            "listen.html",
            {"border": border, "corner": corner},
            info=info,
            outlined=[audible(source["cells"], info.energy.mean(axis=0)) for source in info.sources],
            data=sound | page_data(info, edges),
            streams=[*info.sources, residual],
            energy_scale=energy_scale(),
            ticks_hz=frequency_ticks((edges[1:] + edges[:-1]) / 2),
            megabytes=lambda name: megabytes(self.folder, name),
        )

    def _write_chunk(self):
        """Begin to encode the waiting samples, and write the chunk before them."""
        self._finish_chunk()
        waves = self.waiting[:, : self.filled].copy()
        length = math.ceil(self.filled * self.rate_coded / self.rate)
        self.encoding = self.num_chunks, length, [self.pool.submit(self._encode, wave) for wave in waves]
        self.num_chunks += 1

    def _finish_chunk(self):
        """Write the encoded samples as a script that passes [[scale, MP3 in base64], …] to the page."""
        if self.encoding is None:
            return
        number, length, futures = self.encoding
        sounds = [future.result() for future in futures]
        path = os.path.join(self.folder, "sound", f"{number:04d}.js")
        with replacing(path) as temporary, open(temporary, "w", encoding="ascii") as file:
            file.write(f"chunk({number}, {length}, {json.dumps(sounds)});\n")
        self.encoding = None

    def _encode(self, wav):
        """wav [n] -> [scale, MP3 in base64]: the sound is scale times the decoded MP3. Silence is None."""
        peak = float(np.abs(wav).max())
        if not peak:
            return None
        wav = wav * (PEAK / peak)
        if self.rate_coded != self.rate:
            from scipy import signal  # here: it takes a second, and most pages do not need it

            divisor = math.gcd(self.rate_coded, self.rate)
            wav = signal.resample_poly(wav, self.rate_coded // divisor, self.rate // divisor)
        mp3 = encode_mp3(wav, self.rate_coded, self.kilobits)
        return [peak / PEAK / MP3_GAIN, base64.b64encode(mp3).decode()]


def write_gallery(folder, entries):
    """Write folder/index.html, which links to pages.

    entries: a list of (title, href, thumbnail file or None, one line of text), paths relative to folder.
    """
    render(folder, "gallery.html", {}, entries=entries)


# ---- data for the script


def page_data(info, edges):
    """The data of templates/listen.js: plain values, arrays as base64 of little-endian bytes, row by row."""
    height, width, num_basis = info.gains.shape
    amplitude = np.sqrt(info.energy / max(float(info.energy.max()), np.finfo(np.float32).tiny))
    assert amplitude.shape == (len(info.times), height, width), "a map per window"
    assert info.colours.shape == (height, width, 3), "a colour per cell"
    return {
        "seconds": float(info.seconds),
        "height": height,
        "width": width,
        "numBasis": num_basis,
        "gains": packed(info.gains, "<f4"),
        "times": [round(float(time), 4) for time in info.times],
        "energy": packed(np.round(255 * amplitude), np.uint8),
        "colours": packed(info.colours, np.uint8),
        "edges": [round(float(edge), 2) for edge in edges],
        "floor": FLOOR_DB,
        "energyAlpha": ENERGY_ALPHA,
        "energyColours": gradient(COLOURS_ENERGY, NUM_COLOURS),
        "soundColours": gradient(COLOURS_SOUND, NUM_COLOURS),
    }


def packed(values, dtype):
    """An array's bytes in base64."""
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()


def megabytes(folder, name):
    """A file's size as the page shows it; empty if it does not exist yet."""
    try:
        return f"{os.path.getsize(os.path.join(folder, name)) / 1e6:.1f} MB"
    except FileNotFoundError:
        return ""


def border(cells):
    """The outline of cells [[y, x], …] as an SVG path: the sides that belong to only one cell."""
    inside = {(y, x) for y, x in cells}
    sides = {(0, -1): "M{x} {y}v1", (-1, 0): "M{x} {y}h1", (0, 1): "M{x1} {y}v1", (1, 0): "M{x} {y1}h1"}
    return "".join(
        side.format(x=x, y=y, x1=x + 1, y1=y + 1)
        for y, x in sorted(inside)
        for (down, right), side in sides.items()
        if (y + down, x + right) not in inside
    )


def audible(cells, energy):
    """The cells [[y, x], …] in which the source is heard, by the energy [h, w] of each cell."""
    loudest = max((energy[y, x] for y, x in cells), default=0)
    return [[y, x] for y, x in cells if energy[y, x] >= AUDIBLE * loudest]


def corner(cells):
    """The [x, y] of the first cell, row by row, of the largest connected part of cells [[y, x], …]."""
    from scipy import ndimage  # here: it takes a second to import

    grid = np.zeros(np.max(cells, axis=0) + 1, bool)
    grid[tuple(np.transpose(cells))] = True
    parts, _ = ndimage.label(grid)
    largest = np.bincount(parts[grid]).argmax()
    return np.argwhere(parts == largest)[0, ::-1].tolist()


def energy_scale():
    """The scale of the energy overlay: {"colours": in CSS notation, "ticks": of {"at": percent, "label"}}."""
    colours = gradient(COLOURS_ENERGY, 13)
    alphas = np.round(255 * ENERGY_ALPHA * np.linspace(0, 1, len(colours))).astype(int)
    ticks = [
        {"at": round(100 * 10 ** (tick / 20), 1), "label": f"{tick} dB".replace("-", "−")}
        for tick in ENERGY_TICKS
    ]
    return {
        "colours": [f"{colour}{alpha:02x}" for colour, alpha in zip(colours, alphas, strict=True)],
        "ticks": [{"at": 0, "label": "silent"}, *ticks],
    }


def mel_edges(top):
    """Edges [NUM_ROWS + 1] of the spectrograms' rows, Hz: evenly spaced on the mel scale from 0 to `top`."""
    return MEL_BREAK * np.expm1(np.linspace(0, math.log1p(top / MEL_BREAK), NUM_ROWS + 1))


def write_overview(path, info):
    """Write the spectrogram of the whole video, on the mel scale, as an image."""
    power = np.square(info.spectrogram.astype(np.float64))
    at = mel_edges(info.spectrogram_top) / info.spectrogram_top * (len(power) - 1)  # rows of the spectrogram
    below = np.concatenate([np.zeros_like(power[:1]), np.cumsum(power, axis=0)])
    low = np.minimum(at.astype(int), len(power) - 1)
    cumulative = below[low] + (at - low)[:, None] * power[low]
    rows = np.diff(cumulative, axis=0) / np.diff(at)[:, None]
    write_picture(path, spectrogram(rows, float(rows.max())))


# ---- MP3


def coded_rate(rate):
    """The sample rate of the MP3s: `rate`, or the next higher one that MP3 supports."""
    return min((known for known in MP3_RATES if known >= rate), default=MP3_RATES[-1])


def bitrate(num_streams):
    """kbit/s per stream: the highest that keeps all streams, as base64, within MAX_BYTES_PER_MINUTE."""
    granted = MAX_BYTES_PER_MINUTE * 3 / 4 * 8 / 60 / num_streams / 1000
    return next((kilobits for kilobits in BITRATES if kilobits <= granted), BITRATES[-1])


def encode_mp3(wav, rate, kilobits):
    """Encode wav [n], within ±1, as the bytes of an MP3 of constant bitrate: kbit/s, limited by the rate.

    The first frame states the encoder delay, so that decoders can remove it.
    """
    low, high = next(span for start, span in MP3_BITRATES.items() if rate >= start)
    coding = ["-c:a", "libmp3lame", "-b:a", f"{min(max(kilobits, low), high)}k"]
    coding += ["-compression_level", str(MP3_QUALITY)]
    with tempfile.TemporaryDirectory() as folder:  # a pipe would leave out the end's padding
        path = os.path.join(folder, "stream.mp3")
        source = ["-f", "f32le", "-ar", str(rate), "-ac", "1", "-i", "pipe:0"]
        run_ffmpeg([*source, *coding, file_url(path)], data=wav.astype("<f4").tobytes())
        with open(path, "rb") as file:
            mp3 = file.read()
    assert b"Info" in mp3[:300], "the encoder's delay is missing"
    return mp3
