"""Playback speed of training clips: what it does to the sound, and that it leaves the clips alone."""

import numpy as np
import pytest
import soundfile
import torch

from dataset.audio import read_window
from dataset.music import MUSICMixDataset, Sampling

RATE = 11025  # samples/s
SAMPLING = Sampling(num_frames=1, img_size=32, aud_len=16383)


def make(tree, semitones, train=True):
    return MUSICMixDataset(tree[1], SAMPLING, train, semitones=semitones)


def write_tone(path, hertz, seconds=10.0, rate=RATE):
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate), rate)


def pitch(wave):
    """The frequency of the strongest partial, Hz, to a fraction of a bin."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 8 * len(wave)))
    return spectrum.argmax() * RATE / (8 * len(wave))


@pytest.mark.parametrize("rate", [RATE, 44100])
@pytest.mark.parametrize("semitones", [-3.0, -0.7, 0.0, 2.3, 3.0])
def test_speed_moves_the_pitch_and_keeps_the_length(tmp_path, rate, semitones):
    write_tone(tmp_path / "a.wav", 440.0, rate=rate)
    wave = read_window(tmp_path / "a.wav", 5.0, 16383, RATE, 2 ** (semitones / 12))
    assert wave.shape == (16383,)
    assert 12 * np.log2(pitch(wave) / 440.0) == pytest.approx(semitones, abs=0.02)
    assert np.abs(wave).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("speed", [0.84, 0.97, 1.0, 1.13, 1.19])
def test_the_centre_of_the_window_stays_where_it_is(tmp_path, speed):
    """A click at 6.5 s is in the middle of the window around it, and ends are where the file's are."""
    wave = np.zeros(10 * RATE, np.float32)
    wave[int(6.5 * RATE)] = 0.9
    soundfile.write(tmp_path / "a.wav", wave, RATE)
    window = read_window(tmp_path / "a.wav", 6.5, 8001, RATE, speed)
    assert abs(int(np.abs(window).argmax()) - 4000) <= 2
    write_tone(tmp_path / "b.wav", 440.0)
    window = read_window(tmp_path / "b.wav", 10.0, 8001, RATE, speed)
    assert np.abs(window[:3900]).max() > 0.4
    assert np.abs(window[4100:]).max() < 0.01


def test_a_short_file_is_repeated_at_its_speed(tmp_path):
    write_tone(tmp_path / "a.wav", 441.0, seconds=1.0)
    wave = read_window(tmp_path / "a.wav", 0.5, 4 * RATE, RATE, 1.1)
    assert pitch(wave) == pytest.approx(441 * 1.1, rel=0.002)
    assert np.abs(wave[-RATE:]).max() > 0.4


def test_a_clip_s_speed_is_a_function_of_seed_epoch_and_index(tree):
    one, other = make(tree, 3), make(tree, 3)
    items = [one[index]["sources"] for index in range(4)]
    assert all(torch.equal(other[index]["sources"], items[index]) for index in reversed(range(4)))
    one.set_epoch(1)
    assert not torch.equal(one[0]["sources"], items[0])


def test_speeds_change_neither_clips_nor_moments_nor_frames(tree):
    plain, varied = make(tree, 0), make(tree, 3)
    for index in range(6):
        item, other = plain[index], varied[index]
        assert other["info"] == item["info"]
        assert torch.equal(other["frames"], item["frames"])
        assert not torch.equal(other["sources"], item["sources"])
        torch.testing.assert_close(other["mix"], other["sources"].sum(dim=0))


def test_evaluation_plays_clips_as_they_are(tree):
    plain, varied = (make(tree, semitones, train=False) for semitones in (0, 3))
    assert torch.equal(plain[0]["mix"], varied[0]["mix"])


def test_speeds_reach_the_semitones_that_are_asked_for(tree, monkeypatch):
    speeds = []

    def read(path, seconds, num_samples, rate, speed):
        speeds.append(speed)
        return np.zeros(num_samples, np.float32)

    monkeypatch.setattr("dataset.music.read_window", read)
    dataset = make(tree, 2)
    for epoch in range(20):
        dataset.set_epoch(epoch)
        dataset[epoch % len(dataset)]
    semitones = 12 * np.log2(speeds)
    assert semitones.min() == pytest.approx(-2, abs=0.3)
    assert semitones.max() == pytest.approx(2, abs=0.3)
    assert np.abs(semitones).max() <= 2
