"""Sound of any length in overlapping windows: the masks of each window -> waveforms, cross-faded.

Sound keeps the video's sample rate, masks are made at the networks' rate. Both STFTs have the same window and
hop in seconds, up to rounding; masks are interpolated from one to the other. Above the networks' band, the
mean of the mask's highest rows is used.
"""

import torch
from torch import nn

from models.spectral import Resample

TOP_ROWS = 16  # rows of a mask whose mean is used above the networks' band
FADE_FLOOR = 1e-3  # smallest weight of a sample, so that the first and last samples count too


def plan(num_samples, length, hop):
    """Start samples of windows of `length`, `hop` apart (the last may be closer), covering `num_samples`."""
    last = max(num_samples - length, 0)
    return [*range(0, last, hop), last]


class MaskedSynthesis(nn.Module):
    """Waveforms [..., L'] at `rate` under masks [N, F, T] (linear frequency) made at `net_rate`."""

    def __init__(self, rate, net_rate, n_fft, hop, length):
        super().__init__()
        scale = rate / net_rate
        self.n_fft, self.hop = 2 * round(n_fft / 2 * scale), max(1, round(hop * scale))
        self.length = round(length * scale)  # L'
        num_freqs, num_times = n_fft // 2 + 1, 1 + length // hop
        self.num_freqs, self.num_times = self.n_fft // 2 + 1, 1 + self.length // self.hop
        hertz = torch.arange(self.num_freqs, dtype=torch.float64) * rate / self.n_fft
        self.rows = Resample(num_freqs, _grid(hertz * n_fft / net_rate, num_freqs))
        seconds = torch.arange(self.num_times, dtype=torch.float64) * self.hop / rate
        self.columns = Resample(num_times, _grid(seconds * net_rate / hop, num_times))
        self.register_buffer("above", (hertz > net_rate / 2)[:, None], persistent=False)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        self.valid = (self.num_times - 1) * self.hop  # samples that the iSTFT gives back

    def forward(self, waves, masks):
        """[Ch, L'] and [N, F, T] -> [N, Ch, valid]."""
        masks = self.fit(masks)
        options = {"window": self.window, "center": True}
        spec = torch.stft(waves, self.n_fft, self.hop, return_complex=True, pad_mode="reflect", **options)
        masked = masks[:, None] * spec
        out = torch.istft(masked.flatten(0, 1), self.n_fft, self.hop, **options)
        return out.unflatten(0, masked.shape[:2])

    def fit(self, masks):
        """Masks [N, F, T] interpolated to this STFT's rows and columns, [N, F', T']."""
        # Columns first: these are the networks' rows, and there are fewer of them.
        masks = self.columns(masks.transpose(1, 2)).transpose(1, 2).contiguous()
        top = masks[:, -TOP_ROWS:].mean(dim=1, keepdim=True)
        return torch.where(self.above, top, self.rows(masks))


def _grid(position, size):
    """Positions 0 … size - 1 scaled to -1 … 1, as Resample takes them."""
    return 2 * position / (size - 1) - 1


class OverlapAdd:
    """Cross-fades windows [N, Ch, valid] that come in order; gives back samples once they are complete."""

    def __init__(self, valid, num_samples):
        self.weight = torch.hann_window(valid, periodic=False) + FADE_FLOOR
        self.num_samples = num_samples
        self.begin = 0  # first sample in the buffers
        self.total = self.sums = None

    def add(self, start, waves):
        """Add the window at sample `start`; returns the samples [N, Ch, n] before it, which are complete."""
        done = self._flush(start)
        missing = start + len(self.weight) - self.begin - (0 if self.sums is None else len(self.sums))
        if self.sums is None:
            self.total, self.sums = torch.zeros(*waves.shape[:2], 0), torch.zeros(0)
        self.total = torch.cat([self.total, torch.zeros(*waves.shape[:2], missing)], dim=2)
        self.sums = torch.cat([self.sums, torch.zeros(missing)])
        here = slice(start - self.begin, start - self.begin + len(self.weight))
        self.total[:, :, here] += waves * self.weight
        self.sums[here] += self.weight
        return done

    def finish(self):
        """The remaining samples, up to `num_samples`."""
        return self._flush(self.num_samples)

    def _flush(self, end):
        count = end - self.begin
        if self.sums is None or not count:
            return None
        done = self.total[:, :, :count] / self.sums[:count]
        self.total, self.sums = self.total[:, :, count:], self.sums[count:]
        self.begin = end
        return done
