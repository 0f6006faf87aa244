"""Read windows of audio files. Only the window is read, from wav and mp3 alike."""

import contextlib
import io
import math
import os
import shutil
import tempfile

import numpy as np
import soundfile

import limits
from dataset.shards.read import Member, open_media
from media import media_input, run_ffmpeg
from utils import UserError

MARGIN = 256  # samples at the target rate, read on each side for the resampler to settle
MARGIN_MP3 = 8192  # the same for mp3: after a seek, the decoder needs some packets to recover
MAX_LEVEL = 32  # of float samples, where 1 is full scale; anything louder was never normalised
FULL_SCALE = np.float32(2**-15)  # of 16-bit samples
NO_SOUND = {1, 7}  # libsndfile's error codes for unknown formats; its text for 7 is about a missing file
LENGTH_TAGS = b"Xing", b"Info", b"VBRI"  # in an mp3's first packet, if it states their number


def read_window(path, centre_seconds, num_samples, rate, speed=1.0):
    """Mono waveform [num_samples] float32 in -1..1, centred at `centre_seconds`, at `rate` samples/s.

    Zero-padded beyond the ends of the file; a file shorter than the window is repeated first. Channels are
    averaged. speed: of playback, as if the file's sampling rate were that much higher; the centre stays.
    Raises UserError, naming the file, if it cannot be read, is empty, or is truncated before the window.
    """
    with _sound(path) as file:
        rate_file = file.samplerate if speed == 1.0 else round(file.samplerate * speed)
        centre = centre_seconds if speed == 1.0 else centre_seconds * file.samplerate / rate_file
        start = int(centre * rate) - num_samples // 2
        return np.clip(_window(file, rate_file, start, num_samples, rate), -1.0, 1.0)


def sound_seconds(path):
    """The length of an audio file by its header. Raises UserError, naming the file, if it cannot be read."""
    with _sound(path) as file:
        return file.frames / file.samplerate


@contextlib.contextmanager
def _sound(path):
    """Open an audio file; errors become a UserError."""
    try:
        with open_media(path) as stream, _open_sound(stream) as file:
            _check_header(file)
            yield file
            return
    except soundfile.LibsndfileError as error:
        reason = "not a wav or mp3 file, or damaged" if error.code in NO_SOUND else error.error_string
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
    raise UserError(f"{path}: cannot be read as sound: {reason}") from None


def _open_sound(stream):
    in_shard = isinstance(stream, Member)
    if not (stream.size if in_shard else os.fstat(stream.fileno()).st_size):
        raise UserError("the file is empty")
    # Open by descriptor, so that the format comes from the content, not the name.
    file = _open_member(stream) if in_shard else soundfile.SoundFile(stream.fileno(), closefd=False)
    if file.format != "MP3" or _tells_length(stream.name):
        return file
    # libsndfile estimates the length from the first packet's bit rate and stops there: far too early if the
    # rate varies. Only streaming encoders write such files; they are decoded whole.
    _check_header(file)
    file.close()
    wav = ["-c:a", "pcm_s16le", "-fs", str(limits.FFMPEG_PIPE_BYTES), "-f", "wav", "-"]
    with _on_disk(stream) as path:
        data = run_ffmpeg([*media_input(path), *wav])
    if len(data) >= limits.FFMPEG_PIPE_BYTES:
        raise UserError("has no length and is too long to be decoded (SOP_FFMPEG_PIPE_BYTES)")
    return soundfile.SoundFile(io.BytesIO(data))


def _open_member(member):
    """Open a sound in a shard: by descriptor if it is a wav file that states its size.

    libsndfile ends there. Otherwise it calls Python for every few bytes: a fifth of the time of a window.
    """
    handle = member.handle() if member.name.endswith(".wav") else None
    if handle is not None:
        head = os.pread(handle, 8, member.offset)
        if head == b"RIFF" + (member.size - 8).to_bytes(8, "little", signed=True)[:4]:
            return soundfile.SoundFile(handle, closefd=False)
    return soundfile.SoundFile(member, closefd=False)


@contextlib.contextmanager
def _on_disk(stream):
    """The path of an open file; of a shard's member, that of a copy, which is then deleted."""
    if not isinstance(stream, Member):
        yield stream.name
        return
    with tempfile.NamedTemporaryFile() as copy:
        stream.seek(0)
        shutil.copyfileobj(stream, copy)
        copy.flush()
        yield copy.name


def _check_header(file):
    """Raise UserError if a sound has more channels or samples/s than a window of it should cost in memory."""
    for what, value, most in (
        ("channels", file.channels, limits.MAX_CHANNELS),
        ("samples/s", file.samplerate, limits.MAX_RATE),
    ):
        if value > most:
            raise UserError(f"{value} {what}, expected at most {most}")


def _tells_length(path):
    """Whether an mp3's first packet, after any ID3 tag, states the length."""
    with open_media(path) as stream:
        head = stream.read(10)
        size = 0
        for seven_bits in head[6:]:
            size = size * 128 + seven_bits
        stream.seek(10 + size if head.startswith(b"ID3") else 0)
        packet = stream.read(256)
    return any(tag in packet for tag in LENGTH_TAGS)


def _window(file, rate_file, start, num_samples, rate):
    length = _length(file, rate_file, rate)
    if length < 1:
        raise UserError("contains no sound")
    if length >= num_samples:
        return _read(file, rate_file, start, num_samples, rate)
    whole = _read(file, rate_file, 0, length, rate)
    return _cut(np.tile(whole, num_samples // length + 1), start, num_samples)


def _length(file, rate_file, rate):
    """The file's length by its header, played at `rate_file`, in samples at `rate`."""
    return file.frames * rate // rate_file


def _read(file, rate_file, start, num_samples, rate):
    """Samples start … start + num_samples at `rate` of the open `file`, zero outside of it.

    rate_file: samples/s at which the file is played.
    """
    common = math.gcd(rate_file, rate)
    step_in, step_out = rate_file // common, rate // common
    # Samples of both rates coincide every `step_in` and `step_out` samples. Starting there avoids a shift.
    margin = MARGIN_MP3 if file.format == "MP3" else MARGIN if step_in != step_out else 0
    block = max(start - margin, 0) // step_out
    first, end = block * step_out, start + num_samples + margin
    if end <= first or first >= _length(file, rate_file, rate):
        return np.zeros(num_samples, np.float32)
    file.seek(block * step_in)
    channels = _read_floats(file, -(-(end - first) * step_in // step_out))
    level = max(channels.max(), -channels.min()) if channels.size else 0
    if not level <= MAX_LEVEL:  # also catches NaN
        raise UserError(f"samples reach {level:g}, expected -1 to 1")
    wave = channels.mean(axis=1) if file.channels > 1 else channels[:, 0]
    if step_in != step_out and len(wave):
        import librosa  # large, and only needed here: index files are made without it

        wave = librosa.resample(wave, orig_sr=rate_file, target_sr=rate, res_type="soxr_hq")
    if first + len(wave) <= max(start, 0) < _length(file, rate_file, rate):
        seconds = max(start, 0) / rate * rate_file / file.samplerate
        raise UserError(
            f"no sound at {seconds:.1f} s of {file.frames / file.samplerate:.1f} s: truncated or damaged"
        )
    return _cut(wave, start - first, num_samples)


def _read_floats(file, count):
    """[count, channels] float32 in -1..1, fewer at the end of the file."""
    if file.subtype != "PCM_16":
        return file.read(count, dtype="float32", always_2d=True)
    # The same values as libsndfile's conversion of 16-bit samples, in a third of the time.
    channels = file.read(count, dtype="int16", always_2d=True).astype(np.float32)
    channels *= FULL_SCALE
    return channels


def _cut(wave, start, num_samples):
    """wave[start:start + num_samples], zero-padded."""
    out = np.zeros(num_samples, np.float32)
    low, high = max(start, 0), min(start + num_samples, len(wave))
    if low < high:
        out[low - start : high - start] = wave[low:high]
    return out
