"""The sound network: a U-Net over the log-magnitude spectrogram of the mixture."""

import functools

import torch
from torch import nn

MAX_WIDTH = 8  # times ngf; channels per level are ngf * (1, 2, 4, 8, 8, …)


class Unet(nn.Module):
    """Log-magnitude [B, 1, F, T] -> features [B, fc_dim, F, T]; F and T divisible by 2 ** num_downs.

    Submodules have the names of the released weights.
    """

    def __init__(self, fc_dim=32, num_downs=7, ngf=64):
        super().__init__()
        self.num_downs = num_downs
        self.channels_last = False  # whether the first convolution is given channels-last memory
        self.bn0 = nn.BatchNorm2d(1)
        widths = [ngf * min(2**level, MAX_WIDTH) for level in range(num_downs)]
        block = None
        for level in reversed(range(1, num_downs)):
            block = _SkipBlock(_inner_layers(widths[level - 1], widths[level], block))
        self.unet_block = _OuterBlock(fc_dim, widths[0], block)

    def forward(self, x):
        """Features of `x`, the log-magnitude."""
        x = self.bn0(x)
        if self.channels_last:  # `contiguous` would do nothing: one channel is in either order
            x = x.to(memory_format=torch.channels_last)
        return self.unet_block(x)


class _SkipBlock(nn.Module):
    """Concatenates its input with the output of its layers."""

    def __init__(self, layers):
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        """[B, C, h, w] -> [B, 2 C, h, w]."""
        inside = self.model(x)
        if inside.requires_grad and inside.is_cpu:
            # Its gradient is a slice of the concatenation's. On a CPU the backward pass of batch
            # normalisation is several times as fast with a contiguous copy.
            order = torch.contiguous_format if inside.is_contiguous() else torch.channels_last
            inside.register_hook(functools.partial(torch.Tensor.contiguous, memory_format=order))
        return torch.cat([x, inside], dim=1)


class _OuterBlock(nn.Module):
    """The outermost level: no normalisation, no ReLU before the first convolution, no skip connection."""

    def __init__(self, fc_dim, width, inside):
        super().__init__()
        up = nn.Conv2d(2 * width, fc_dim, 3, padding=1)
        self.model = nn.Sequential(_down_conv(1, width), inside, nn.ReLU(), _upsample(), up)

    def forward(self, x):
        """[B, 1, F, T] -> [B, fc_dim, F, T]."""
        return self.model(x)


def _inner_layers(width_outer, width, inside):
    """Layers of an inner level; `inside` is the next level, None at the innermost."""
    down = [nn.LeakyReLU(0.2), _down_conv(width_outer, width)]
    if inside is not None:
        down += [nn.BatchNorm2d(width), inside]
    width_up = width if inside is None else 2 * width
    up_conv = nn.Conv2d(width_up, width_outer, 3, padding=1, bias=False)
    return [*down, nn.ReLU(), _upsample(), up_conv, nn.BatchNorm2d(width_outer)]


def _down_conv(width_in, width_out):
    return nn.Conv2d(width_in, width_out, 4, stride=2, padding=1, bias=False)


def _upsample():
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
