"""Convert single videos, which the tests make, to frames and audio."""

import os

import numpy as np
import pytest
import soundfile
from PIL import Image

import limits
from dataset.audio import read_window
from dataset.frames import OVERSIZE
from dataset.music import Sampling
from dataset.preprocess import convert as module
from dataset.preprocess.convert import SHORT_SIDE, Settings, convert
from media import run_ffmpeg
from tests.videos import HEIGHT, SOUND_RATE, WIDTH, make_bad, make_video, remux, tone
from utils import UserError

FPS, RATE = Settings().fps, Settings().rate
BLACK, STEP = 16, 3  # grey levels: of the first frame, and between two
FLASH = 0.2  # seconds


def converted(path, out, **options):
    """The grey level of each frame, and the audio (samples, rate)."""
    convert(path, out / "frames", out / "sound.wav", out, Settings(**options))
    names = sorted(name for name in os.listdir(out / "frames") if name.endswith(".jpg"))
    assert names == [f"{number:06d}.jpg" for number in range(1, len(names) + 1)]
    levels = [np.asarray(Image.open(out / "frames" / name).convert("L")).mean() for name in names]
    return np.array(levels), *soundfile.read(out / "sound.wav")


@pytest.mark.parametrize("fps", [5, 24, 25, 30])
def test_frame_k_is_the_last_of_its_eighth_of_a_second(tmp_path, fps):
    num = min(3 * fps, 75)
    video = make_video(tmp_path / "a.mkv", BLACK + STEP * np.arange(num), fps, tone(num / fps))
    levels, _, _ = converted(video, tmp_path)
    assert abs(len(levels) - num / fps * FPS) <= 1
    shown = np.round((levels - BLACK) / STEP) / fps  # seconds
    wait = np.arange(1, len(levels) + 1) / FPS - shown
    assert wait.min() > 0
    assert wait.max() < 1 / fps + 0.001  # the container's timestamps are in milliseconds


def test_number_of_frames_and_samples(good_video, tmp_path):
    levels, wave, rate = converted(good_video, tmp_path)
    assert len(levels) == 3 * FPS
    assert rate == RATE
    assert abs(len(wave) - 3 * RATE) < 0.05 * RATE


EVENTS = np.array([0.83, 1.59, 2.41, 3.3, 4.17, 4.9])  # seconds, at different phases of an eighth
CLOCKS = {
    "25 fps": np.arange(0, 6, 1 / 25),
    "29.97 fps": np.arange(0, 6, 1001 / 30000),
    "variable rate": np.unique(np.round(np.cumsum(np.random.default_rng(3).uniform(0.01, 0.09, 110)), 3)),
}
LATE = {"together": (0, 0), "sound late": (0, 0.7), "picture late": (0.7, 0)}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("clock", CLOCKS)
def test_flashes_and_clicks_stay_together(tmp_path, clock, late, suffix):
    begin = LATE[late]
    # Each flash starts with a frame, and its click at the same moment.
    times = np.union1d(CLOCKS[clock], (EVENTS - begin[0]) if clock == "variable rate" else [])
    on = times[[np.argmin(np.abs(times - (event - begin[0]))) for event in EVENTS]]
    bright = ((times[:, None] >= on - 1e-6) & (times[:, None] < on + FLASH - 1e-6)).any(axis=1)
    sound = np.zeros((int(6.2 * SOUND_RATE), 2))
    for start in np.round((on + begin[0] - begin[1]) * SOUND_RATE).astype(int):
        sound[start : start + 8] = 0.9
    video = make_video(tmp_path / f"a{suffix}", np.where(bright, 220, 30), 25, sound, late=begin, times=times)
    levels, _, _ = converted(video, tmp_path)
    flashes = np.flatnonzero((levels > 125) & (np.append(0, levels[:-1]) < 125)) + 1  # frame numbers
    assert len(flashes) == len(EVENTS)
    for number, event in zip(flashes, on + begin[0], strict=True):
        seconds = (number - 0.5) / FPS
        window = read_window(tmp_path / "sound.wav", seconds, RATE // 4, RATE)  # as dataset.music pairs them
        click = (np.abs(window).argmax() - RATE // 8) / RATE  # after the frame's time
        assert abs(seconds + click - event) < 0.005
        assert abs(click) <= 0.5 / FPS + 0.001


@pytest.mark.parametrize("codec", ["flac", "libopus"])
def test_level_and_pitch_of_a_full_scale_tone_are_kept(tmp_path, codec):
    _, wave, rate = converted(make_video(tmp_path / "a.mkv", [9] * 75, 25, tone(3), codec=codec), tmp_path)
    assert (rate, wave.ndim) == (RATE, 1)
    assert abs(len(wave) / rate - 3) < 0.05
    middle = wave[rate // 2 : rate // 2 + 2 * rate]
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(1, abs=0.02)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() / 2 == pytest.approx(1000, abs=0.5)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path, channels):
    sound = tone(2, channels=channels) * np.eye(channels)[0]
    _, wave, rate = converted(make_video(tmp_path / "a.mkv", [9] * 50, 25, sound), tmp_path)
    assert np.sqrt(2 * np.mean(wave[rate // 2 : rate] ** 2)) == pytest.approx(1 / channels, abs=0.01)


def test_sound_file_is_16_bit(good_video, tmp_path):
    converted(good_video, tmp_path)
    assert soundfile.info(tmp_path / "sound.wav").subtype == "PCM_16"


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((64, 48), 24, (32, 24)),
        ((48, 64), 24, (24, 32)),
        ((64, 48), 0, (64, 48)),
        ((64, 48), 99, (64, 48)),
        ((66, 50), 25, (33, 25)),
        ((400, 2), 256, (400, 2)),
        ((2, 2), 1, (1, 1)),
    ],
)
def test_shorter_side_is_reduced_and_never_enlarged(tmp_path, size, short_side, expected):
    converted(make_video(tmp_path / "a.mkv", [9] * 25, 25, tone(1), size), tmp_path, short_side=short_side)
    assert Image.open(tmp_path / "frames/000001.jpg").size == expected


def test_frames_are_as_large_as_the_recipe_needs_them():
    assert int(OVERSIZE * Sampling().img_size) == SHORT_SIDE


@pytest.mark.parametrize(("ratio", "expected"), [("2/1", (64, 24)), ("1/2", (32, 48)), ("0", (64, 48))])
def test_pixels_become_square(tmp_path, ratio, expected):
    video = make_video(tmp_path / "a.mp4", [9] * 25, 25, tone(1))
    wide = remux(video, tmp_path / "b.mp4", "-bsf:v", f"h264_metadata=sample_aspect_ratio={ratio}")
    converted(wide, tmp_path)
    assert Image.open(tmp_path / "frames/000001.jpg").size == expected


def test_a_rotated_video_stands_upright(good_video, tmp_path):
    run_ffmpeg(["-display_rotation", "90", "-i", str(good_video), "-c", "copy", f"{tmp_path}/turned.mp4"])
    converted(tmp_path / "turned.mp4", tmp_path)
    assert Image.open(tmp_path / "frames/000001.jpg").size == (HEIGHT, WIDTH)


@pytest.mark.parametrize("pixels", ["yuv444p", "yuv420p10le", "gray", "yuva420p", "rgb24"])
def test_other_pixel_formats_keep_their_brightness(tmp_path, pixels):
    video = make_video(tmp_path / "a.mkv", [100] * 25, 25, tone(1))
    run_ffmpeg(["-i", str(video), "-pix_fmt", pixels, "-c:v", "ffv1", "-c:a", "copy", f"{tmp_path}/b.mkv"])
    levels, _, _ = converted(tmp_path / "b.mkv", tmp_path)
    assert np.abs(levels - 100).max() < 2


def test_a_frame_size_that_changes_midway_shifts_nothing(tmp_path):
    parts = [
        make_video(tmp_path / "1.ts", [30] * 50, 25, tone(2), codec="aac"),
        make_video(tmp_path / "2.ts", [220] * 50, 25, tone(2), size=(96, 80), codec="aac"),
    ]
    joined = tmp_path / "joined.mkv"
    run_ffmpeg(["-i", f"concat:{parts[0]}|{parts[1]}", "-c", "copy", str(joined)])
    levels, _, _ = converted(joined, tmp_path)
    assert len(levels) == pytest.approx(4 * FPS, abs=1)
    assert levels[: 2 * FPS - 1].max() < 50
    assert levels[2 * FPS + 1 :].min() > 200


def test_cover_art_is_not_the_video_and_the_first_sound_is_taken(good_video, tmp_path):
    Image.new("RGB", (200, 200), "white").save(tmp_path / "cover.jpg")
    sound = make_video(tmp_path / "silent.mkv", [9] * 25, 25, 0 * tone(3))
    inputs = ["-i", f"{tmp_path}/cover.jpg", "-i", str(good_video), "-i", str(sound)]
    maps = ["-map", "0:v", "-map", "1:v", "-map", "1:a", "-map", "2:a"]
    run_ffmpeg([*inputs, *maps, "-c", "copy", "-disposition:v:0", "attached_pic", f"{tmp_path}/a.mp4"])
    levels, wave, _ = converted(tmp_path / "a.mp4", tmp_path)
    assert Image.open(tmp_path / "frames/000001.jpg").size == (WIDTH, HEIGHT)
    assert np.abs(levels - 100).max() < 2
    assert np.abs(wave).max() > 0.9


def test_other_rates_are_made(good_video, tmp_path):
    levels, wave, rate = converted(good_video, tmp_path, fps=4, rate=16000)
    assert len(levels) == 12
    assert rate == 16000
    assert abs(len(wave) - 48000) < 800


@pytest.mark.parametrize(("pictures", "sound"), [(3, 2), (2, 3)])
def test_the_longer_of_frames_and_audio_is_trimmed(tmp_path, pictures, sound):
    video = make_video(tmp_path / "a.mkv", [9] * 25 * pictures, 25, tone(sound))
    result = convert(video, tmp_path / "frames", tmp_path / "sound.wav", tmp_path)
    assert result.num_frames == pytest.approx(2 * FPS, abs=1)
    assert result.seconds == pytest.approx(2, abs=0.1)
    assert result.note == f"frames for {pictures}.0 s, audio for {sound}.0 s: the longer was trimmed"
    again = convert(video, tmp_path / "frames", tmp_path / "sound.wav", tmp_path)
    assert again == result._replace(made=False)


def test_unusable_videos_are_reported_and_leave_no_files(good_video, tmp_path):
    reasons = make_bad(good_video, tmp_path)
    (tmp_path / "work").mkdir()
    for name, reason in reasons.items():
        with pytest.raises(UserError) as error:
            convert(tmp_path / name, tmp_path / "frames", tmp_path / "sound.wav", tmp_path / "work")
        assert reason in str(error.value), name
    assert not (tmp_path / "frames").exists()
    assert not (tmp_path / "sound.wav").exists()
    assert os.listdir(tmp_path / "work") == []


def test_timestamps_that_jump_are_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_SECONDS", 20)
    times = np.append(np.arange(50) / 25, 100 + np.arange(50) / 25)
    video = make_video(tmp_path / "a.mkv", [9] * 100, 25, tone(4), times=times)
    with pytest.raises(UserError, match="or its timestamps are broken"):
        converted(video, tmp_path)


def test_interrupted_work_leaves_no_files(good_video, tmp_path, monkeypatch):
    def interrupted(arguments, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_ffmpeg", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(good_video, tmp_path / "frames/a.mp4", tmp_path / "audio/a.wav", tmp_path)
    assert os.listdir(tmp_path) == []


def test_an_empty_existing_output_is_an_error(good_video, tmp_path):
    (tmp_path / "sound.wav").touch()
    with pytest.raises(UserError, match=r"sound.wav: already exists and is empty"):
        converted(good_video, tmp_path)
    assert (tmp_path / "sound.wav").stat().st_size == 0
