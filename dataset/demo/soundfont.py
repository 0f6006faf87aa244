"""Play notes of sampled instruments from a SoundFont 2 file.

Implements only what a melody needs: zones by key, loops, tuning, volume envelope. symusic's synthesizer is
not used: it ignores velocity and envelopes and plays some of this file's instruments ten semitones too high.
Source: SoundFont Technical Specification 2.04, sections 7 (file format) and 8.1 (generators).
"""

import functools
import importlib.util
import itertools
import os
import struct
from typing import NamedTuple

import numpy as np

from utils import UserError

AUDIO_RATE = 44100  # Hz
FILE_NAME = "TimGM6mb.sf2"  # in pretty_midi's folder
NUM_KEYS = 128
FULL_DECAY = 100.0  # dB: decay and release times are for a fall of this much
RELEASE_MIN, RELEASE_MAX = 0.05, 0.4  # seconds
SILENCE = -80.0  # dB relative to the note's start, at which it ends

GENERATORS = {  # number -> (name, default)
    34: ("attack", -12000), 35: ("hold", -12000), 36: ("decay", -12000), 37: ("sustain", 0),
    38: ("release", -12000), 41: ("instrument", None), 43: ("keys", 127 << 8), 44: ("velocities", 127 << 8),
    48: ("attenuation", 0), 51: ("semitones", 0), 52: ("cents", 0), 53: ("sample", None), 54: ("loops", 0),
    58: ("root", -1),
}  # fmt: skip
ADDED_BY_PRESET = ("attack", "hold", "decay", "sustain", "release", "attenuation", "semitones", "cents")
RECORDS = {
    "phdr": [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("rest", "V12")],
    "inst": [("name", "S20"), ("bag", "<u2")],
    "pbag": [("generator", "<u2"), ("rest", "V2")],
    "ibag": [("generator", "<u2"), ("rest", "V2")],
    "pgen": [("number", "<u2"), ("value", "<i2")],
    "igen": [("number", "<u2"), ("value", "<i2")],
    "shdr": [("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop", "<u4"), ("loop_end", "<u4"),
             ("rate", "<u4"), ("root", "u1"), ("cents", "i1"), ("rest", "V4")],
}  # fmt: skip
MIDDLE_VELOCITY = 96  # selects among zones by velocity


class Zone(NamedTuple):
    """One sample of a program and how to play it."""

    key_low: int
    key_high: int
    samples: np.ndarray  # [L] float32
    rate: int  # Hz
    root: float  # MIDI pitch of the sample at its own rate
    loop: tuple  # (start, end) in samples, or ()
    gain: float
    attack: float  # seconds
    hold: float  # seconds
    fall: float  # dB/s after the hold
    sustain: float  # dB, at or below 0: where the fall ends
    release: float  # dB/s after the note's end


def default_path():
    """The SoundFont that pretty_midi ships. Raises UserError where there is none."""
    spec = importlib.util.find_spec("pretty_midi")
    path = os.path.join(os.path.dirname(spec.origin), FILE_NAME) if spec else FILE_NAME
    if not os.path.exists(path):
        raise UserError(f"no SoundFont {path}: install pretty_midi, which includes it (requirements.txt)")
    return path


class SoundFont:
    """The melodic programs (bank 0) of a SoundFont file."""

    def __init__(self, path):
        with open(path, "rb") as file:
            chunks = dict(_chunks(file.read()))
        self._tables = {name: np.frombuffer(chunks[name], dtype) for name, dtype in RECORDS.items()}
        self._samples = np.frombuffer(chunks["smpl"], "<i2")
        self._zones_of = functools.lru_cache(maxsize=None)(self._read_program)

    def note(self, program, pitch, seconds, vibrato=None):
        """A note [L], float32 at AUDIO_RATE, of GM `program`, with its release after `seconds`.

        pitch: MIDI, may be fractional. vibrato: [>= L] in semitones, or None.
        """
        key = round(pitch)
        zones = [zone for zone in self._zones_of(program) if zone.key_low <= key <= zone.key_high]
        assert zones, f"program {program} has no sample for key {key}"
        notes = [_play(zone, pitch, seconds, vibrato) for zone in zones]
        total = np.zeros(max(map(len, notes)), np.float32)
        for note in notes:
            total[: len(note)] += note
        return total

    def _read_program(self, program):
        presets = self._tables["phdr"]
        (index,) = np.flatnonzero((presets["program"] == program) & (presets["bank"] == 0))
        zones = []
        for preset in self._regions("pbag", "pgen", presets["bag"][index : index + 2], "instrument"):
            bags = self._tables["inst"]["bag"][preset["instrument"] : preset["instrument"] + 2]
            zones += [self._zone(preset, own) for own in self._regions("ibag", "igen", bags, "sample")]
        return [zone for zone in zones if zone is not None]

    def _regions(self, bag, gen, bags, target):
        """The generators of each region as dicts; a first one without target holds the others' defaults."""
        starts = self._tables[bag]["generator"][bags[0] : bags[1] + 1]
        shared, regions = {}, []
        for start, end in itertools.pairwise(starts):
            pairs = self._tables[gen][start:end]
            own = {GENERATORS[n][0]: int(v) for n, v in pairs.tolist() if n in GENERATORS}
            if target in own:
                regions.append({**shared, **own})
            elif not regions:
                shared = own
        return regions

    def _zone(self, preset, own):
        """Combine preset and instrument; None if they have no key or velocity in common."""
        values = dict(GENERATORS.values()) | own
        for name in ADDED_BY_PRESET:
            values[name] += preset.get(name, 0)
        low, high = _common_range(preset, values, "keys")
        soft, loud = _common_range(preset, values, "velocities")
        if low > high or not soft <= MIDDLE_VELOCITY <= loud:
            return None
        header = self._tables["shdr"][values["sample"]]
        root = values["root"] if 0 <= values["root"] < NUM_KEYS else int(header["root"])
        first = int(header["start"])
        decay = _seconds(values["decay"])
        release = min(max(_seconds(values["release"]), RELEASE_MIN), RELEASE_MAX)
        return Zone(
            low,
            high,
            self._samples[first : int(header["end"])].astype(np.float32) / 32768,
            int(header["rate"]),
            root - values["semitones"] - (values["cents"] + int(header["cents"])) / 100,
            (int(header["loop"]) - first, int(header["loop_end"]) - first) if values["loops"] & 1 else (),
            10 ** (-values["attenuation"] / 200),  # centibels
            _seconds(values["attack"]),
            _seconds(values["hold"]),
            FULL_DECAY / decay,
            -min(max(values["sustain"], 0) / 10, FULL_DECAY),
            FULL_DECAY / release,
        )


def _chunks(data):
    """Yield (name, bytes) of a RIFF file's chunks, also those inside lists."""
    position = 12  # RIFF, size, sfbk
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"LIST":
            position += 4
            continue
        yield name.decode("latin-1"), data[position : position + size]
        position += size + size % 2


def _seconds(timecents):
    return 2 ** (timecents / 1200)


def _common_range(preset, values, name):
    """The intersection of two ranges, each a word of two bytes: low end, high end."""
    whole = 127 << 8
    pairs = [divmod(value & 0xFFFF, 256) for value in (preset.get(name, whole), values[name])]
    return max(low for _, low in pairs), min(high for high, _ in pairs)


def _play(zone, pitch, seconds, vibrato):
    ring = (-SILENCE) / zone.release
    num = int((seconds + ring) * AUDIO_RATE)
    step = zone.rate / AUDIO_RATE * 2 ** ((pitch - zone.root) / 12)
    places = np.arange(num) * step if vibrato is None else np.cumsum(step * 2 ** (vibrato[:num] / 12))
    last = len(zone.samples) - 2
    if zone.loop:
        start, end = zone.loop
        again = np.searchsorted(places, end)
        places[again:] = start + (places[again:] - start) % (end - start)
    else:
        places = places[: np.searchsorted(places, last)]
    index = places.astype(np.int64).clip(max=last)
    part = (places - index).astype(np.float32)
    wave = zone.samples[index] * (1 - part) + zone.samples[index + 1] * part
    return wave * (zone.gain * _envelope(zone, len(wave), seconds))


def _envelope(zone, num, seconds):
    """Gain [num]: linear attack, hold, decay to the sustain level and release, both linear in dB."""
    time = np.arange(num, dtype=np.float32) / AUDIO_RATE
    level = np.maximum(-zone.fall * (time - zone.attack - zone.hold).clip(min=0), zone.sustain)
    level -= zone.release * (time - seconds).clip(min=0)
    return 10 ** (level / 20) * (time / zone.attack).clip(max=1)
