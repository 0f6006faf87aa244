"""A window of a sound file -> waveform. Only the window is read, wav and mp3 alike."""

import math

import librosa
import numpy as np
import soundfile

from utils import UserError

MARGIN = 256  # samples at the target rate, read on each side so that the resampler has settled
MARGIN_MP3 = 8192  # likewise for mp3, whose decoder needs some packets after a jump before it is right


def read_window(path, centre_seconds, num_samples, rate):
    """Mono waveform [num_samples] float32 in -1..1, centred at `centre_seconds`, at `rate` samples/s.

    Zero where the file ends; a file shorter than the window is repeated first. Channels are averaged.
    Raises UserError, naming the file, if it cannot be read or holds no sound.
    """
    start = int(centre_seconds * rate) - num_samples // 2
    try:
        with soundfile.SoundFile(path) as file:
            length = file.frames * rate // file.samplerate  # of the whole file, at the target rate
            if length < 1:
                raise UserError(f"{path}: holds no sound")
            if length >= num_samples:
                wave = _read(file, start, num_samples, rate)
            else:
                whole = _read(file, 0, length, rate)
                wave = _cut(np.tile(whole, num_samples // length + 1), start, num_samples)
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(f"{path}: cannot be read as sound: {error}") from None
    return np.clip(wave, -1.0, 1.0)


def _read(file, start, num_samples, rate):
    """Samples start … start + num_samples of the open `file`, counted at `rate`; zero outside of it."""
    common = math.gcd(file.samplerate, rate)
    step_in, step_out = file.samplerate // common, rate // common
    # Both rates share a sample every `step` samples: start on one of them, so that nothing is shifted.
    margin = MARGIN_MP3 if file.format == "MP3" else MARGIN if step_in != step_out else 0
    block = max(start - margin, 0) // step_out
    first, end = block * step_out, start + num_samples + margin
    if end <= first:
        return np.zeros(num_samples, np.float32)
    file.seek(min(block * step_in, file.frames))
    wave = file.read(-(-(end - first) * step_in // step_out), dtype="float32", always_2d=True).mean(axis=1)
    if not np.isfinite(wave).all():
        raise UserError(f"{file.name}: holds samples that are not numbers")
    if step_in != step_out:
        wave = librosa.resample(wave, orig_sr=file.samplerate, target_sr=rate, res_type="soxr_hq")
    return _cut(wave, start - first, num_samples)


def _cut(wave, start, num_samples):
    """wave[start:start + num_samples], with zeros where the wave has no samples."""
    out = np.zeros(num_samples, np.float32)
    low, high = max(start, 0), min(start + num_samples, len(wave))
    if low < high:
        out[low - start : high - start] = wave[low:high]
    return out
