"""A sound network whose blocks see time and frequency apart.

After the TFC-TDF U-Nets of Choi et al., "Investigating U-Nets with various intermediate blocks for
spectrogram-based singing voice separation", 2020, and Kim et al., "KUIELab-MDX-Net", 2021. A block adds a
convolution, local in time and frequency, and a dense layer over all frequencies, which finds the partials of
a note however far apart. Strided convolutions halve both sides, sub-pixel ones (Shi et al., 2016) double
them.
"""

import torch
import torch.nn.functional as F
from torch import nn

NUM_HALVINGS = 4  # of both sides of the spectrogram
WIDTHS = 1, 2, 4, 4  # channels of the levels, times ngf
NUM_ROW_FEATURES = 3  # learned numbers of each frequency, which the first convolution sees beside its level
NUM_HEADS = 4  # of attention
FIRST_OUTPUT = 0.02  # deviation of the last convolution's first weights: small features, masks near one half


class TfcTdf(nn.Module):
    """Log-magnitude [B, 1, F, T] -> features [B, fc_dim, F, T]; F is `num_freqs`, T divisible by 16.

    ngf: channels of the finest level; depth: blocks of a level, before and after what lies below it.
    """

    def __init__(self, fc_dim=32, ngf=32, depth=1, num_freqs=256):
        super().__init__()
        self.channels_last = False  # whether the first convolution is given channels-last memory
        widths = [ngf * width for width in WIDTHS]
        self.bn0 = nn.BatchNorm2d(1)
        self.rows = nn.Parameter(torch.randn(NUM_ROW_FEATURES, num_freqs, 1))
        self.down, self.encoder, self.decoder, self.up = (nn.ModuleList() for _ in range(4))
        for level, width in enumerate(widths):
            freqs = num_freqs >> (level + 1)
            width_in = widths[level - 1] if level else 1 + NUM_ROW_FEATURES
            self.down.append(nn.Conv2d(width_in, width, 4, stride=2, padding=1, bias=False))
            self.encoder.append(_blocks(depth, width, freqs))
            self.decoder.append(_blocks(depth, width, freqs))
            self.up.append(SubPixel(width, widths[level - 1] if level else fc_dim))
        self.attention = Attention(widths[-1])
        nn.init.normal_(self.up[0].conv.weight, 0.0, FIRST_OUTPUT)

    def forward(self, x):
        """Features of `x`, the log-magnitude."""
        rows = self.rows.expand(len(x), -1, -1, x.shape[3])
        x, skips = torch.cat([self.bn0(x), rows], dim=1), []
        if self.channels_last:
            x = x.to(memory_format=torch.channels_last)
        for down, blocks in zip(self.down, self.encoder, strict=True):
            x = blocks(down(x))
            skips.append(x)
        x = self.attention(x)
        for level in reversed(range(NUM_HALVINGS)):
            x = x if level == NUM_HALVINGS - 1 else x + skips[level]
            x = self.up[level](self.decoder[level](x))
        return x


class TfcTdfBlock(nn.Module):
    """x + convolution + dense layer over frequency, both of the normalised `x`: [B, C, F, T] -> the same."""

    def __init__(self, width, freqs):
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.tfc = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.tdf = nn.Parameter(torch.empty(freqs, freqs))
        nn.init.kaiming_normal_(self.tfc.weight)
        nn.init.kaiming_normal_(self.tdf)

    def forward(self, x):
        """`x` and what the block adds to it."""
        y = F.silu(self.norm(x))
        return x + self.tfc(y) + over_frequency(self.tdf, y)


class Attention(nn.Module):
    """x + attention of each bin of the coarsest level to all others: [B, C, F, T] -> the same."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.out = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x):
        """`x` and what attention adds to it."""
        tokens = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)  # [B, F T, 3 C]
        query, key, value = tokens.unflatten(2, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)  # [B, heads, F T, C / heads]
        return x + self.out(mixed.permute(0, 1, 3, 2).flatten(1, 2).unflatten(2, x.shape[2:]))


class SubPixel(nn.Module):
    """A convolution that doubles both sides: [B, C, F, T] -> [B, C_out, 2 F, 2 T]."""

    def __init__(self, width, width_out):
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, 4 * width_out, 3, padding=1, bias=False)

    def forward(self, x):
        """`x` upsampled; unlike `pixel_shuffle`, this keeps channels-last memory."""
        size_b, _, freqs, times = x.shape
        y = self.conv(F.silu(self.norm(x))).permute(0, 2, 3, 1)
        quarters = y.unflatten(3, (2, 2, -1))  # [B, F, T, 2, 2, C_out]
        return quarters.transpose(2, 3).reshape(size_b, 2 * freqs, 2 * times, -1).permute(0, 3, 1, 2)


def over_frequency(weight, x):
    """A dense layer over frequency, [F, F], of [B, C, F, T].

    `bmm` of channels-last memory, [B, F, T C], is several times as fast on CPUs as a layer that transposes.
    """
    rows = x.permute(0, 2, 3, 1).flatten(2)
    mixed = torch.bmm(weight.to(rows.dtype).expand(len(x), -1, -1), rows)
    return mixed.unflatten(2, (x.shape[3], x.shape[1])).permute(0, 3, 1, 2)


def _blocks(depth, width, freqs):
    return nn.Sequential(*(TfcTdfBlock(width, freqs) for _ in range(depth)))
