"""Synthesise the sound of a clip from a melody: sampled notes, reverb, level."""

import functools

import numpy as np
from scipy import fft, ndimage

from dataset.demo.score import INSTRUMENTS
from dataset.demo.soundfont import AUDIO_RATE, SoundFont, default_path

LEVEL, LEVEL_SPREAD = -20.0, 3.0  # dBFS, RMS of the parts that sound, and its variation
BLOCK = AUDIO_RATE // 20  # samples, over which sound is told from silence
GATE = -30.0  # dB relative to the loudest block; anything quieter is silence
PEAK = 0.9  # of full scale, at most
CREST = 14.0  # dB over the RMS; higher peaks are limited, as a mallet's attack is 10 dB above the tone
LOOK_AHEAD = AUDIO_RATE // 500  # samples, of the limiter
TUNING = 0.3  # semitones, maximum in both directions
TILT = 0.75  # dB per octave, maximum in both directions
TILT_CENTRE = 1000.0  # Hz
TILT_RANGE = 4.0  # octaves, either side
ROOM_LOW, ROOM_HIGH = 0.2, 0.6  # seconds to decay by 60 dB
WET_LOW, WET_HIGH = -22.0, -10.0  # dB, reverb relative to the instrument
VIBRATO_LOW, VIBRATO_HIGH = 4.5, 6.5  # Hz
VIBRATO_DELAY = 0.25  # seconds until full depth
LONGEST_NOTE = 8  # seconds, including its release
RING = 0.6  # seconds that struck notes ring on, as nothing damps them


@functools.lru_cache(maxsize=1)
def _soundfont():
    return SoundFont(default_path())


def perform(rng, category, notes, seconds):
    """The sound [L] of a melody (a list of Note), float32 at 44.1 kHz, at about LEVEL."""
    instrument = INSTRUMENTS[category]
    program = int(rng.choice(instrument.programs))
    tuning = rng.uniform(-TUNING, TUNING)
    vibrato = _vibrato(rng, instrument.vibrato) if instrument.vibrato else None
    sound = np.zeros(seconds * AUDIO_RATE, np.float32)
    for note in notes:
        held = note.duration + (RING if instrument.struck else 0)
        wave = _soundfont().note(program, note.pitch + tuning, held, vibrato)
        start = int(note.onset * AUDIO_RATE)
        left = len(sound) - start
        sound[start : start + len(wave)] += wave[:left] * 10 ** (note.level / 20)
    return _level(rng, _in_a_room(rng, sound))


def _vibrato(rng, depth):
    """Change of pitch over the time of a note [L], semitones."""
    time = np.arange(LONGEST_NOTE * AUDIO_RATE) / AUDIO_RATE
    rate = rng.uniform(VIBRATO_LOW, VIBRATO_HIGH)
    return depth * (time / VIBRATO_DELAY).clip(max=1) * np.sin(2 * np.pi * rate * time)


def _in_a_room(rng, sound):
    """Tilt the spectrum by some dB per octave and add the reverb of a small room: decaying noise."""
    slope = rng.uniform(-TILT, TILT)
    time = np.arange(int(ROOM_HIGH * AUDIO_RATE)) / AUDIO_RATE
    room = rng.standard_normal(len(time)) * 10 ** (-3 * time / rng.uniform(ROOM_LOW, ROOM_HIGH))
    room *= 10 ** (rng.uniform(WET_LOW, WET_HIGH) / 20) / np.linalg.norm(room)
    room[0] += 1  # the sound itself
    num = fft.next_fast_len(len(sound) + len(room), real=True)
    octaves = np.log2(fft.rfftfreq(num, 1 / AUDIO_RATE).clip(min=1) / TILT_CENTRE).clip(
        -TILT_RANGE, TILT_RANGE
    )
    response = fft.rfft(room.astype(np.float32), num) * 10 ** (slope * octaves.astype(np.float32) / 20)
    return fft.irfft(fft.rfft(sound, num) * response, num)[: len(sound)]


def sounding_rms(sound):
    """RMS of a waveform [L] over the blocks of 50 ms that are within 30 dB of its loudest."""
    blocks = sound[: len(sound) // BLOCK * BLOCK].reshape(-1, BLOCK)
    power = np.mean(blocks.astype(np.float64) ** 2, axis=1)
    return float(np.sqrt(power[power > power.max() * 10 ** (GATE / 10)].mean()))


def _level(rng, sound):
    limit = sounding_rms(sound) * 10 ** (CREST / 20)
    if np.abs(sound).max() > limit:
        sound = _limit_peaks(sound, limit)
    target = 10 ** ((LEVEL + rng.uniform(-LEVEL_SPREAD, LEVEL_SPREAD)) / 20)
    gain = min(target / sounding_rms(sound), PEAK / np.abs(sound).max())
    return (sound * gain).astype(np.float32)


def _limit_peaks(sound, limit):
    """A limiter: smoothly attenuate the sound around samples beyond ±limit."""
    highest = ndimage.maximum_filter1d(np.abs(sound), 2 * LOOK_AHEAD + 1)
    gain = limit / np.maximum(highest, limit)
    return sound * ndimage.uniform_filter1d(gain, 2 * LOOK_AHEAD + 1)
