"""Windows of sound: masks of ones reproduce the input at any rate and length; memory stays bounded."""

import math

import numpy as np
import pytest
import torch

from engine.separation.windows import TOP_ROWS, MaskedSynthesis, OverlapAdd, plan
from models.spectral import Spectral

NET_RATE, N_FFT, HOP, LENGTH = 11025, 510, 128, 16383  # a small network's
NUM_FREQS, NUM_TIMES = N_FFT // 2 + 1, 1 + LENGTH // HOP


def make_synthesis(rate):
    return MaskedSynthesis(rate, NET_RATE, N_FFT, HOP, LENGTH)


def through(wave, rate, mask):
    """The blocks [N, Ch, n] of a sound [Ch, L] with the same masks [N, F, T] in each window."""
    synthesis = make_synthesis(rate)
    net_samples = math.ceil(wave.shape[1] * NET_RATE / rate)
    joined, blocks = OverlapAdd(synthesis.valid, wave.shape[1]), []
    for net_start in plan(net_samples, LENGTH - 2 * HOP, LENGTH // 2):
        start = round(net_start * rate / NET_RATE)
        window = torch.zeros(len(wave), synthesis.length)
        part = wave[:, start : start + synthesis.length]
        window[:, : part.shape[1]] = part
        blocks.append(joined.add(start, synthesis(window, mask)))
    return [block for block in [*blocks, joined.finish()] if block is not None]


def tone(hertz, rate, seconds=2):
    return torch.sin(2 * math.pi * hertz / rate * torch.arange(seconds * rate))[None]


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000, 96000])
def test_masks_of_ones_give_back_any_sound(rate):
    window = make_synthesis(rate).length
    ones = torch.ones(2, NUM_FREQS, NUM_TIMES)
    for length in (1, 1000, window - 1, window, window + 1, 2 * window, 5 * (window // 2) + 501):
        wave = torch.randn(2, length, generator=torch.Generator().manual_seed(length)) / 4
        out = torch.cat(through(wave, rate, ones), dim=2)
        assert out.shape == (2, 2, length)
        torch.testing.assert_close(out, wave.expand(2, -1, -1), atol=1e-5, rtol=0)


def test_windows_cover_everything_and_are_full_where_they_can_be():
    for count in (1, 99, 100, 101, 150, 151, 1000, 1033):
        starts = plan(count, 100, 50)
        assert starts[0] == 0
        assert starts[-1] == max(count - 100, 0)
        assert all(0 < step <= 50 for step in np.diff(starts))


def test_at_the_networks_rate_masks_are_taken_as_they_are():
    synthesis, spectral = make_synthesis(NET_RATE), Spectral(N_FFT, HOP, log_freq=False)
    masks = torch.rand(3, NUM_FREQS, NUM_TIMES)
    torch.testing.assert_close(synthesis.fit(masks), masks, atol=1e-6, rtol=0)
    wave = torch.randn(1, LENGTH) / 4
    torch.testing.assert_close(
        synthesis(wave, masks)[:, 0], spectral.istft(masks * spectral.stft(wave)), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("rate", [11025, 44100])
def test_a_mask_of_low_rows_keeps_low_tones_alone(rate):
    mask = torch.zeros(1, NUM_FREQS, NUM_TIMES)
    mask[:, : round(1000 / (NET_RATE / N_FFT))] = 1
    low, high = tone(440, rate), tone(3000, rate)
    inside = slice(rate // 10, -rate // 10)  # not the edges, where a tone starts and stops abruptly
    kept, rest = (torch.cat(through(wave, rate, mask), dim=2)[0, :, inside] for wave in (low, high))
    torch.testing.assert_close(kept, low[:, inside], atol=0.01, rtol=0)
    assert rest.abs().max() < 0.01


def test_above_the_networks_band_its_highest_rows_decide():
    mask = torch.zeros(1, NUM_FREQS, NUM_TIMES)
    mask[:, -TOP_ROWS:] = 0.25
    whistle, hum = tone(12000, 44100), tone(440, 44100)
    inside = slice(4410, -4410)
    out = torch.cat(through(whistle + hum, 44100, mask), dim=2)[0]
    torch.testing.assert_close(out[:, inside], whistle[:, inside] / 4, atol=0.01, rtol=0)


def test_masks_follow_time():
    """A mask that opens in the middle of a window passes only what follows, at other rates too."""
    rate, mask = 48000, torch.zeros(1, NUM_FREQS, NUM_TIMES)
    mask[:, :, NUM_TIMES // 2 :] = 1
    wave = tone(440, rate, 1)
    out = torch.cat(through(wave, rate, mask), dim=2)[0, 0]
    opens = round(NUM_TIMES // 2 * HOP / NET_RATE * rate)
    margin = round(N_FFT / NET_RATE * rate)
    assert out[: opens - margin].abs().max() < 0.01
    torch.testing.assert_close(out[opens + margin :], wave[0, opens + margin :], atol=0.02, rtol=0)


def test_blocks_come_in_order_and_little_is_kept():
    count, rate = 50 * LENGTH, NET_RATE
    synthesis = make_synthesis(rate)
    joined, seen = OverlapAdd(synthesis.valid, count), 0
    for start in plan(count, LENGTH - 2 * HOP, LENGTH // 2):
        ramp = torch.arange(start, start + synthesis.valid, dtype=torch.float32)
        block = joined.add(start, ramp[None, None])
        assert joined.total.shape[2] == len(joined.sums) == synthesis.valid
        if block is not None:
            torch.testing.assert_close(block[0, 0], torch.arange(seen, seen + block.shape[2]).float())
            seen += block.shape[2]
        assert seen == joined.begin == start
    assert seen + joined.finish().shape[2] == count


def test_what_is_cut_off_keeps_no_memory():
    joined = OverlapAdd(1000, 100_000)
    for start in range(0, 99_500, 500):
        joined.add(start, torch.ones(1, 1, 1000))
    assert joined.total.untyped_storage().nbytes() <= 2000 * 4
