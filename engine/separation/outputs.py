"""The outputs of separating a video: sounds, videos, numbers and the page."""

import concurrent.futures
import contextlib
import glob
import json
import os
import tempfile
from typing import NamedTuple

import numpy as np
import scipy.fft
import soundfile
from PIL import Image

from dataset.index import path_frame
from engine.options import AUTO
from engine.separation import places
from engine.separation.passes import Rendering, Video, analyse, synthesise
from engine.separation.places import cells_of
from engine.separation.unpack import unpack, write_copy
from media import writing_sound
from pages import listen, overlay
from utils import UserError, replacing, save_json

COLOURS = ("#e4572e", "#2e86ab", "#5fad56", "#b07bac", "#f2c14e", "#4d9de0", "#e15554", "#3bb273")
MAX_COLUMNS = 2000  # of the whole video's spectrogram
SPECTROGRAM_SECONDS = 0.1  # STFT window of a column
THUMBNAIL = 320  # pixels, the longer side


class Request(NamedTuple):
    """What to separate, and how."""

    num_sources: int | str = AUTO  # to find; auto: one or two
    points: list | None = None  # of (x, y), pixels of the video
    boxes: list | None = None  # of (x, y, width, height)
    consistent: bool = True
    own_rate: int | None = None  # samples/s of the outputs, None: the video's
    path_sound: str | None = None  # the sound of a picture
    notes: tuple = ()  # lines of text for the page
    title: str | None = None  # of the page, None: the video's file name
    trained_on: str = ""  # a sentence for the page about the networks' training clips


class Separated(NamedTuple):
    """What separation left in a folder. K sources, Ch channels, S samples; W windows, h * w cells."""

    folder: str  # of index.html, the sounds and the videos
    rate: int  # samples/s
    sources: np.ndarray  # float32 [K, Ch, S]
    residual: np.ndarray  # float32 [Ch, S]: with the sources it adds up to the video's sound
    times: np.ndarray  # [W] seconds, the middle of each window
    energy: np.ndarray  # [W, h, w], sound energy of each cell, >= 0
    names: list  # [K] e.g. "flute?" for a source that looks like the training clips of flutes, or "source1"
    confidences: list  # [K] how much it looks like them, a cosine up to 1, or None


def read_outputs(folder):
    """The `Separated` that `separate_video` wrote into `folder`."""
    with open(os.path.join(folder, "separated.json"), encoding="utf-8") as file:
        numbers = json.load(file)
    files = [*(source["file"] for source in numbers["sources"]), "residual.wav"]
    sounds = []
    for name in files:
        with open(os.path.join(folder, name), "rb") as file:
            wave, rate = soundfile.read(file, dtype="float32", always_2d=True)
        sounds.append(wave.T)
    *sources, residual = sounds
    times, energy = np.array(numbers["times"]), np.array(numbers["energy"])
    names = [source["name"] for source in numbers["sources"]]
    confidences = [source.get("confidence") for source in numbers["sources"]]
    return Separated(folder, rate, np.stack(sources), residual, times, energy, names, confidences)


def separate_video(path, folder, pixels, sampling, request):
    """Separate the video at `path`; sounds, maps and page go to `folder`.

    pixels: a `PixelSeparator` on its device; sampling: a `dataset.music.Sampling`; request: a `Request`.
    Returns a line about it. Raises UserError if the video cannot be used.
    """
    with tempfile.TemporaryDirectory() as work:
        return _separate_video(path, folder, work, pixels, sampling, request)


def _separate_video(path, folder, work, pixels, sampling, request):
    device = next(pixels.parameters()).device
    rates = sampling.fps, sampling.aud_rate
    unpacked = unpack(path, work, *rates, request.path_sound, request.own_rate)
    video = Video(unpacked, sampling, pixels.separator.settings.stft_hop)
    times = [video.centre(start) for start in video.starts]
    analysis = analyse(video, pixels, device)
    regions, labels = find_regions(analysis, unpacked.size, request, pixels)
    parts, gains = places.basis(analysis.gram)
    colours = places.colours(analysis.gram).reshape(*analysis.shape, 3)
    files = [f"source{n}.wav" for n in range(1, len(regions) + 1)]
    for old in glob.glob(os.path.join(glob.escape(folder), "source[0-9]*.wav")):
        os.remove(old)  # of an earlier run that may have had more sources
    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # ffmpeg makes the videos beside the networks
        inputs = unpacked, folder, work, analysis.energy, colours, times, sampling.fps
        videos = pool.submit(_write_videos, *inputs)
        chunks = synthesise(video, pixels, device, analysis, Rendering(regions, request.consistent, parts))
        page = listen.PageWriter(folder, video.rate, gains.shape[1] + len(files) + 1)
        energies = _write_sounds(chunks, folder, [*files, "residual.wav"], video, page)
        videos.result()
    loud = places.loud_cells(regions, labels, analysis.energy)
    found = pixels.name_regions(analysis.maps, loud)
    sources = _describe(files, found, labels.reshape(analysis.shape), energies)
    line = f"{unpacked.seconds:.1f} s, " + ", ".join(f"{s['name']} {s['share']:.0%}" for s in sources)
    _write_numbers(folder, path, unpacked, analysis, times, sources, request)
    page.close(_page_info(path, unpacked, video, analysis, colours, times, gains, sources, request))
    return line


def find_regions(analysis, size, request, pixels):
    """(bool [K, h, w] cells of each source, [P] the source of each cell, -1 for none).

    size: (width, height) of the video. Raises UserError for points and boxes outside of it.
    """
    shape = analysis.shape
    if not (request.points or request.boxes):
        num_sources = count_sources(analysis, pixels) if request.num_sources == AUTO else request.num_sources
        if num_sources > np.prod(shape):
            raise UserError(f"--num_sources {num_sources}: there are {np.prod(shape)} places in all")
        regions, labels = places.group(analysis.gram, num_sources)
        return regions.reshape(-1, *shape), labels
    rectangles = request.boxes or [(x, y, 0, 0) for x, y in request.points]
    regions = np.stack([cells_of(rectangle, size, shape) for rectangle in rectangles])
    return regions, np.where(regions.any(axis=0), regions.argmax(axis=0), -1).ravel()


def count_sources(analysis, pixels):
    """1 or 2 sources. Two groups of cells are one source if they look like the same category, too."""
    shape = analysis.shape
    if np.prod(shape) < 2:
        return 1
    regions, labels = places.group(analysis.gram, 2)
    if not places.are_two(analysis.gram, shape, labels):
        return 1
    loud = places.loud_cells(regions.reshape(-1, *shape), labels, analysis.energy)
    one, other = pixels.name_regions(analysis.maps, loud)
    return 1 if one and other and one[0] == other[0] else 2


def _write_sounds(chunks, folder, names, video, page):
    """Write the wav files `names` and pass all chunks on to the page. Returns the energy of each."""
    energies = np.zeros(len(names))
    with contextlib.ExitStack() as stack:
        files = []
        for name in names:
            path = stack.enter_context(replacing(os.path.join(folder, name)))
            stack.enter_context(writing_sound(os.path.join(folder, name)))
            options = {"samplerate": video.rate, "channels": video.channels, "subtype": "PCM_16"}
            files.append(stack.enter_context(soundfile.SoundFile(os.fsencode(path), "w", **options)))
        for separated, streams in chunks:
            for file, wave in zip(files, separated, strict=True):
                file.write(np.clip(wave.T, -1, 1))
            energies += np.square(separated, dtype=np.float64).sum(axis=(1, 2))
            page.add(np.concatenate([streams, separated.mean(axis=1)]))
    return energies


def _write_videos(unpacked, folder, work, energy, colours, times, fps):
    write_copy(unpacked.video, os.path.join(folder, "video.mp4"), unpacked.seconds)
    count = unpacked.num_frames
    maps = {
        "heatmap.mp4": overlay.energy_maps(energy, times, count, fps),
        "embeddings.mp4": overlay.embedding_maps(colours, count),
    }
    sound = os.path.join(work, "overlay.m4a")
    overlay.encode_sound(unpacked.own_sound, sound)
    for name, each in maps.items():
        overlay.write_overlay(os.path.join(folder, name), unpacked.frames, fps, each, sound)
    with Image.open(path_frame(unpacked.frames, max(1, count // 2))) as picture:
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        with replacing(os.path.join(folder, "thumbnail.jpg")) as temporary:
            picture.save(temporary)


def _describe(files, found, labels, energies):
    """The sources as the page and separated.json describe them; found: see `PixelSeparator.name_regions`."""
    total = max(energies.sum(), 1e-30)
    sources = []
    for n, (name, near) in enumerate(zip(files, found, strict=True)):
        source = {
            "name": f"{near[0]}?" if near else os.path.splitext(name)[0],
            "file": name,
            "colour": COLOURS[n % len(COLOURS)],
            "cells": np.argwhere(labels == n).tolist(),
            "share": float(energies[n] / total),
        }
        sources.append(source | ({"confidence": round(near[1], 4)} if near else {}))
    return sources


def _write_numbers(folder, path, unpacked, analysis, times, sources, request):
    save_json(
        os.path.join(folder, "separated.json"),
        {
            "video": request.title or path,
            "size": unpacked.size,
            "seconds": unpacked.seconds,
            "cells": analysis.shape,
            "sources": [{key: source[key] for key in source if key != "colour"} for source in sources],
            "times": times,
            "energy": np.round(analysis.energy, 4).tolist(),
            "settings": {**request._asdict(), "notes": list(request.notes)},
        },
    )


def _page_info(path, unpacked, video, analysis, colours, times, gains, sources, request):
    height, width = analysis.shape
    spectrogram, top = _spectrogram(unpacked.own_sound)
    places_line = f"{height} × {width} places, {len(times)} windows"
    with Image.open(path_frame(unpacked.frames, 1)) as picture:
        size = picture.size
    return listen.PageInfo(
        title=request.title or os.path.basename(path),
        video="video.mp4",
        size=size,
        seconds=video.num_samples / video.rate,
        gains=gains.reshape(height, width, -1).astype(np.float32),
        times=np.array(times),
        energy=analysis.energy,
        colours=colours,
        sources=sources,
        residual="residual.wav",
        downloads=[(name, name) for name in ("heatmap.mp4", "embeddings.mp4", "separated.json")],
        spectrogram=spectrogram,
        spectrogram_top=top,
        notes=[*request.notes, *filter(None, [unpacked.note]), places_line],
        trained_on=request.trained_on,
    )


def _spectrogram(path):
    """Magnitudes float32 [F, T] of the whole file, T at most MAX_COLUMNS, and the Hz of the last row."""
    with soundfile.SoundFile(path) as file:
        length = round(SPECTROGRAM_SECONDS * file.samplerate) // 2 * 2
        count = min(MAX_COLUMNS, max(1, file.frames // (length // 2)))
        columns = []
        for n in range(count):
            file.seek(min(round(n * file.frames / count), max(0, file.frames - length)))
            wave = file.read(length, always_2d=True, fill_value=0.0).mean(axis=1)
            columns.append(np.abs(scipy.fft.rfft(wave * np.hanning(length))))
        return np.stack(columns, axis=1).astype(np.float32), file.samplerate / 2
