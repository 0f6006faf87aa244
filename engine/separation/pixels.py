"""Masks for the cells and regions of a picture, by the networks of a trained Separator.

h, w: the cells of the vision network's map; P = h * w; N regions; F, T of a warped spectrogram.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from engine.categories import name_sources
from models.criterion import activate
from models.separator import EPSILON
from models.vision_net import POOLS

MIN_SUM = 0.1  # below this mask sum, bins stay partly unassigned


class PixelSeparator(nn.Module):
    """A trained Separator for inference on cells and regions of pictures."""

    def __init__(self, separator, num_mix=2, categories=None):
        """categories: what the run's training clips look like, an `engine.categories.Categories`."""
        super().__init__()
        self.categories = categories
        self.separator = separator.eval().requires_grad_(False)
        self.num_mix = num_mix

    def feature_map(self, sizes):
        """Image features [B, C, h, w], pooled over time, before their activation; mean over picture sizes.

        sizes: the same pictures in several sizes, uint8 [B, 3, T, H, W] each, the largest last; h, w are
        its cells.
        """
        maps = [self._feature_map(frames) for frames in sizes]
        cells = maps[-1].shape[2:]
        maps = [F.interpolate(each, cells, mode="bilinear", align_corners=False) for each in maps]
        return torch.stack(maps).mean(dim=0)

    def _feature_map(self, frames):
        net_frame = self.separator.net_frame
        with self.separator.autocast(frames.device):
            maps = net_frame.forward_multiframe(self.separator.normalise(frames[:, None]), pool=False)
        return POOLS[net_frame.pool_type](maps.float(), (1, *maps.shape[3:]))[:, :, 0]

    def region_features(self, maps, regions):
        """Image features [B, N, C] of regions bool [N, h, w] in maps [B, C, h, w], pooled as in training."""
        activation = self.separator.settings.img_activation
        return torch.stack([activate(one, activation) for one in self._pool(maps, regions)], dim=1)

    def _pool(self, maps, regions):
        """N features [B, C], before their activation."""
        pool = POOLS[self.separator.net_frame.pool_type]
        return [pool(maps[:, :, None, None, region], 1).flatten(1) for region in regions]

    def name_regions(self, maps, regions):
        """[N] of (category, cosine), see `engine.categories`, or None for regions that resemble none.

        maps float32 [W, C, h, w] of all windows, regions bool [N, h, w]; numpy arrays.
        """
        if self.categories is None:
            return [None] * len(regions)
        pooled = self._pool(torch.from_numpy(maps), torch.from_numpy(regions))
        return name_sources(np.stack([one.mean(dim=0).numpy() for one in pooled]), self.categories)

    def sound_features(self, mix):
        """Waveforms [B, L] -> warped magnitude [B, F, T] and sound features [B, C, F, T]."""
        spectral = self.separator.spectral
        magnitude = spectral.warp(spectral.stft(mix).abs())
        with self.separator.autocast(mix.device):
            return magnitude, self.separator.sound_features(magnitude + EPSILON)

    def cell_masks(self, maps, feat_sound):
        """Masks [B, P, F, T] of the cells of maps [B, C, h, w].

        Logits trained under a softmax are only meaningful relative to each other: each cell then competes
        with the average cell of its picture, which stands for `num_mix - 1` other sources.
        """
        settings = self.separator.settings
        cells = activate(maps, settings.img_activation).flatten(2).transpose(1, 2)
        if settings.output_activation != "softmax":
            return activate(self._logits(cells, feat_sound), settings.output_activation)
        # Logits are linear in image features, so the average is subtracted there; the bias cancels.
        relative = (cells - cells.mean(dim=1, keepdim=True)) * (self.num_mix / (self.num_mix - 1))
        differences = self.separator.net_synthesizer.weigh(relative) @ feat_sound.float().flatten(2)
        return torch.sigmoid(differences).unflatten(2, feat_sound.shape[2:])

    def region_masks(self, features, feat_sound, consistent=True):
        """Masks [B, N, F, T] of region features [B, N, C]; consistent: they share the sound."""
        masks = activate(self._logits(features, feat_sound), self.separator.settings.output_activation)
        if consistent and self.separator.settings.output_activation != "softmax":
            masks = masks / masks.sum(dim=1, keepdim=True).clamp_min(MIN_SUM)
        return masks

    def _logits(self, features, feat_sound):
        # In float32: adding the float32 bias to low precision takes longer than the product.
        return self.separator.net_synthesizer.forward_sources(features, feat_sound.float())
