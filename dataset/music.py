"""MUSICMixDataset: draws clips and moments for mix-and-separate training."""

import functools
import math
import random
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from dataset.audio import read_window
from dataset.checksums import checksum, file_checksum
from dataset.frames import draw_crop, read_clip
from dataset.indexing.mixture_table import MixtureTable
from dataset.indexing.partners import Partners
from media import time_limit
from utils import UserError

EDGE_SECONDS = 8  # distance of a training window's centre from the clip's ends, if the clip is long enough
VOLUMES = 0.5, 1.5  # range of a clip's random gain in training
EPOCH_ITEMS = 1000  # approximate length of an epoch with `repeats` 0
VIEW_STREAM = 1  # separates the random numbers of views from those of items
SPEED_STREAM = 2  # likewise, those of playback speeds
MAX_FAILURES = 10  # unreadable clips before an example is given up


class Sampling(NamedTuple):
    """The contents of an example; defaults are the published recipe's."""

    num_mix: int = 2
    num_frames: int = 3
    stride_frames: int = 24
    fps: int = 8  # frames/s on disk
    img_size: int = 224  # pixels
    aud_len: int = 65535  # samples
    aud_rate: int = 11025  # samples/s


class MUSICMixDataset(Dataset):
    """Mixtures of the clips of an index.

    An item is {mix [L], sources [N, L] float32, already divided by N; frames uint8 [N, 3, T, H, W]; info}.
    `info` holds the item's index, the numbers of its clips in the list, their centre frames, failures and
    complaints about damaged pictures as (clip name, reason). In training, an unreadable clip is replaced by
    another; in evaluation, the item is then `info` alone. With `checksums`, `info` in evaluation also holds
    {"sound", "pictures", "file"} of each clip: checksums of its window and frames as decoded, and of its
    sound file.

    clips: a sequence of `dataset.index.Clip`. train: random moments, volumes and crops, and `repeats` passes
    over the list per epoch (0: enough for about 1,000 items); otherwise the middle of each clip, and at most
    `max_items` clips (-1: all). pairs: the clips of a mixture differ in category and video ("category"), in
    video ("video"), or are drawn as in the original code, which may repeat a clip ("original"). mixtures:
    tuples of clip numbers; evaluation uses exactly these, but for those in `gone`. labels: the `LabelSets` of
    `clips`, of which the clips of a mixture share none, instead of categories. Randomness depends only on
    (seed, epoch, index).

    stream: a `dataset.shards.stream.Stream`: mixtures are of clips of one group of shards.

    semitones: training clips are played faster or slower, up to this change of pitch; the clips, moments and
    crops that are drawn stay the same.

    views: fixed views per training clip, see `view_clip`. If not 0, an item's `frames` in the first
    `view_epochs` epochs is int64 [N]: a random view of each clip, as clip number * views + view number.
    """

    def __init__(
        self,
        clips,
        sampling,
        train,
        pairs="category",
        seed=1234,
        repeats=1,
        max_items=-1,
        mixtures=None,
        semitones=0,
        views=0,
        view_epochs=math.inf,
        checksums=False,
        labels=None,
        stream=None,
    ):
        assert not (train and mixtures), "fixed mixtures are for evaluation"
        self.clips = clips if train or max_items < 0 else clips[:max_items]
        self.mixtures = mixtures
        self.sampling = sampling
        self.train = train
        self.pairs = pairs
        self.seed = seed
        self.repeats = (repeats or max(1, round(EPOCH_ITEMS / len(self.clips)))) if train else 1
        self.views = views if train else 0
        self.view_epochs = view_epochs
        self.semitones = semitones if train else 0
        self.checksums = checksums and not train
        self._known = {}  # {clip's number: its checksums}; each worker reads a file for them once
        self.unreadable = {}  # {clip's number: why its views could not be made}
        self.stream = stream
        self.partners = Partners(self.clips, pairs, labels)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by persistent workers
        if not mixtures:
            self._check_partners()

    def __len__(self):
        return len(self.mixtures or self.clips) * self.repeats

    def set_epoch(self, epoch):
        """Draw other mixtures from now on, also in workers that are already running."""
        self._epoch.fill_(epoch)

    @functools.cached_property
    def gone(self):
        """Indices of the fixed mixtures with a clip that is gone (no frames), see `dataset.fixed`."""
        if isinstance(self.mixtures, MixtureTable):
            return set()  # its clips have frames
        mixtures = enumerate(self.mixtures or ())
        return {index for index, picked in mixtures if any(not self.clips[n].num_frames for n in picked)}

    def mixture(self, index):
        """The numbers of the clips of a mixture in evaluation; fewer than N if no others may be mixed."""
        rng, draws, picked = *self._generators(index), []
        while len(picked) < self.sampling.num_mix:
            number = self._pick(index, picked, [], rng, draws)
            if number is None:
                break
            picked.append(number)
        return picked

    def middle(self, number):
        """The centre of a clip's window in evaluation: (number of the frame, seconds)."""
        centre = max(1, self.clips[number].num_frames // 2)
        return centre, (centre - 0.5) / self.sampling.fps

    def _generators(self, index):
        """The generators that draw the clips of a mixture; the second as in the original evaluation."""
        rng = np.random.default_rng([self.seed, int(self._epoch) if self.train else 0, index])
        return rng, random.Random(index)

    @property
    def gives_views(self):
        """True if items of this epoch hold views instead of frames."""
        return self.views > 0 and int(self._epoch) <= self.view_epochs

    def __getitem__(self, index):
        rng, draws = self._generators(index)
        rng_speed = np.random.default_rng([self.seed, int(self._epoch), index, SPEED_STREAM])
        picked, centres, failures, damaged = [], [], [], []
        waves, frames = self._allocate()
        while len(picked) < self.sampling.num_mix:
            number = self._pick(index, picked, failures, rng, draws)
            if number is None:
                where = " in its group of shards (--stream_shards)" if self.stream else ""
                failures = failures or [(picked[0], f"all other clips{where} share its category or video")]
                break
            try:
                place = len(picked)
                speed = 2 ** (rng_speed.uniform(-1, 1) * self.semitones / 12)
                complaints = []
                centres.append(self._load(number, speed, rng, waves[place], frames[place, ...], complaints))
                damaged += [(self.clips[number].name, complaint) for complaint in complaints]
                picked.append(number)
            except UserError as error:
                failures.append((number, str(error)))
                if not self.train or len(failures) > MAX_FAILURES:
                    break
        named = [(self.clips[number].name, reason) for number, reason in failures]
        info = {"index": index, "clips": picked, "centres": centres, "failures": named, "damaged": damaged}
        if self.checksums:
            info["checksums"] = [self._sums(*each) for each in zip(picked, waves, frames, strict=False)]
        if len(picked) < self.sampling.num_mix:
            return {"info": info}
        sources = torch.from_numpy(waves).div_(self.sampling.num_mix)
        return {
            "mix": sources.sum(dim=0),
            "sources": sources,
            "frames": torch.from_numpy(frames),
            "info": info,
        }

    def view_clip(self, number):
        """The views of a clip, uint8 [views, 3, T, H, W]: moments, crops and mirrors as training draws them.

        They depend on (seed, number, view) alone. Raises UserError for pictures that cannot be read.
        """
        s, clip = self.sampling, self.clips[number]
        pictures = np.empty((self.views, 3, s.num_frames, s.img_size, s.img_size), np.uint8)
        for view in range(self.views):
            rng = np.random.default_rng([self.seed, number, view, VIEW_STREAM])
            centre = _draw_centre(clip.num_frames, s, rng)
            numbers = _frame_numbers(centre, s.num_frames, s.stride_frames, clip.num_frames)
            read_clip(clip.path_frames, numbers, s.img_size, draw_crop(rng), pictures[view])
        return torch.from_numpy(pictures)

    def middle_clip(self, number):
        """The frames in the middle of a clip, as evaluation sees them: uint8 [3, T, H, W].

        Raises UserError for pictures that cannot be read.
        """
        s, clip = self.sampling, self.clips[number]
        numbers = _frame_numbers(self.middle(number)[0], s.num_frames, s.stride_frames, clip.num_frames)
        return read_clip(clip.path_frames, numbers, s.img_size)

    def window_pictures(self, number, centre):
        """(folder, numbers) of all frames of clip `number` within the audio window around frame `centre`."""
        s, clip = self.sampling, self.clips[number]
        count = max(1, round(s.aud_len / s.aud_rate * s.fps))
        return clip.path_frames, _frame_numbers(centre, count, 1, clip.num_frames)

    def _check_partners(self):
        needed = self.sampling.num_mix
        for kind, found in self.partners.num_labels().items():
            if found >= needed:
                continue
            what = "categories (folders of sound files)" if kind == "category" else "videos"
            raise UserError(
                f"mixtures of {needed} need clips of {needed} different {what}, found {found} in "
                f"{len(self.clips)} clips (those of one file name are one video): --mix_pairs or --val_pairs "
                "video only requires different videos"
            )

    def _pick(self, index, picked, failures, rng, draws):
        """The number of the next clip: the first by index, others at random among those that may be mixed.

        None if there are none left.
        """
        if self.mixtures:
            return next(iter(self.mixtures[index][len(picked) :]), None)
        if not picked and not failures:
            return index % len(self.clips)
        among = self.stream.members(index, int(self._epoch)) if self.stream else None
        if self.pairs == "original":
            last = len(self.clips) - 1
            if among is not None:
                return int(rng.choice(among))
            return int(rng.integers(last + 1)) if self.train else draws.randint(0, last)
        return self.partners.draw(picked, [number for number, _ in failures], rng, among)

    def _allocate(self):
        """Empty arrays for the waveforms [N, L] and frames [N, 3, T, H, W], or views [N], of an item."""
        s = self.sampling
        waves = np.empty((s.num_mix, s.aud_len), np.float32)
        if self.gives_views:
            return waves, np.empty(s.num_mix, np.int64)
        return waves, np.empty((s.num_mix, 3, s.num_frames, s.img_size, s.img_size), np.uint8)

    def _load(self, number, speed, rng, wave, frames, damaged):
        """Fill `wave` [L] and `frames` [3, T, H, W] (a view: []) from a clip; returns its centre frame.

        damaged: see `read_clip`.
        """
        if self.gives_views and number in self.unreadable:
            raise UserError(self.unreadable[number])
        with time_limit(self.clips[number].name):
            return self._read(number, speed, rng, wave, frames, damaged)

    def _read(self, number, speed, rng, wave, frames, damaged):
        s, clip = self.sampling, self.clips[number]
        centre = _draw_centre(clip.num_frames, s, rng) if self.train else self.middle(number)[0]
        seconds = (centre - 0.5) / s.fps
        wave[:] = read_window(clip.path_audio, seconds, s.aud_len, s.aud_rate, speed)
        if self.train:
            wave *= np.float32(rng.uniform(*VOLUMES))
            np.clip(wave, -1.0, 1.0, out=wave)
        crop = draw_crop(rng) if self.train else None
        if self.gives_views:  # drawn by the crop, so that views change nothing else that is drawn
            frames[...] = number * self.views + int(crop.x * self.views)
            return centre
        numbers = _frame_numbers(centre, s.num_frames, s.stride_frames, clip.num_frames)
        read_clip(clip.path_frames, numbers, s.img_size, crop, frames, damaged)
        return centre

    def _sums(self, number, wave, frames):
        """The checksums of a clip from its decoded window [L] and frames [3, T, H, W]."""
        if number not in self._known:
            path = self.clips[number].path_audio
            sums = {"sound": checksum(wave), "pictures": checksum(frames), "file": file_checksum(path)}
            self._known[number] = sums
        return self._known[number]


def collate(items):
    """Items -> {mix [B, L], sources [B, N, L], frames [B, N, 3, T, H, W], info, dropped}.

    `info` lists the B complete items, `dropped` the failed ones; if all items failed, there are no tensors.
    """
    whole = [item for item in items if "mix" in item]
    keys = ("mix", "sources", "frames") if whole else ()
    batch = {key: default_collate([item[key] for item in whole]) for key in keys}
    batch["info"] = [item["info"] for item in whole]
    batch["dropped"] = [item["info"] for item in items if "mix" not in item]
    return batch


def _draw_centre(count, sampling, rng):
    """A random centre frame in [m + 1, count - m] of a clip of `count` frames.

    The margin m is 8 seconds, or the reach of the frames if that is more. If the clip is too short for that,
    m is half of the audio window, and at most half of the clip.
    """
    reach = sampling.num_frames // 2 * sampling.stride_frames
    margin = max(EDGE_SECONDS * sampling.fps, reach)
    if 2 * margin >= count:
        half_window = math.ceil(sampling.aud_len / sampling.aud_rate * sampling.fps / 2)
        margin = min(half_window, (count - 1) // 2)
    return int(rng.integers(margin + 1, count - margin + 1))


def _frame_numbers(centre, num_frames, stride, count):
    """The numbers of the frames around `centre`, clamped to the clip."""
    return [min(max(centre + (i - num_frames // 2) * stride, 1), count) for i in range(num_frames)]
