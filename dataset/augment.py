"""Variations of a training clip's sound: what it would be from another instrument, microphone or distance."""

from typing import NamedTuple

import numpy as np

KINDS = ("speed", "gain", "polarity", "tilt")
AUGMENTATIONS = {"none": (), "speed": ("speed",), "all": KINDS}  # by --augment_sound
SEMITONES = 3.0  # most that playback speed raises or lowers the pitch
GAIN_DB = 6.0  # most that a clip is louder or quieter
TILT = 0.4  # most of the sample before that is added: the highest frequencies 7 dB down or 4 dB up


class Variation(NamedTuple):
    """What is drawn for a clip; the defaults change nothing."""

    speed: float = 1.0  # of playback: pitch rises with it
    factor: float = 1.0  # on the samples
    tilt: float = 0.0  # share of the sample before


def draw_variation(kinds, rng):
    """A `Variation` of these of `KINDS`; every kind takes its number from `rng`, whichever are asked for."""
    semitones, decibels, sign, tilt = rng.uniform(-1, 1, len(KINDS))
    factor = 10 ** (GAIN_DB * decibels / 20) if "gain" in kinds else 1.0
    return Variation(
        speed=2 ** (SEMITONES * semitones / 12) if "speed" in kinds else 1.0,
        factor=-factor if "polarity" in kinds and sign < 0 else factor,
        tilt=TILT * tilt if "tilt" in kinds else 0.0,
    )


def vary(wave, variation):
    """The waveform [L], float32, under all of `variation` but its speed, which is for `audio.read_window`."""
    if variation.tilt:
        before = np.concatenate([wave[:1], wave[:-1]])
        wave = (wave + np.float32(variation.tilt) * before) / np.float32(1 + abs(variation.tilt))
    return wave * np.float32(variation.factor)
