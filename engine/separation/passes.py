"""Separate a video of any length in two passes over overlapping windows; memory does not grow with length.

The first pass analyses the sound of every cell (`places`): it gives the regions and the basis of the page's
sounds. The second pass makes the waveforms (`windows`), one window at a time.
"""

from typing import NamedTuple

import numpy as np
import soundfile
import torch

from dataset.frames import read_whole
from engine.separation import places
from engine.separation.windows import MaskedSynthesis, OverlapAdd, plan
from utils import Fault, progress

WINDOW_OVERLAP = 2  # windows that cover each moment
BATCH = 4  # windows in a batch
# Picture sizes, relative to training: a player in a duet appears smaller than one who plays alone.
SCALES = (1.0, 1.4, 1.8)


class Window(NamedTuple):
    """One input of the sound network."""

    start: int  # first sample, at the networks' rate
    mix: torch.Tensor  # [L]


class Video:
    """An unpacked video, read a window at a time. sampling: a `dataset.music.Sampling`."""

    def __init__(self, unpacked, sampling, stft_hop):
        self.unpacked = unpacked
        self.sampling = sampling
        info = soundfile.info(unpacked.own_sound)
        self.rate, self.channels, self.num_samples = info.samplerate, info.channels, info.frames
        length = sampling.aud_len
        self.net_samples = soundfile.info(unpacked.sound).frames
        # The iSTFT does not give back the last hops of a window: the next one covers them.
        self.starts = plan(self.net_samples, length - 2 * stft_hop, length // WINDOW_OVERLAP)

    def centre(self, start):
        """Seconds at the middle of the sound in the window that begins at `start`."""
        end = min(start + self.sampling.aud_len, self.net_samples)
        return (start + end) / 2 / self.sampling.aud_rate

    def windows(self, label):
        """All windows in batches (lists of `Window`), with a progress bar."""
        with progress(total=len(self.starts), desc=label, unit="window", leave=False) as bar:
            for first in range(0, len(self.starts), BATCH):
                batch = [self._window(start) for start in self.starts[first : first + BATCH]]
                yield batch
                bar.update(len(batch))

    def own_window(self, start, length):
        """[channels, length] of the sound at its own rate from sample `start`, zero-padded at the end."""
        with soundfile.SoundFile(self.unpacked.own_sound) as file:
            file.seek(min(start, file.frames))
            wave = file.read(length, dtype="float32", always_2d=True, fill_value=0.0)
        return torch.from_numpy(wave.T.copy())

    def pictures(self, start):
        """The frames around the middle of a window in several sizes, uint8 [3, T, H, W] each."""
        s = self.sampling
        last = self.unpacked.num_frames
        centre = round(self.centre(start) * s.fps + 0.5)
        numbers = [centre + (i - s.num_frames // 2) * s.stride_frames for i in range(s.num_frames)]
        numbers = [min(max(number, 1), last) for number in numbers]
        sizes = [round(scale * s.img_size) for scale in SCALES]
        return [torch.from_numpy(read_whole(self.unpacked.frames, numbers, size)) for size in sizes]

    def _window(self, start):
        with soundfile.SoundFile(self.unpacked.sound) as file:
            file.seek(min(start, file.frames))
            mix = torch.from_numpy(file.read(self.sampling.aud_len, dtype="float32", fill_value=0.0))
        return Window(start, mix)


def analyse(video, pixels, device):
    """The first pass: the `places.Analysis` of a `Video` by a `PixelSeparator`.

    Raises Fault if the networks gave values that are not finite, as bf16 may for tiny pictures.
    """

    def windows():
        for batch in video.windows("listening"):
            sizes = zip(*(video.pictures(window.start) for window in batch), strict=True)
            maps = pixels.feature_map([torch.stack(pictures).to(device) for pictures in sizes])
            magnitude, feat_sound = pixels.sound_features(
                torch.stack([window.mix for window in batch]).to(device)
            )
            for n in range(len(batch)):  # one at a time: masks of all cells are large
                here = slice(n, n + 1)
                yield maps[here], magnitude[here], pixels.cell_masks(maps[here], feat_sound[here])

    with torch.inference_mode():
        analysis = places.analyse(windows())
    if not np.isfinite(analysis.gram).all():
        raise Fault("the networks gave values that are not finite; --amp off computes in float32")
    return analysis


class Rendering(NamedTuple):
    """What the second pass makes."""

    regions: np.ndarray  # bool [K, h, w], one for each source
    consistent: bool  # whether overlapping sources share the sound
    parts: np.ndarray | None = None  # [P, R], see `places.basis`; None: no streams


def synthesise(video, pixels, device, analysis, rendering):
    """The second pass: yields consecutive ([K + 1, channels, n] sounds, [R, n] streams).

    The sounds are the sources, one for each region, and the residual: the video's sound minus the sources.
    """
    s, spectral = video.sampling, pixels.separator.spectral
    synthesis = MaskedSynthesis(video.rate, s.aud_rate, spectral.n_fft, spectral.hop, s.aud_len).to(device)
    regions = torch.from_numpy(rendering.regions).to(device)
    parts = None if rendering.parts is None else torch.from_numpy(rendering.parts).float().to(device)
    sources, streams = (OverlapAdd(synthesis.valid, video.num_samples) for _ in range(2))
    with torch.inference_mode():
        for batch, maps in zip(video.windows("separating"), _batches(analysis.maps), strict=True):
            maps = torch.from_numpy(maps).to(device)
            _, feat_sound = pixels.sound_features(torch.stack([window.mix for window in batch]).to(device))
            masks = pixels.region_masks(
                pixels.region_features(maps, regions), feat_sound, rendering.consistent
            )
            for n, window in enumerate(batch):
                start = round(window.start * video.rate / s.aud_rate)
                wave = video.own_window(start, synthesis.length).to(device)
                separated = synthesis(wave, spectral.unwarp(masks[n])).cpu()
                played = torch.zeros(0, 1, synthesis.valid)
                if parts is not None:
                    cells = pixels.cell_masks(maps[n : n + 1], feat_sound[n : n + 1])[0]
                    combined = spectral.unwarp(torch.einsum("pr,pft->rft", parts, cells))
                    played = synthesis(wave.mean(dim=0, keepdim=True), combined).cpu()
                first = sources.begin
                yield from _join(video, first, sources.add(start, separated), streams.add(start, played))
        yield from _join(video, sources.begin, sources.finish(), streams.finish())


def _batches(array):
    return (array[first : first + BATCH] for first in range(0, len(array), BATCH))


def _join(video, first, separated, streams):
    """Finished samples from `first` on, with the residual; nothing if there are none yet."""
    if separated is None:
        return
    residual = video.own_window(first, separated.shape[2]) - separated.sum(dim=0)
    yield torch.cat([separated, residual[None]]).numpy(), streams[:, 0].numpy()
