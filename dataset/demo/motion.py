"""Turn notes into the player's pose in each frame; poses are so few that each is drawn only once.

A pose is a tuple of ints; it does not change during rests.
"""

import numpy as np

from dataset.demo.score import PITCH_HIGH, PITCH_LOW

BOW_STEPS = 14
BELLOWS_STEPS = 16
BELLOWS_TIME = 1.4  # seconds of sound from closed to open
NUM_KEYS = 8  # positions of a pitch on the keyboard, and of the flute's and the trumpet's fingerings
NUM_HANDS = 4  # positions of a pitch on a neck
STRUM_STEPS, STRUM_TIME = 6, 0.2  # seconds
SHAKE_STEPS, SHAKE_TIME = 3, 0.6  # seconds: strings
LIFT_STEPS = 4
NUM_BARS = 11
MALLET_STEPS, MALLET_TIME = 2, 0.14  # seconds up or down


class Timeline:
    """The onsets, ends and pitches [K] of a melody's notes; a chord counts once."""

    def __init__(self, notes):
        firsts = list({note.onset: note for note in reversed(notes)}.values())[::-1]
        self.onsets = np.array([note.onset for note in firsts])
        self.ends = self.onsets + [note.duration for note in firsts]
        self.pitches = np.array([note.pitch for note in firsts])

    def at(self, time):
        """(number of the note, seconds since its onset, fraction played); the first note before it starts."""
        number = max(int(np.searchsorted(self.onsets, time, side="right")) - 1, 0)
        age = max(time - self.onsets[number], 0.0)
        return number, age, min(age / (self.ends[number] - self.onsets[number]), 1.0)

    def place(self, number, count):
        """The pitch of a note as one of `count` positions from low to high."""
        part = (self.pitches[number] - PITCH_LOW) / (PITCH_HIGH - PITCH_LOW + 1)
        return int(part * count)


def poses(category, notes, times):
    """A pose for each of `times` (seconds), as `players.PLAYERS[category]` draws it."""
    timeline = Timeline(notes)
    return [POSES[category](timeline, float(time)) for time in times]


def _violin(timeline, time):
    """(position of the bow, position of the left hand): one stroke per note, up and down in turn."""
    number, _, part = timeline.at(time)
    length = min((timeline.ends[number] - timeline.onsets[number]) / 0.5, 1.0)
    stroke = 0.5 + (part - 0.5) * length * (1 if number % 2 else -1)
    return round(stroke * BOW_STEPS), timeline.place(number, NUM_HANDS)


def _accordion(timeline, time):
    """(opening of the bellows, pressed key or -1): the bellows move while there is sound."""
    number, _, part = timeline.at(time)
    lengths = timeline.ends - timeline.onsets
    sounded = (lengths[:number].sum() + part * lengths[number]) / BELLOWS_TIME % 2
    opening = sounded if sounded < 1 else 2 - sounded
    return round(opening * BELLOWS_STEPS), timeline.place(number, NUM_KEYS) if part < 1 else -1


def _guitar(timeline, time):
    """(position of the strumming hand, swing of the strings, position of the left hand)."""
    number, age, _ = timeline.at(time)
    stroke = min(age / STRUM_TIME, 1.0)
    hand = stroke if number % 2 else 1 - stroke
    swing = round(SHAKE_STEPS * np.exp(-age / SHAKE_TIME)) * (1 if int(time * 25) % 2 else -1)
    return round(hand * STRUM_STEPS), swing, timeline.place(number, NUM_HANDS)


def _wind(timeline, time):
    """(fingering or -1, lift): the player rises a little in the middle of a note."""
    number, _, part = timeline.at(time)
    fingering = timeline.place(number, 3 * NUM_KEYS) % NUM_KEYS if part < 1 else -1
    return fingering, round(LIFT_STEPS * np.sin(np.pi * part))


def _xylophone(timeline, time):
    """(left mallet's bar, its height, right's bar, its height, struck bar or -1): the mallets take turns."""
    number, age, _ = timeline.at(time)
    struck = timeline.place(number, NUM_BARS) if age < MALLET_TIME else -1
    return (*_mallet(timeline, time, number, 0), *_mallet(timeline, time, number, 1), struck)


def _mallet(timeline, time, number, side):
    """(bar, height): up after this mallet's last note, across, and down in time for its next."""
    last = number - (number + side) % 2
    following = min(last + 2, len(timeline.onsets) - 1)
    since = (time - timeline.onsets[last]) / MALLET_TIME if last >= 0 else 1.0
    until = (timeline.onsets[following] - time) / MALLET_TIME
    height = min(max(since, 0.0), max(until, 0.0), 1.0)
    bar = timeline.place(following if until < 2 or last < 0 else last, NUM_BARS)
    return bar, round(height * MALLET_STEPS)


POSES = {
    "accordion": _accordion,
    "acoustic_guitar": _guitar,
    "flute": _wind,
    "trumpet": _wind,
    "violin": _violin,
    "xylophone": _xylophone,
}
