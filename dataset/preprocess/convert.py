"""Convert one video to frames and audio in one pass of ffmpeg; outputs are complete or absent.

Both outputs record how they were made: the frames in a hidden file in their folder, the audio in its comment
tag. If the settings or the video changed, or if a part is missing, both are made again. Outputs without such
a record, from older pipelines, are kept.
"""

import contextlib
import json
import os
import shutil
import tempfile
from typing import NamedTuple

import soundfile

import limits
from dataset.index import path_frame
from dataset.preprocess.probe import LOG, PROBE_SECONDS, claimed_seconds, damage, read_header
from media import file_url, media_input, run_ffmpeg, writing_sound
from utils import UserError, save_json

JPEG_QUALITY = 3  # ffmpeg's scale: 2 is best, 31 worst
MAX_CHANNELS = 8  # of an audio track; they are averaged
MAX_DAMAGED = 0.05  # fraction of a track that may be missing or fail to decode
SLACK = 1.05, 10  # outputs end after this factor of the video's length, plus seconds, see `_longest`
MAX_MISMATCH = 0.25  # seconds; if frames and audio differ more in length, the longer is trimmed
VIDEO_TRACK, AUDIO_TRACK = "0:V:0", "0:a:0"  # ffmpeg's stream specifiers; capital V excludes cover art
SHORT_SIDE = 246  # pixels: the size from which training crops 224, so that it never resizes
FILE_STAMP = ".preprocess.json"  # in a frames folder: how the frames were made
STAMP_KEYS = {"settings", "frames", "samples", "note"}
SECONDS_PER_SECOND = 60  # processor time per second of video that converting may take


class Settings(NamedTuple):
    """The settings of the outputs."""

    fps: int = 8  # frames/s
    rate: int = 11025  # samples/s
    short_side: int = SHORT_SIDE  # maximum length of a frame's shorter side in pixels, 0: unlimited
    ffmpeg: str | None = None  # the binary, None: the one bundled with imageio-ffmpeg


class Result(NamedTuple):
    """The outcome for a video."""

    made: bool  # at least one output was made
    found: bool  # an existing output has no record of how it was made
    num_frames: int
    seconds: float  # of the audio
    note: str  # what the user may want to know


def convert(path_video, path_frames, path_audio, staging, settings=None):
    """Make the folder `path_frames` and the file `path_audio` of a video if they are missing or outdated.

    staging: a folder for work in progress, in which killed processes leave files. Returns a `Result`.
    Raises UserError if frames or audio cannot be read, OSError if they cannot be written.
    """
    settings = settings or Settings()
    if not os.path.isfile(path_video):
        raise UserError("not a file, or a broken link")
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
            longest = _longest(read_header(path_video, settings.ffmpeg))
            log = _run(path_video, new_frames, new_audio, wanted.audio, settings, longest)
            outputs = new_frames or path_frames, new_audio or path_audio
            trimmed = _fit(*outputs, claimed_seconds(log), longest, settings.fps, not found)
            note = "; ".join(filter(None, [trimmed, damage(log)]))
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
    """The records that up-to-date frames and audio have."""

    frames: dict
    audio: dict


def _look(path_frames, path_audio, wanted):
    """Which of {"frames", "audio"} to make; whether an existing one has no record; the note."""
    frames, audio = _stamp_of_frames(path_frames), _stamp_of_audio(path_audio)
    for path, stamp, measure in ((path_frames, frames, count_frames), (path_audio, audio, _length)):
        if stamp == {} and not measure(path):
            raise UserError(f"{path}: already exists and is empty; delete it to have it made")
    settings = None if frames is None else frames.get("settings", {})
    good = {"frames": settings in ({}, wanted.frames), "audio": audio in ({}, wanted.audio)}
    found = {} in (settings, audio)
    if not found and all(good.values()):  # made together by this module
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
    """The number of frames in a folder."""
    return sum(entry.name.endswith(".jpg") for entry in os.scandir(folder))


def _stamp_of_frames(folder):
    """The record of frames; {} if they have none, None if there are no frames or it cannot be read."""
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
    """The record of an audio file; {} if it has none, None if there is no file."""
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as data, soundfile.SoundFile(data) as file:
            stamp = json.loads(file.comment)
    except (soundfile.SoundFileError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and "rate" in stamp else {}


def _put(new, path, work):
    """Move a finished output into place; an older folder is moved aside, as deleting it takes time."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if os.stat(folder).st_dev != os.stat(new).st_dev:  # on another disk: copy first
            work = stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix=".preprocess-"))
            new = shutil.move(new, work)
        if os.path.isdir(path) and os.path.isdir(new):
            os.rename(path, os.path.join(work, "old"))
        os.replace(new, path)


def _longest(seconds):
    """Seconds that outputs of a video of `seconds` may have; 0: unknown.

    With broken timestamps, copies of one frame would fill the disk.
    """
    factor, more = SLACK
    return min(limits.MAX_SECONDS, factor * seconds + more) if seconds else limits.MAX_SECONDS


def _run(path_video, folder, path_audio, stamp_audio, settings, longest):
    """Make the outputs that are not None, of `longest` seconds at most. Returns ffmpeg's log."""
    outputs = []
    if folder:
        os.mkdir(folder)
        outputs += _frames_output(folder, settings, longest)
    if path_audio:
        outputs += _audio_output(path_audio, settings.rate, stamp_audio, longest)
    start = [*LOG, "-max_error_rate", str(MAX_DAMAGED)]
    # One thread per video, as parallel jobs keep all cores busy. Not deblocking non-reference frames
    # saves a tenth of the time.
    decoding = [*"-threads 1 -skip_loop_filter noref -reinit_filter:v 0".split(), *media_input(path_video)]
    log = []
    try:
        seconds = SECONDS_PER_SECOND * longest
        run_ffmpeg([*start, *decoding, *outputs], log=log, ffmpeg=settings.ffmpeg, seconds=seconds)
    except UserError as error:
        raise UserError(_reason(path_video, error, settings.ffmpeg)) from None
    return log


def _frames_output(folder, settings, longest):
    # round=down maps the frame at time t to output frame floor(t * fps) + 1, and each output frame shows the
    # last one mapped to it or before it: what starts at t first appears in the output frame nearest to t.
    # start_time=0: a track that starts late is padded with its first frame.
    filters = f"fps={settings.fps}:start_time=0:round=down"
    if settings.short_side:
        # Make pixels square by shrinking their longer side.
        width, height = "(iw*min(sar,1))", "(ih/max(sar,1))"
        factor = f"min(1,{settings.short_side}/min({width},{height}))"
        size = f"w='max(1,round({width}*{factor}))':h='max(1,round({height}*{factor}))'"
        filters += f",scale={size}:out_range=full,setsar=1"
    pattern = os.path.join(file_url(folder).replace("%", "%%"), "%06d.jpg")
    coding = ["-q:v", str(JPEG_QUALITY), "-huffman", "default", "-threads", "1"]
    return ["-map", VIDEO_TRACK, "-vf", filters, *coding, "-t", f"{longest:.3f}", pattern]


def _audio_output(path, rate, stamp, longest):
    # `-ac 1` makes tracks decoded to floats 1.41 times too loud; pan's `<` averages the channels that exist.
    # aresample fills gaps and a late start with silence, so that audio and frames stay in sync.
    channels = "+".join(f"c{number}" for number in range(MAX_CHANNELS))
    filters = f"pan=mono|c0<{channels},aresample={rate}:async=1:first_pts=0"
    coding = ["-c:a", "pcm_s16le", "-map_metadata", "-1", "-metadata", f"comment={json.dumps(stamp)}"]
    return ["-map", AUDIO_TRACK, "-af", filters, *coding, "-t", f"{longest:.3f}", "-f", "wav", file_url(path)]


def check_video(path):
    """Raise UserError, saying why, unless a file starts with pictures and sound that can be read."""
    if not os.path.isfile(path):
        raise UserError("not a file, or a broken link")
    if not os.path.getsize(path):
        raise UserError("the file is empty")
    read_header(path)
    reason = _reason(path, "", None)
    if reason:
        raise UserError(reason)


def _reason(path_video, error, ffmpeg):
    """Why a video cannot be used; ffmpeg's last message rarely says so."""
    sees, hears = (_can_read(path_video, track, ffmpeg) for track in (VIDEO_TRACK, AUDIO_TRACK))
    if not (sees or hears):
        return "cannot be read as a video"
    if not sees:
        return "no readable video track"
    if not hears:
        return "no readable audio track"
    return str(error)


def _can_read(path_video, track, ffmpeg):
    try:
        test = [*media_input(path_video), "-map", track, "-t", "1", "-f", "null", "-"]
        run_ffmpeg(test, ffmpeg=ffmpeg, seconds=PROBE_SECONDS)
    except UserError:
        return False
    return True


def _fit(path_frames, path_audio, claimed, most, fps, may_trim):
    """Check the outputs; trim the longer of frames and audio if `may_trim`. Returns a note about it.

    claimed: duration by the video's header, seconds; 0 if unknown; most: that the outputs may have.
    """
    num_frames, (num_samples, rate) = count_frames(path_frames), _length(path_audio) or (0, 1)
    seconds = num_samples / rate
    if not num_frames:
        raise UserError("the video track has no frames")
    if not num_samples:
        raise UserError("the audio track is empty")
    longest = max(num_frames / fps, seconds)
    if may_trim and longest > most - 1 / fps:
        raise UserError(f"longer than {most:.0f} s, which its packets do not fill: its timestamps are broken")
    if longest < (1 - MAX_DAMAGED) * claimed - 1:
        raise UserError(f"truncated: only {longest:.0f} s of {claimed:.0f} s can be read")
    surplus = num_frames / fps - seconds
    if abs(surplus) <= MAX_MISMATCH:
        return ""
    if may_trim and surplus > 0:
        for number in range(max(1, round(seconds * fps)) + 1, num_frames + 1):
            os.remove(path_frame(path_frames, number))
    elif may_trim:
        _trim_audio(path_audio, num_frames / fps)
    note = f"frames for {num_frames / fps:.1f} s, audio for {seconds:.1f} s"
    return f"{note}: the longer was trimmed" if may_trim else note


def _length(path):
    """(samples, samples/s) of an audio file, None if it is empty or cannot be read."""
    try:
        with open(path, "rb") as data:  # soundfile cannot open paths that are not UTF-8
            info = soundfile.info(data)
    except soundfile.SoundFileError:
        return None
    return (info.frames, info.samplerate) if info.frames else None


def _trim_audio(path, seconds):
    """Trim an audio file, keeping its comment."""
    with open(path, "rb") as data, soundfile.SoundFile(data) as file:
        comment, rate = file.comment, file.samplerate
        wave = file.read(round(seconds * rate), dtype="int16")
    wav = {"samplerate": rate, "channels": 1, "subtype": "PCM_16", "format": "WAV"}
    with writing_sound(path), open(path, "wb") as data, soundfile.SoundFile(data, "w", **wav) as file:
        file.comment = comment
        file.write(wave)
