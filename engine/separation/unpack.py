"""Unpack a video, or a picture with a sound, for separation: frames, sound at two rates, a small copy."""

import io
import os
from typing import NamedTuple

from PIL import Image, ImageOps

from dataset.index import PICTURE_SUFFIXES
from dataset.preprocess.convert import Settings, check_video, convert
from media import file_url, media_input, run_ffmpeg
from utils import UserError, replacing

MAX_WIDTH, MAX_HEIGHT = 854, 480  # pixels of the copy for browsers
CRF = 26  # H.264 quality of the copy, 0 the best
CRF_STILL = 8  # H.264 quality of a picture that becomes a video
KEY_SECONDS = 1  # between key frames, to which a player can seek


class Unpacked(NamedTuple):
    """A video's parts on disk."""

    video: str  # the video itself, or one made from a picture and a sound
    frames: str  # folder of pictures, numbered from 1
    num_frames: int
    sound: str  # wav at the networks' rate, mono
    own_sound: str  # wav at the video's own rate, all channels
    size: tuple  # (width, height) of the video in square pixels, upright
    seconds: float
    note: str = ""  # what the user may want to know, e.g. that the video is damaged


def check_input(path, path_sound=None):
    """Raise UserError if `unpack` could not use the files, as far as is known from the start of them."""
    if not os.path.exists(path):
        raise UserError("no such file")
    if not _is_picture(path, path_sound):
        check_video(path)
    elif not path_sound:
        raise UserError("a picture needs a sound to go with it: --audio FILE")
    elif not os.path.isfile(path_sound):
        raise UserError(f"{path_sound}: no such file")


def _is_picture(path, path_sound):
    return bool(path_sound) or path.lower().endswith(PICTURE_SUFFIXES)


def unpack(path, folder, fps, rate, path_sound=None, own_rate=None):
    """Unpack the video at `path` into the empty `folder`; with `path_sound`, `path` is a picture.

    fps: frames/s; rate: samples/s of the networks; own_rate: samples/s of the sound to separate, None: the
    video's. Raises UserError if the video cannot be used.
    """
    size = None
    if _is_picture(path, path_sound):
        path, size = _from_picture(path, path_sound, folder, fps)
    frames, sound = os.path.join(folder, "frames"), os.path.join(folder, "sound.wav")
    result = convert(path, frames, sound, folder, Settings(fps, rate))
    own_sound = os.path.join(folder, "own.wav")
    flags = ["-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", "-t", f"{result.seconds:.6f}"]
    flags += ["-ar", str(own_rate)] if own_rate else []
    run_ffmpeg([*media_input(path), *flags, "-c:a", "pcm_s16le", "-rf64", "auto", file_url(own_sound)])
    size = size or _size(path)
    return Unpacked(path, frames, result.num_frames, sound, own_sound, size, result.seconds, result.note)


def _size(path):
    squares = "scale=w='round(iw*max(sar,1))':h='round(ih/min(sar,1))'"
    flags = ["-map", "0:V:0", "-frames:v", "1", "-vf", squares, "-f", "image2pipe", "-c:v", "png", "-"]
    with Image.open(io.BytesIO(run_ffmpeg([*media_input(path), *flags]))) as picture:
        return picture.size


def write_copy(path, path_copy, seconds):
    """Write the first `seconds` of a video as H.264 and AAC of at most 480p, for any browser."""
    size = f"min(1,min({MAX_WIDTH}/max(iw,ih),{MAX_HEIGHT}/min(iw,ih)))"
    scale = f"scale=w='2*round(iw*min(sar,1)*{size}/2)':h='2*round(ih/max(sar,1)*{size}/2)',setsar=1"
    source = [*media_input(path), "-map", "0:V:0", "-map", "0:a:0", "-t", f"{seconds:.3f}"]
    keys = f"expr:gte(t,n_forced*{KEY_SECONDS})"
    coding = ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(CRF), "-force_key_frames", keys]
    layout = ["-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k", "-ac", "2", "-movflags", "+faststart"]
    with replacing(path_copy) as temporary:
        run_ffmpeg([*source, "-vf", scale, *coding, *layout, file_url(temporary)])


def _from_picture(path, path_sound, folder, fps):
    """(a video of one upright picture that lasts as long as the sound, (width, height) of the picture)."""
    from dataset.frames import open_picture  # here: it imports torch, and `check_input` is to answer at once

    check_input(path, path_sound)
    picture = ImageOps.exif_transpose(open_picture(path))
    size = picture.size
    picture.thumbnail((MAX_WIDTH, MAX_WIDTH))
    still, video = os.path.join(folder, "picture.png"), os.path.join(folder, "picture.mkv")
    picture.save(still)
    inputs = ["-loop", "1", "-framerate", str(fps), "-i", file_url(still), *media_input(path_sound)]
    coding = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", str(CRF_STILL), "-pix_fmt", "yuv444p"]
    layout = ["-map", "0:v", "-map", "1:a:0", "-c:a", "pcm_s16le", "-shortest"]
    try:
        run_ffmpeg([*inputs, *coding, *layout, file_url(video)])
    except UserError as error:
        raise UserError(f"{path_sound}: no readable audio: {error}") from None
    return video, size
