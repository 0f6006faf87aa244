"""Make the videos of the tests."""

import os

import numpy as np
import soundfile

from media import run_ffmpeg

WIDTH, HEIGHT = 64, 48  # pixels
SOUND_RATE = 44100  # Hz


def tone(seconds, frequency=1000, channels=2):
    """A full-scale sine [samples, channels]."""
    times = np.arange(int(seconds * SOUND_RATE)) / SOUND_RATE
    return np.repeat(np.sin(2 * np.pi * frequency * times)[:, None], channels, axis=1)


def make_video(path, levels, fps=25, sound=None, size=(WIDTH, HEIGHT), codec="flac", late=(0, 0), times=None):
    """Write a video whose frame j has the grey level `levels[j]`.

    late: seconds at which video and audio start; times: of each frame in seconds, instead of fps.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.repeat(np.asarray(levels, np.uint8), size[0] * size[1]).tobytes()
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{size[0]}x{size[1]}", "-r", str(fps)]
    inputs, maps = [*raw, "-i", "-"], ["-map", "0:v"]
    if sound is not None:
        soundfile.write(path.with_suffix(".wav"), sound, SOUND_RATE, subtype="FLOAT")
        inputs += ["-itsoffset", str(late[1]), "-i", f"file:{path.with_suffix('.wav')}"]
        maps += ["-map", "1:a", "-c:a", codec]
    clock = "PTS" if times is None else _table(times)
    maps += ["-vf", f"settb=1/1000,setpts='{clock}+{late[0]}/TB'", "-fps_mode", "passthrough"]
    coding = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "4", "-pix_fmt", "yuv420p"]
    run_ffmpeg([*inputs, *maps, *coding, f"file:{path}"], data=data)
    path.with_suffix(".wav").unlink(missing_ok=True)
    return path


def _table(times, first=0):
    """An ffmpeg expression for the time of frame N: a tree of comparisons."""
    if len(times) == 1:
        return str(round(times[0] * 1000))
    half = len(times) // 2
    earlier, later = _table(times[:half], first), _table(times[half:], first + half)
    return f"if(lt(N,{first + half}),{earlier},{later})"


def remux(source, path, *arguments):
    """Copy a video's tracks, with more ffmpeg arguments."""
    run_ffmpeg(["-i", f"file:{source}", "-c", "copy", *arguments, f"file:{path}"])
    return path


# Unusable videos: the ffmpeg arguments that make them from a good one, and part of the error.
BAD = {
    "no sound.mp4": (["-an"], "no readable audio track"),
    "no picture.mp4": (["-vn"], "no readable video track"),
    "bad sound.mp4": (["-bsf:a", "noise=amount=20"], "no readable audio track"),
    "bad picture.mp4": (["-bsf:v", "noise=amount=3"], "no readable video track"),
    "still.mp4": (["-frames:v", "1", "-an", "-f", "mjpeg", "-c:v", "mjpeg"], "cannot be read as a video"),
    "sound alone.mp4": (["-vn", "-c:a", "pcm_s16le", "-f", "wav"], "no readable video track"),
    "bare track.mp4": (["-an", "-f", "h264"], "cannot be read as a video"),
}
BAD_BYTES = {
    "empty.mov": b"",
    "text.webm": b"not found",
    "page.mp4": b"<!DOCTYPE html><html><body>Sign in to confirm your age</body></html>",
    "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "noise.mp4": np.random.default_rng(0).bytes(100_000),
    "zeros.mkv": bytes(100_000),
}


def parts_of(good):
    """Parts of good files: {name: (bytes, reason)}."""
    whole = good.read_bytes()
    front = remux(good, good.with_name("front.mp4"), "-movflags", "faststart").read_bytes()
    matroska = remux(good, good.with_name("whole.mkv")).read_bytes()
    return {
        "header alone.mp4": (whole[:2000], "cannot be read as a video"),
        "end missing.mp4": (front[: len(front) // 2], "truncated: only 1 s of 3 s can be read"),
        "no end.mkv": (matroska[: len(matroska) // 2], "truncated: only 1 s of 3 s can be read"),
        "zeroed.mp4": (front[: len(front) // 3] + bytes(len(front) * 2 // 3), "cannot be read as a video"),
    }


def make_bad(good, folder):
    """Write unusable videos of every kind: {name: part of the error}."""
    reasons = {name: reason for name, (_, reason) in BAD.items()}
    for name, (arguments, _) in BAD.items():
        remux(good, folder / name, *arguments)
    for name, data in BAD_BYTES.items():
        (folder / name).write_bytes(data)
        reasons[name] = "cannot be read as a video"
    for name, (data, reason) in parts_of(good).items():
        (folder / name).write_bytes(data)
        reasons[name] = reason
    (folder / "link.mp4").symlink_to("nothing")
    os.mkfifo(folder / "pipe.mp4")
    reasons |= dict.fromkeys(("link.mp4", "pipe.mp4"), "not a file, or a broken link")
    silent = make_video(folder / "no samples.mkv", [9] * 50, 25, np.zeros((1, 1)), codec="pcm_s16le")
    reasons[silent.name] = "the audio track is empty"
    return reasons
