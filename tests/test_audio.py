"""Windows of sound files: the right samples, at the right level, whatever the file."""

import numpy as np
import pytest
import soundfile

from dataset.audio import read_window
from utils import UserError

RATE = 11025  # samples/s


def make_sound(path, rate=RATE, seconds=10.0, channels=1, subtype=None, level=0.5):
    """A file of slow beats of two tones, of which every moment differs; returns it as written at `rate`."""
    times = np.arange(int(seconds * rate)) / rate
    wave = level * np.sin(2 * np.pi * 440 * times) * np.sin(2 * np.pi * 0.13 * times)
    data = np.stack([wave] * channels, axis=1)
    soundfile.write(path, data, rate, subtype=subtype)
    return wave.astype(np.float32)


def decibel(noise, signal):
    return 10 * np.log10(np.square(noise).sum() / np.square(signal).sum() + 1e-12)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2])
def test_window_has_the_samples_of_the_file(tmp_path, subtype, channels):
    path = tmp_path / "a.wav"
    wave = make_sound(path, channels=channels, subtype=subtype)
    window = read_window(path, 5.0, 4001, RATE)
    start = 5 * RATE - 2000
    np.testing.assert_allclose(window, wave[start : start + 4001], atol=1e-2 if subtype == "PCM_U8" else 1e-4)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("centre", [0.1, 5.03, 9.95])
def test_other_rates_give_the_same_window(tmp_path, rate, centre):
    make_sound(tmp_path / "a.wav", rate)
    make_sound(tmp_path / "b.wav", RATE)
    window, expected = (read_window(tmp_path / name, centre, 8001, RATE) for name in ("a.wav", "b.wav"))
    assert decibel(window - expected, expected) < -40


def test_mp3_gives_the_same_window_wherever_it_is_read(tmp_path):
    make_sound(tmp_path / "a.mp3", 44100)
    make_sound(tmp_path / "b.wav", 44100)
    for centre in (1.0, 5.0, 8.7):
        window, expected = (read_window(tmp_path / name, centre, 8001, RATE) for name in ("a.mp3", "b.wav"))
        assert decibel(window - expected, expected) < -20


def test_zero_where_the_file_ends(tmp_path):
    wave = make_sound(tmp_path / "a.wav")
    start = read_window(tmp_path / "a.wav", 0.0, 2001, RATE)
    assert not start[:1000].any()
    np.testing.assert_allclose(start[1000:], wave[:1001], atol=1e-4)
    end = read_window(tmp_path / "a.wav", 10.0, 2001, RATE)
    np.testing.assert_allclose(end[:1000], wave[-1000:], atol=1e-4)
    assert not end[1000:].any()
    assert not read_window(tmp_path / "a.wav", 100.0, 2001, RATE).any()


def test_short_file_is_repeated(tmp_path):
    wave = make_sound(tmp_path / "a.wav", seconds=1.0)
    window = read_window(tmp_path / "a.wav", 1.5, 2 * RATE, RATE)
    expected = np.tile(wave, 3)[RATE // 2 : RATE // 2 + 2 * RATE]
    np.testing.assert_allclose(window[: 2 * RATE - 1], expected[: 2 * RATE - 1], atol=1e-4)


def test_full_scale_stays_full_scale_and_is_clipped_there(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(50000) / 5), 44100, subtype="PCM_16")
    assert 0.98 < np.abs(read_window(tmp_path / "a.wav", 0.5, 4000, RATE)).max() <= 1.0
    soundfile.write(tmp_path / "b.wav", np.full(20000, 1.7), RATE, subtype="FLOAT")
    assert read_window(tmp_path / "b.wav", 1.0, 4000, RATE).max() == 1.0


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    for rate in (RATE, 44100):
        soundfile.write(tmp_path / f"nan{rate}.wav", np.full(90000, np.nan), rate, subtype="FLOAT")
    for name in ("nan11025.wav", "nan44100.wav", "text.wav", "empty.wav", "none.wav", "missing.wav"):
        with pytest.raises(UserError, match=name):
            read_window(str(tmp_path / name), 1.0, 1000, RATE)
