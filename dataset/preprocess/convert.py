"""One video -> its pictures and its sound, in one pass of ffmpeg, each whole or not at all.

Both outputs say how they were made: the folder of pictures in a hidden file, the sound in its comment. If
that was with other settings or from another file, or if a part of them is missing, both are made again. What
says nothing, of an older pipeline, is left as it is.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
from typing import NamedTuple

import soundfile

from dataset.frames import path_frame
from utils import UserError, file_url, run_ffmpeg, save_json

JPEG_QUALITY = 3  # ffmpeg's scale: 2 is best, 31 worst
MAX_CHANNELS = 8  # of a sound track, averaged
MAX_DAMAGED = 0.05  # share of a track that may be missing or fail to decode
MAX_SECONDS = 4 * 3600  # of a video; a broken clock would fill the disk with one picture
MAX_MISMATCH = 0.25  # seconds by which pictures and sound may differ in length before the longer is cut
PICTURES, SOUND = "0:V:0", "0:a:0"  # ffmpeg's names of the tracks; capital V: cover art is no video
SHORT_SIDE = 246  # pixels: what the recipe crops its 224 from, so that training has nothing to resize
FILE_STAMP = ".preprocess.json"  # in a folder of pictures: how they were made
STAMP_KEYS = {"settings", "frames", "samples", "note"}
DURATION = re.compile(r"^ +Duration: (\d+):(\d+):([\d.]+),")


class Settings(NamedTuple):
    """What is made of a video."""

    fps: int = 8  # pictures/s
    rate: int = 11025  # samples/s
    short_side: int = SHORT_SIDE  # pixels that the shorter side of a picture may have at most, 0: any
    ffmpeg: str | None = None  # the binary, None: the one that imageio-ffmpeg brings


class Result(NamedTuple):
    """What came of a video."""

    made: bool  # something was missing
    found: bool  # something was there that does not say how it was made
    num_frames: int
    seconds: float  # of the sound
    note: str  # what was done that the user may want to know


def convert(path_video, path_frames, path_audio, staging, settings=None):
    """Make the folder `path_frames` and the file `path_audio` of a video, where they are missing or outdated.

    staging: a folder for work in progress; a killed process leaves its own in there. Returns a `Result`.
    Raises UserError if pictures or sound cannot be read, OSError if they cannot be written.
    """
    settings = settings or Settings()
    if not os.path.isfile(path_video):
        raise UserError("not a file, or a link to nothing")
    size = os.path.getsize(path_video)
    wanted = _Stamps(
        {"bytes": size, "fps": settings.fps, "short_side": settings.short_side},
        {"bytes": size, "rate": settings.rate},
    )
    missing, found, note = _look(path_frames, path_audio, wanted)
    with tempfile.TemporaryDirectory(dir=staging, ignore_cleanup_errors=True) as work:
        new_frames = os.path.join(work, "frames") if "frames" in missing else None
        new_audio = os.path.join(work, "sound.wav") if "audio" in missing else None
        if missing:
            claimed = _run(path_video, new_frames, new_audio, wanted.audio, settings)
            note = _fit(new_frames or path_frames, new_audio or path_audio, claimed, settings.fps, not found)
        if new_frames:
            num_samples = _length(new_audio or path_audio)[0]
            stamp = {"settings": wanted.frames, "frames": count_frames(new_frames), "samples": num_samples}
            save_json(os.path.join(new_frames, FILE_STAMP), stamp | {"note": note})
            _put(new_frames, path_frames, work)
        if new_audio:
            _put(new_audio, path_audio, work)
    num_samples, rate = _length(path_audio)
    return Result(bool(missing), found, count_frames(path_frames), num_samples / rate, note)


class _Stamps(NamedTuple):
    """How pictures and sound are to be made, as they say it."""

    frames: dict
    audio: dict


def _look(path_frames, path_audio, wanted):
    """Which of {"frames", "audio"} to make; whether one of them does not say how it was made; the note."""
    frames, audio = _stamp_of_frames(path_frames), _stamp_of_audio(path_audio)
    for path, stamp, measure in ((path_frames, frames, count_frames), (path_audio, audio, _length)):
        if stamp == {} and not measure(path):
            raise UserError(f"{path}: was there before and holds nothing; remove it to have it made")
    settings = None if frames is None else frames.get("settings", {})
    good = {"frames": settings in ({}, wanted.frames), "audio": audio in ({}, wanted.audio)}
    found = {} in (settings, audio)
    if not found and all(good.values()):  # made here, together
        whole = _is_numbered(path_frames, frames["frames"]) and _length(path_audio)[0] == frames["samples"]
        good = dict.fromkeys(good, whole)
    missing = {name for name in good if not good[name]}
    if missing and not found:
        missing = set(good)
    return missing, found, "" if missing else frames.get("note", "")


def _is_numbered(folder, count):
    names = set(os.listdir(folder))
    return all(path_frame("", number) in names for number in range(1, count + 1))


def count_frames(folder):
    """The number of pictures in a folder."""
    return sum(entry.name.endswith(".jpg") for entry in os.scandir(folder))


def _stamp_of_frames(folder):
    """How the pictures were made; {} if they do not say, None if there are none or if that cannot be read."""
    if not os.path.isdir(folder) or not os.listdir(folder):
        return None
    try:
        with open(os.path.join(folder, FILE_STAMP), encoding="utf-8") as file:
            stamp = json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError:
        return None
    return stamp if isinstance(stamp, dict) and stamp.keys() >= STAMP_KEYS else None


def _stamp_of_audio(path):
    """How the sound was made; {} if it does not say, None if there is none."""
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as data, soundfile.SoundFile(data) as file:
            stamp = json.loads(file.comment)
    except (soundfile.SoundFileError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and "rate" in stamp else {}


def _put(new, path, work):
    """Bring a finished output into its place; an older one is moved away, as removing a folder takes time."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if os.stat(folder).st_dev != os.stat(new).st_dev:  # on another disk: copy first
            work = stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix=".preprocess-"))
            new = shutil.move(new, work)
        if os.path.isdir(path) and os.path.isdir(new):
            os.rename(path, os.path.join(work, "old"))
        os.replace(new, path)


def _run(path_video, folder, path_audio, stamp_audio, settings):
    """Make pictures and sound, or the one that is not None. Returns the seconds that the header claims."""
    outputs = []
    if folder:
        os.mkdir(folder)
        outputs += _pictures_output(folder, settings)
    if path_audio:
        outputs += _sound_output(path_audio, settings.rate, stamp_audio)
    # A text that is called .mp4 may be a list of addresses: nothing but files is opened.
    start = f"-loglevel info -nostats -protocol_whitelist file -max_error_rate {MAX_DAMAGED}".split()
    # Several videos at a time keep all cores busy: one thread each. Deblocking of pictures that no other
    # refers to is left out, which saves a tenth of the time.
    decoding = "-threads 1 -skip_loop_filter noref -reinit_filter:v 0 -i".split()
    log = []
    try:
        run_ffmpeg([*start, *decoding, file_url(path_video), *outputs], log=log, ffmpeg=settings.ffmpeg)
    except UserError as error:
        raise UserError(_reason(path_video, error, settings.ffmpeg)) from None
    return _claimed_seconds(log)


def _claimed_seconds(log):
    """The length that ffmpeg read in the video's header, 0 if there is none."""
    for match in filter(None, map(DURATION.match, log)):
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return 0


def _pictures_output(folder, settings):
    # Rounding down puts a frame at t on picture floor(t * fps) + 1, and each picture is the last frame put on
    # it, or on one before: what begins at t is first seen on the picture whose time is next to t.
    # start_time=0: a track that begins late is filled with its first frame.
    filters = f"fps={settings.fps}:start_time=0:round=down"
    if settings.short_side:
        # Pixels that are not square become so by shrinking the longer of their sides.
        width, height = "(iw*min(sar,1))", "(ih/max(sar,1))"
        factor = f"min(1,{settings.short_side}/min({width},{height}))"
        size = f"w='max(1,round({width}*{factor}))':h='max(1,round({height}*{factor}))'"
        filters += f",scale={size}:out_range=full,setsar=1"
    pattern = os.path.join(file_url(folder).replace("%", "%%"), "%06d.jpg")
    coding = ["-q:v", str(JPEG_QUALITY), "-huffman", "default", "-threads", "1"]
    return ["-map", PICTURES, "-vf", filters, *coding, "-t", str(MAX_SECONDS), pattern]


def _sound_output(path, rate, stamp):
    # `-ac 1` makes tracks decoded to floats 1.41 times too loud; pan's `<` averages the channels that exist.
    # aresample fills gaps and a late beginning with silence, so that sound and pictures stay together.
    channels = "+".join(f"c{number}" for number in range(MAX_CHANNELS))
    filters = f"pan=mono|c0<{channels},aresample={rate}:async=1:first_pts=0"
    coding = ["-c:a", "pcm_s16le", "-map_metadata", "-1", "-metadata", f"comment={json.dumps(stamp)}"]
    return ["-map", SOUND, "-af", filters, *coding, "-t", str(MAX_SECONDS), "-f", "wav", file_url(path)]


def _reason(path_video, error, ffmpeg):
    """What is wrong with a video, in words: ffmpeg's last line seldom says."""
    sees, hears = (_can_read(path_video, track, ffmpeg) for track in (PICTURES, SOUND))
    if not (sees or hears):
        return "cannot be read as a video"
    if not sees:
        return "no picture that can be read"
    if not hears:
        return "no sound that can be read"
    return str(error)


def _can_read(path_video, track, ffmpeg):
    try:
        run_ffmpeg(["-i", file_url(path_video), "-map", track, "-t", "1", "-f", "null", "-"], ffmpeg=ffmpeg)
    except UserError:
        return False
    return True


def _fit(path_frames, path_audio, claimed, fps, may_cut):
    """Check what was made; cut the longer of pictures and sound, if that may be. Returns a note on it.

    claimed: seconds that the video's header says, 0 if it does not.
    """
    num_frames, (num_samples, rate) = count_frames(path_frames), _length(path_audio) or (0, 1)
    seconds = num_samples / rate
    if not num_frames:
        raise UserError("the video track holds no picture")
    if not num_samples:
        raise UserError("the sound track is empty")
    longest = max(num_frames / fps, seconds)
    if longest >= MAX_SECONDS:
        raise UserError(f"longer than {MAX_SECONDS // 3600} hours, or its clock is broken")
    if longest < (1 - MAX_DAMAGED) * claimed - 1:
        raise UserError(f"cut off: {claimed:.0f} s by its header, of which {longest:.0f} s can be read")
    surplus = num_frames / fps - seconds
    if abs(surplus) <= MAX_MISMATCH:
        return ""
    if may_cut and surplus > 0:
        for number in range(max(1, round(seconds * fps)) + 1, num_frames + 1):
            os.remove(path_frame(path_frames, number))
    elif may_cut:
        _cut_sound(path_audio, num_frames / fps)
    note = f"pictures for {num_frames / fps:.1f} s, sound for {seconds:.1f} s"
    return f"{note}: the shorter counts" if may_cut else note


def _length(path):
    """(samples, samples/s) of a sound file, None if it holds nothing that can be read."""
    try:
        with open(path, "rb") as data:  # by its path libsndfile opens no file whose name is not UTF-8
            info = soundfile.info(data)
    except soundfile.SoundFileError:
        return None
    return (info.frames, info.samplerate) if info.frames else None


def _cut_sound(path, seconds):
    """Shorten a sound file, with its comment."""
    with open(path, "rb") as data, soundfile.SoundFile(data) as file:
        comment, rate = file.comment, file.samplerate
        wave = file.read(round(seconds * rate), dtype="int16")
    with open(path, "wb") as data, soundfile.SoundFile(data, "w", rate, 1, "PCM_16", format="WAV") as file:
        file.comment = comment
        file.write(wave)
