"""Synthesizers: the inner product of image and sound features over channels, per clip or per pixel."""

import torch
from torch import nn


class _Synthesizer(nn.Module):
    """Base of both: image features weight the channels of the sound features."""

    def forward(self, feat_img, feat_sound):
        """[B, C] and [B, C, F, T] -> mask logits [B, 1, F, T]."""
        return self.forward_sources(feat_img[:, None], feat_sound)

    def forward_sources(self, feat_img, feat_sound):
        """[B, N, C], image features of each source, and [B, C, F, T] -> mask logits [B, N, F, T]."""
        products = torch.bmm(self.weigh(feat_img), feat_sound.flatten(2))
        return products.unflatten(2, feat_sound.shape[2:]) + self.bias

    def forward_nosum(self, feat_img, feat_sound):
        """[B, C] and [B, C, F, T] -> each channel's contribution, [B, C, F, T]."""
        return self.weigh(feat_img)[:, :, None, None] * feat_sound + self.bias

    def forward_pixelwise(self, feats_img, feat_sound):
        """[B, C, h, w] and [B, C, F, T] -> mask logits of each pixel, [B, h, w, F, T]."""
        logits = self.forward_sources(feats_img.flatten(2).transpose(1, 2), feat_sound)
        return logits.unflatten(1, feats_img.shape[2:])


class InnerProd(_Synthesizer):
    """z = Σ_c scale_c · image_c · sound_c + bias."""

    def __init__(self, fc_dim):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(fc_dim))
        self.bias = nn.Parameter(torch.zeros(1))

    def weigh(self, feat_img):
        """Image features [..., C] times the learned scale of each channel."""
        return feat_img * self.scale


class Bias(_Synthesizer):
    """z = Σ_c image_c · sound_c + bias."""

    def __init__(self, fc_dim):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def weigh(self, feat_img):
        """Image features [..., C], unchanged."""
        return feat_img
