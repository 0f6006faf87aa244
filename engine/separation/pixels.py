"""The sound of every place in a picture: the networks of a Separator, asked by cells and by regions.

h, w: the cells of the vision network's map; P = h * w; N regions; F, T of a warped spectrogram.
"""

import torch
import torch.nn.functional as F
from torch import nn

from models.activation import activate
from models.separator import EPSILON
from models.vision_net import POOLS

MIN_SUM = 0.1  # of the masks of all regions, below which they leave the rest to nobody


class PixelSeparator(nn.Module):
    """A trained Separator as a user of videos needs it; nothing here is trained."""

    def __init__(self, separator, num_mix=2):
        super().__init__()
        self.separator = separator.eval().requires_grad_(False)
        self.num_mix = num_mix

    def feature_map(self, sizes):
        """The same pictures in several sizes, uint8 [B, 3, T, H, W] each, the finest last -> their mean map.

        Image features [B, C, h, w] with the cells of the finest, pooled over time, not activated.
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
        """Image features [B, N, C], pooled as in training, of regions bool [N, h, w] of maps [B, C, h, w]."""
        pool = POOLS[self.separator.net_frame.pool_type]
        picked = [pool(maps[:, :, None, None, region], 1).flatten(1) for region in regions]
        activation = self.separator.settings.img_activation
        return torch.stack([activate(one, activation) for one in picked], dim=1)

    def sound_features(self, mix):
        """Waveforms [B, L] -> warped magnitude [B, F, T] and sound features [B, C, F, T]."""
        spectral = self.separator.spectral
        magnitude = spectral.warp(spectral.stft(mix).abs())
        with self.separator.autocast(mix.device):
            return magnitude, self.separator.sound_features(magnitude + EPSILON)

    def cell_masks(self, maps, feat_sound):
        """Masks [B, P, F, T] of each cell of maps [B, C, h, w].

        Logits that were trained under a softmax mean something only beside one another: each cell then
        competes with the rest of its picture, which is `num_mix - 1` other sources on average.
        """
        settings = self.separator.settings
        cells = activate(maps, settings.img_activation).flatten(2).transpose(1, 2)
        logits = self._logits(cells, feat_sound)
        if settings.output_activation != "softmax":
            return activate(logits, settings.output_activation)
        average = self._logits(cells.mean(dim=1, keepdim=True), feat_sound)
        return torch.sigmoid((logits - average) * self.num_mix / (self.num_mix - 1))

    def region_masks(self, features, feat_sound, consistent=True):
        """Masks [B, N, F, T] of regions' features [B, N, C]; consistent: they share what they claim."""
        masks = activate(self._logits(features, feat_sound), self.separator.settings.output_activation)
        if consistent and self.separator.settings.output_activation != "softmax":
            masks = masks / masks.sum(dim=1, keepdim=True).clamp_min(MIN_SUM)
        return masks

    def _logits(self, features, feat_sound):
        with self.separator.autocast(features.device):
            return self.separator.net_synthesizer.forward_sources(features, feat_sound).float()
