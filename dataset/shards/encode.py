"""The members of a clip in a shard: its sound and frames, as they are or encoded to be smaller."""

import io
import json
import os
from typing import NamedTuple

import soundfile

from dataset.index import path_frame
from dataset.shards.members import JPEG, WEBP
from media import open_regular
from utils import UserError

SOUNDS = "flac", "keep", "opus"
FRAMES = "keep", "jpeg", "webp"
OPUS_RATE = 16000  # samples/s; the lowest rate of Opus that loses nothing of the networks' 11025
OPUS_LEVEL = 0.9  # libsndfile's compression level from 0 to 1
MAX_FLAC_CHANNELS = 8


class Encoding(NamedTuple):
    """sound: one of SOUNDS, for wav files; frames: one of FRAMES, and their quality, 1 to 100."""

    sound: str = "flac"
    frames: str = "keep"
    quality: int = 75


def encode_clip(clip, encoding):
    """[(name, bytes)] of the members of a clip: sound, description, frames.

    Raises UserError, naming the file, if one of them cannot be read.
    """
    path, suffix_frames = clip.path_audio, WEBP if encoding.frames == "webp" else JPEG
    try:
        suffix, sound = encode_sound(_read(path), os.path.splitext(path)[1].lower(), encoding.sound)
        text = {"category": clip.category, "id": clip.id, "frames": clip.num_frames}
        members = [(clip.name + suffix, sound), (f"{clip.name}.json", json.dumps(text).encode())]
        for number in range(1, clip.num_frames + 1):
            path = path_frame(clip.path_frames, number)
            data = encode_picture(_read(path), encoding.frames, encoding.quality)
            members.append((f"{clip.name}.{number:06d}{suffix_frames}", data))
    except (OSError, soundfile.LibsndfileError, SyntaxError) as error:
        raise UserError(f"{path}: cannot be packed: {_reason(error)}") from None
    return members


def _reason(error):
    """Why a file cannot be packed: the libraries' own errors name a buffer in memory."""
    if isinstance(error, soundfile.LibsndfileError):
        return "not a wav file, or damaged"
    if type(error).__name__ == "UnidentifiedImageError":  # of PIL, which may not be imported
        return "not a JPEG or WebP file, or damaged"
    return getattr(error, "strerror", None) or str(error)


def _read(path):
    with open_regular(path) as file:
        return file.read()


def encode_sound(data, suffix, sound):
    """(suffix, bytes) of a sound file, encoded as `sound`, one of SOUNDS.

    FLAC keeps every sample of a 16-bit wav file; all other files stay as they are, except with "opus".
    Raises soundfile's errors for damaged wav files.
    """
    if sound == "keep" or suffix != ".wav":
        return suffix, data
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        if sound == "flac" and (file.subtype != "PCM_16" or file.channels > MAX_FLAC_CHANNELS):
            return suffix, data
        wave, rate = (
            file.read(dtype="int16" if sound == "flac" else "float32", always_2d=True),
            file.samplerate,
        )
    out = io.BytesIO()
    if sound == "flac":
        soundfile.write(out, wave, rate, format="FLAC", subtype="PCM_16")
        return ".flac", out.getvalue()
    import librosa  # large, and only needed here

    wave = librosa.resample(wave.mean(axis=1), orig_sr=rate, target_sr=OPUS_RATE, res_type="soxr_hq")
    soundfile.write(out, wave, OPUS_RATE, format="OGG", subtype="OPUS", compression_level=OPUS_LEVEL)
    return ".opus", out.getvalue()


def encode_picture(data, frames, quality, side=None):
    """The bytes of a picture encoded as `frames`, one of FRAMES, with `quality`.

    side: maximum of the shorter side in pixels, None: as it is. Raises PIL's errors.
    """
    if frames == "keep":
        return data
    from PIL import Image  # here: other data steps do without it

    out = io.BytesIO()
    with Image.open(io.BytesIO(data), formats=["JPEG", "WEBP"]) as picture:
        rgb = picture.convert("RGB")
    if side and side < min(rgb.size):
        size = [round(length * side / min(rgb.size)) for length in rgb.size]
        rgb = rgb.resize(size, Image.Resampling.BICUBIC)
    rgb.save(out, frames.upper(), quality=quality)
    return out.getvalue()
