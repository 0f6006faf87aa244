"""Compose melodies: widely overlapping registers, rhythms by whether an instrument sustains its notes."""

from typing import NamedTuple

import numpy as np


class Instrument(NamedTuple):
    """How a category plays; all other differences are in its samples."""

    programs: tuple  # General MIDI, from 0
    struck: bool  # plucked or struck: notes decay, so they are denser
    chords: float  # fraction of notes with a second note
    vibrato: float  # semitones
    register: float  # semitones, offset of its melodies' centres from the average


INSTRUMENTS = {
    "accordion": Instrument((21,), False, 0.3, 0.0, -2.0),
    "acoustic_guitar": Instrument((24, 25), True, 0.3, 0.0, -3.0),
    "flute": Instrument((73,), False, 0.0, 0.15, 2.0),
    "trumpet": Instrument((56,), False, 0.0, 0.1, -0.5),
    "violin": Instrument((40,), False, 0.0, 0.2, 0.5),
    "xylophone": Instrument((13,), True, 0.15, 0.0, 3.0),
}
PITCH_LOW, PITCH_HIGH = 55, 84  # MIDI, of every instrument
CENTRE_LOW, CENTRE_HIGH = 64, 75  # MIDI, of a clip's melody before its instrument's register is added
TEMPO_LOW, TEMPO_HIGH = 84, 144  # beats per minute
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 2, 4, 7, 9))
RHYTHMS_HELD = ((1, 1, 2), (2, 1, 1), (1.5, 0.5, 1, 1), (0.5, 0.5, 1, 2), (3, 1), (0.5, 0.5, 0.5, 0.5, 1, 1))
RHYTHMS_STRUCK = (
    (0.5, 0.5, 0.5, 0.5),
    (1, 0.5, 0.5),
    (0.5, 0.5, 1),
    (0.75, 0.25, 0.5, 0.5),
    (0.25, 0.25, 0.5),
)
STEPS = (-4, -3, -2, -2, -1, -1, -1, 0, 1, 1, 1, 2, 2, 3, 4)  # on the scale, from note to note
REST_CHANCE = 0.6  # after a phrase
REST_LOW, REST_HIGH = 0.35, 0.8  # seconds
PHRASE_LOW, PHRASE_HIGH = 2, 4  # rhythms
LEGATO_LOW, LEGATO_HIGH = 0.8, 1.0  # fraction of a note's time during which it sounds
ACCENT, SWELL = 3.0, 3.0  # dB, maximum in both directions


class Note(NamedTuple):
    """One note; those of a chord have the same onset and duration."""

    onset: float  # seconds
    duration: float  # seconds
    pitch: int  # MIDI
    level: float  # dB relative to the average


def compose(rng, category, seconds):
    """A melody of `seconds` for an instrument: a list of `Note`, by onset."""
    instrument = INSTRUMENTS[category]
    scale = _scale(rng)
    centre = instrument.register + rng.uniform(CENTRE_LOW, CENTRE_HIGH)
    degree = int(np.abs(scale - centre).argmin())
    legato = rng.uniform(LEGATO_LOW, LEGATO_HIGH)
    notes = []
    for onset, length, swell in _rhythm(rng, instrument.struck, seconds):
        degree = _next_degree(rng, scale, degree, centre)
        duration = min(length * legato, seconds - 0.05 - onset)
        level = swell + rng.uniform(-ACCENT, ACCENT)
        notes.append(Note(onset, duration, int(scale[degree]), level))
        if rng.random() < instrument.chords:
            companion = (degree + rng.choice((-4, -2, 2, 4))).clip(0, len(scale) - 1)
            notes.append(Note(onset, duration, int(scale[companion]), level))
    return notes


def _scale(rng):
    """The pitches of a random key within the range, MIDI."""
    tonic, steps = rng.integers(12), SCALES[rng.integers(len(SCALES))]
    return np.array([p for p in range(PITCH_LOW, PITCH_HIGH + 1) if (p - tonic) % 12 in steps])


def _next_degree(rng, scale, degree, centre):
    """A random step on the scale, pulled towards the centre the more it is away from it."""
    pull = (centre - scale[degree]) / 6
    return int(np.clip(degree + rng.choice(STEPS) + round(pull), 0, len(scale) - 1))


def _rhythm(rng, struck, seconds):
    """Yield (onset s, time to the next s, swell dB) of notes in phrases with short rests between."""
    beat = 60 / rng.uniform(TEMPO_LOW, TEMPO_HIGH)
    rhythms = RHYTHMS_STRUCK if struck else RHYTHMS_HELD
    onset = rng.uniform(0, 0.3)
    while True:
        count = rng.integers(PHRASE_LOW, PHRASE_HIGH, endpoint=True) * (2 if struck else 1)
        lengths = [beats * beat for _ in range(count) for beats in rhythms[rng.integers(len(rhythms))]]
        for place, length in enumerate(lengths):
            if onset + 0.2 > seconds:
                return
            yield onset, length, SWELL * np.sin(np.pi * (2 * place / len(lengths) - 0.5))
            onset += length
        if rng.random() < REST_CHANCE:
            onset += rng.uniform(REST_LOW, REST_HIGH)
