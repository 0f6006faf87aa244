"""A baseline in the form that evaluation calls: waveforms and categories -> masks -> waveforms.

B mixtures, N sources, L samples, F frequencies, T columns.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from engine.baselines.factorise import hpss_masks, nmf_masks, supervised_masks
from engine.baselines.methods import UNORDERED
from engine.evaluation.bss_eval import bss_eval
from engine.evaluation.evaluate import Evaluator
from engine.evaluation.metrics import find_silence
from models.separator import EPSILON, Settings, apply_masks, true_masks
from models.spectral import Spectral

WORST = 100.0  # dB: limit of scores that may be infinite, when sounds are put in order


class Baseline(nn.Module):
    """The method `name` of `methods.TITLES`, on the CPU.

    rate: samples/s; pool: computes factorisations, see `results.make_pool`; bases: {category: [K, F]}, for
    nmf-supervised.
    """

    settings = Settings(log_freq=True)  # of the masks on the page, whatever the method's own frequencies

    def __init__(self, name, rate, pool, bases=None):
        super().__init__()
        self.name = name
        self.rate = rate
        self.pool = pool
        self.bases = bases
        self.linear, self.log = Spectral(log_freq=False), Spectral(log_freq=True)

    def forward(self, mix, sources, categories, separate=True, average=None):
        """What `Separator.forward` gives, except for loss and weight. mix [B, L]; sources [B, N, L].

        categories [B][N]: all that a method may know of the pictures. The oracle is that of phase-sensitive
        masks in linear frequency, for all baselines.
        """
        assert separate
        assert average is None
        spec_mix, spec_sources = self.linear.stft(mix), self.linear.stft(sources)
        masks, estimates = self._separate(spec_mix, spec_sources, categories)
        true, oracle = self._oracle("phase", self.linear, spec_mix, spec_sources)
        if self.name in UNORDERED:
            order = best_order(sources[..., : estimates.shape[-1]], estimates)
            masks, estimates = (_reorder(each, order) for each in (masks, estimates))
        shown = masks.abs() if self.name.endswith("-log") else self.log.warp(masks.abs())
        return {"masks": shown, "true_masks": self.log.warp(true), "estimates": estimates, "oracle": oracle}

    def _separate(self, spec_mix, spec_sources, categories):
        """(masks [B, N, F, T], of a linear or log frequency, estimates [B, N, L])."""
        if self.name.startswith("oracle-"):
            spectral = self.log if self.name.endswith("-log") else self.linear
            return self._oracle(self.name.split("-")[1], spectral, spec_mix, spec_sources)
        if self.name == "mixture":
            masks = torch.ones(spec_sources.shape)
        else:
            magnitudes = spec_mix.abs().numpy()
            tasks = [self._task(*each) for each in zip(magnitudes, categories, strict=True)]
            futures = [self.pool.submit(*task) for task in tasks]
            masks = torch.from_numpy(np.stack([future.result() for future in futures]))
        return masks, apply_masks(self.linear, masks, spec_mix)

    def _task(self, magnitude, categories):
        """(function, its arguments) for the masks of one mixture of clips of these categories."""
        if self.name == "hpss":
            return hpss_masks, magnitude
        if self.name == "nmf":
            return nmf_masks, magnitude, len(categories), self.rate
        kinds = sorted(set(categories))
        owners = [kinds.index(category) for category in categories]
        return supervised_masks, magnitude, [self.bases[kind] for kind in kinds], owners

    def _oracle(self, kind, spectral, spec_mix, spec_sources):
        """(masks, estimates) of the true masks of a kind, see `true_masks`."""
        warped_mix = spectral.warp(spec_mix.abs() + EPSILON)
        masks = true_masks(kind, spectral, spec_sources, spec_mix[:, None], warped_mix[:, None])
        threshold = self.settings.mask_thres if kind == "binary" else None
        return masks, apply_masks(spectral, masks, spec_mix, threshold)


def best_order(sources, estimates):
    """[B, N] numbers of the estimates in the order that gives the highest mean SDR against the sources.

    Mixtures with a silent sound keep their order. sources, estimates [B, N, L].
    """
    orders = torch.arange(sources.shape[1]).repeat(len(sources), 1)
    sounds = zip(sources.numpy(), estimates.numpy(), sources.sum(dim=1).numpy(), strict=True)
    scored = [b for b, each in enumerate(sounds) if not find_silence(*each)]
    if scored:
        sdr = bss_eval(sources[scored], estimates[scored])[0].clamp(-WORST, WORST)
        for b, pairs in zip(scored, sdr.numpy(), strict=True):
            orders[b] = torch.from_numpy(linear_sum_assignment(pairs, maximize=True)[1])
    return orders


def _reorder(values, orders):
    return torch.stack([value[order] for value, order in zip(values, orders, strict=True)])


class BlindEvaluator(Evaluator):
    """Evaluates baselines, which do not look at pictures, on the mixtures of a loader."""

    def use(self, baseline):
        """Evaluate this `Baseline` from now on. Scores that do not depend on it are kept."""
        self.model = self.separator = baseline

    def _image_features(self, infos, frames):
        """[B][N] categories of the clips instead of features of their pictures."""
        clips = self.loader.dataset.clips
        return [[clips[number].category for number in info["clips"]] for info in infos]

    def _energy(self, mix, frames):
        """No energies of places, for each source."""
        return [None] * frames.shape[1]
