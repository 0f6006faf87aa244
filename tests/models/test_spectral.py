"""Spectrograms, the log-frequency warp, and the way back."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.spectral import Spectral, row_frequencies, unwarp_grid, warp_grid
from tests.helpers import GOLDEN

RATE = 11025  # samples/s


@pytest.fixture(scope="module")
def spectral():
    return Spectral()


def test_warp_grids_are_the_published_ones():
    golden = np.load(f"{GOLDEN}/golden_nets.npz")
    np.testing.assert_allclose(warp_grid(256), golden["warp"], atol=1e-6)
    np.testing.assert_allclose(unwarp_grid(512), golden["unwarp"], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "size_in", "grid"), [("warp", 512, warp_grid(256)), ("unwarp", 256, unwarp_grid(512))]
)
def test_warp_equals_grid_sample_with_aligned_corners(spectral, name, size_in, grid):
    x = torch.rand(2, 1, size_in, 64)
    columns, rows = torch.meshgrid(torch.linspace(-1, 1, 64), grid.float(), indexing="xy")
    points = torch.stack([columns, rows], dim=-1)[None].expand(2, -1, -1, -1)
    expected = F.grid_sample(x, points, mode="bilinear", align_corners=True)
    torch.testing.assert_close(getattr(spectral, name)(x), expected, atol=1e-4, rtol=1e-4)


def test_warp_and_back_is_close_for_what_is_smooth(spectral):
    rows = torch.linspace(0, 1, 512)[:, None].expand(512, 4)
    there_and_back = spectral.unwarp(spectral.warp(rows[None]))
    torch.testing.assert_close(there_and_back, rows[None], atol=2e-3, rtol=0)


def test_shapes_and_way_back_of_the_stft(spectral):
    waves = 0.1 * torch.randn(2, 3, 65535)
    spec = spectral.stft(waves)
    assert spec.shape == (2, 3, 512, 256)
    back = spectral.istft(spec)
    assert back.shape == (2, 3, 65280)
    torch.testing.assert_close(back, waves[..., :65280], atol=1e-5, rtol=0)


def test_stft_equals_its_definition(spectral):
    wave = 0.1 * np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    padded = np.pad(wave, 511, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1022) / 1022)  # periodic Hann
    expected = [np.fft.rfft(window * padded[k : k + 1022]) for k in range(0, 20000, 256)]
    np.testing.assert_allclose(spectral.stft(torch.from_numpy(wave)[None])[0].T, expected, atol=1e-4)


@pytest.mark.parametrize("log_freq", [True, False])
def test_a_tone_stands_on_the_row_of_its_frequency(log_freq):
    spectral = Spectral(log_freq=log_freq)
    wave = torch.sin(2 * torch.pi * 1000 * torch.arange(65535) / RATE)
    row = int(spectral.warp(spectral.stft(wave[None]).abs())[0, :, 100].argmax())
    freqs = row_frequencies(RATE, 1022, log_freq)
    assert abs(freqs[row] - 1000) < 1.5 * max(freqs[row + 1] - freqs[row], RATE / 1022)
