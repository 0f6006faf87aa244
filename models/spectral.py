"""Conversion between waveforms, spectrograms and log-frequency spectrograms, on the device.

The published log-frequency warp is bilinear `grid_sample` with align_corners=True on a grid that differs from
the identity only in frequency. That is linear interpolation along frequency, which is computed here: the same
numbers without a grid of F × T points.
"""

import math

import torch
from torch import nn

NUM_LOG_FREQS = 256  # rows of a warped spectrogram
WARP_BASE = 21  # the published warp's only constant: 21 = 2 * 10 + 1


def warp_grid(size):
    """[size] y' in -1..1 of linear frequency at `size` log-spaced rows: (21^((y+1)/2) - 11) / 10."""
    y = torch.linspace(-1, 1, size, dtype=torch.float64)
    return (WARP_BASE ** ((y + 1) / 2) - 11) / 10


def unwarp_grid(size):
    """[size] y' in -1..1 of log frequency at `size` linear rows: 2 ln(10 y + 11) / ln 21 - 1."""
    y = torch.linspace(-1, 1, size, dtype=torch.float64)
    return 2 * torch.log(10 * y + 11) / math.log(WARP_BASE) - 1


class Resample(nn.Module):
    """Linear interpolation along frequency: [..., F_in, T] -> [..., F_out, T]."""

    def __init__(self, size_in, grid):
        super().__init__()
        position = ((grid + 1) / 2 * (size_in - 1)).clamp(0, size_in - 1)
        low = position.floor().long().clamp(max=size_in - 2)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("share", (position - low).float()[:, None], persistent=False)

    def forward(self, x):
        """Interpolate `x` at the rows of the grid."""
        low = x.index_select(-2, self.low)
        high = x.index_select(-2, self.low + 1)
        return torch.lerp(low, high, self.share.to(x.dtype))


class Spectral(nn.Module):
    """The STFT, the warp and their inverses."""

    def __init__(self, stft_frame=1022, stft_hop=256, log_freq=True):
        super().__init__()
        self.n_fft, self.hop = stft_frame, stft_hop
        self.num_freqs = stft_frame // 2 + 1
        self.register_buffer("window", torch.hann_window(stft_frame), persistent=False)
        if log_freq:
            self.warp = Resample(self.num_freqs, warp_grid(NUM_LOG_FREQS))
            self.unwarp = Resample(NUM_LOG_FREQS, unwarp_grid(self.num_freqs))
        else:
            self.warp = self.unwarp = nn.Identity()

    def stft(self, waves):
        """Waveforms [..., L] -> complex spectrograms [..., F, 1 + L // hop]; centred, reflect padding."""
        spec = torch.stft(
            waves.flatten(0, -2),
            self.n_fft,
            self.hop,
            window=self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        return spec.unflatten(0, waves.shape[:-1])

    def istft(self, spec):
        """Complex spectrograms [..., F, T] -> waveforms [..., (T - 1) * hop]."""
        waves = torch.istft(spec.flatten(0, -3), self.n_fft, self.hop, window=self.window, center=True)
        return waves.unflatten(0, spec.shape[:-2])


def row_frequencies(rate, stft_frame=1022, log_freq=True):
    """[F] frequencies in Hz of the rows of a mask, for sound at `rate` samples/s."""
    top = rate / 2 if stft_frame % 2 == 0 else rate * (stft_frame // 2) / stft_frame
    grid = warp_grid(NUM_LOG_FREQS) if log_freq else torch.linspace(-1, 1, stft_frame // 2 + 1)
    return (grid + 1) / 2 * top
