"""Videos -> frames and sounds, on videos that the tests make."""

import os
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

import create_index_files
from dataset import preprocess
from dataset.index import read_index
from dataset.preprocess import FPS, RATE, convert, convert_all
from utils import UserError, run_ffmpeg

WIDTH, HEIGHT = 64, 48  # pixels
SOUND_RATE = 44100  # Hz
BLACK, STEP = 16, 3  # grey levels: of the first picture, and between two


def tone(seconds, frequency=1000, channels=2):
    """A full-scale sine [samples, channels]."""
    times = np.arange(int(seconds * SOUND_RATE)) / SOUND_RATE
    return np.repeat(np.sin(2 * np.pi * frequency * times)[:, None], channels, axis=1)


def make_video(path, levels, fps, sound=None, size=(WIDTH, HEIGHT), codec="flac", late=("0", "0")):
    """A video whose picture j is of grey `levels[j]`; late: seconds at which pictures and sound begin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.repeat(np.asarray(levels, np.uint8), size[0] * size[1]).tobytes()
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{size[0]}x{size[1]}", "-r", str(fps)]
    inputs, maps = [*raw, "-i", "-"], ["-map", "0:v"]
    if sound is not None:
        soundfile.write(path.with_suffix(".wav"), sound, SOUND_RATE, subtype="FLOAT")
        inputs += ["-itsoffset", late[1], "-i", f"file:{path.with_suffix('.wav')}"]
        maps += ["-map", "1:a", "-c:a", codec]
    maps += ["-vf", f"setpts=PTS+{late[0]}/TB", "-fps_mode", "passthrough"]
    coding = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "4", "-pix_fmt", "yuv420p"]
    run_ffmpeg([*inputs, *maps, *coding, f"file:{path}"], data=data)
    path.with_suffix(".wav").unlink(missing_ok=True)
    return path


def converted(path, out, **options):
    """Grey level of each picture, and the sound (samples, rate)."""
    convert(path, out / "frames", out / "sound.wav", **options)
    names = sorted(os.listdir(out / "frames"))
    assert names == [f"{number:06d}.jpg" for number in range(1, len(names) + 1)]
    levels = [np.asarray(Image.open(out / "frames" / name).convert("L")).mean() for name in names]
    return np.array(levels), *soundfile.read(out / "sound.wav")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Three seconds of grey with a tone."""
    return make_video(tmp_path_factory.mktemp("good") / "good.mp4", [100] * 75, 25, tone(3), codec="aac")


@pytest.mark.parametrize("fps", [5, 24, 25, 30])
def test_picture_k_is_what_is_on_screen_at_its_time(tmp_path, fps):
    num = min(3 * fps, 75)
    video = make_video(tmp_path / "a.mkv", BLACK + STEP * np.arange(num), fps, tone(num / fps))
    levels, _, _ = converted(video, tmp_path)
    assert abs(len(levels) - num / fps * FPS) <= 1
    shown = np.round((levels - BLACK) / STEP) / fps  # seconds
    wanted = (np.arange(1, len(levels) + 1) - 0.5) / FPS
    wait = (wanted - shown)[wanted < num / fps]
    assert wait.min() >= 0
    assert wait.max() < 1 / fps


def test_a_flash_and_a_click_stay_together(tmp_path):
    sound = np.zeros((4 * SOUND_RATE, 2))
    sound[2 * SOUND_RATE] = 1
    levels = np.where(np.arange(100) < 50, 30, 220)
    levels, wave, rate = converted(make_video(tmp_path / "a.mp4", levels, 25, sound, codec="aac"), tmp_path)
    assert levels.argmax() + 1 >= 17  # (17 - 0.5) / 8 is the first after 2 s
    assert levels[15] < 50
    assert levels[16] > 200
    assert abs(np.abs(wave).argmax() / rate - 2) < 0.002


@pytest.mark.parametrize("late", [("0", "1"), ("1", "0")])
def test_a_track_that_begins_late_stays_in_its_place(tmp_path, late):
    sound = np.zeros((3 * SOUND_RATE, 2))
    sound[SOUND_RATE // 2] = 1
    video = make_video(tmp_path / "a.mkv", [30] * 25 + [220] * 50, 25, sound, late=late)
    levels, wave, rate = converted(video, tmp_path)
    flash = 1 + float(late[0])  # seconds
    assert levels[int(flash * FPS) - 1] < 50
    assert levels[int(flash * FPS)] > 200
    assert abs(np.abs(wave).argmax() / rate - 0.5 - float(late[1])) < 0.002


@pytest.mark.parametrize("codec", ["flac", "libopus"])
def test_level_and_pitch_of_a_full_scale_tone_are_kept(tmp_path, codec):
    _, wave, rate = converted(make_video(tmp_path / "a.mkv", [9] * 75, 25, tone(3), codec=codec), tmp_path)
    assert (rate, wave.ndim) == (RATE, 1)
    assert abs(len(wave) / rate - 3) < 0.05
    middle = wave[rate // 2 : rate // 2 + 2 * rate]
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(1, abs=0.02)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() / 2 == pytest.approx(1000, abs=0.5)


def test_channels_are_averaged(tmp_path):
    sound = tone(2) * [1, 0]
    _, wave, rate = converted(make_video(tmp_path / "a.mkv", [9] * 50, 25, sound), tmp_path)
    assert np.sqrt(2 * np.mean(wave[rate // 2 : rate] ** 2)) == pytest.approx(0.5, abs=0.01)


def test_sound_file_is_16_bit(good, tmp_path):
    converted(good, tmp_path)
    assert soundfile.info(tmp_path / "sound.wav").subtype == "PCM_16"


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [((64, 48), 24, (32, 24)), ((48, 64), 24, (24, 32)), ((64, 48), 0, (64, 48)), ((64, 48), 99, (64, 48))],
)
def test_shorter_side_is_reduced_and_never_enlarged(tmp_path, size, short_side, expected):
    video = make_video(tmp_path / "a.mkv", [9] * 25, 25, tone(1), size)
    converted(video, tmp_path, short_side=short_side)
    assert Image.open(tmp_path / "frames/000001.jpg").size == expected


def test_other_rates_are_made(good, tmp_path):
    levels, wave, rate = converted(good, tmp_path, fps=4, rate=16000)
    assert len(levels) == 12
    assert rate == 16000
    assert abs(len(wave) - 48000) < 800


def test_tree_is_mirrored_whatever_the_names(good, tmp_path):
    names = [
        "-dash.mp4",
        "a b, c.MP4",
        "q\"u'o`te.mp4",
        "ümläut 音.mkv",
        "100%d %.mp4",
        "co:lon.mp4",
        "x/y/z.mp4",
    ]
    for name in names:
        path = tmp_path / "videos" / "steel drum" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(good, path)
    shutil.copy(good, tmp_path / "videos" / "no category.mp4")
    (tmp_path / "videos" / "notes.txt").touch()
    (tmp_path / "videos" / "._hidden.mp4").touch()
    made = convert_all(tmp_path / "videos", tmp_path / "o%d", jobs=2)
    assert made == (8, 0, [])
    for name in [f"steel drum/{name}" for name in names] + ["no category.mp4"]:
        assert len(os.listdir(tmp_path / "o%d/frames" / name)) == 3 * FPS
        assert (tmp_path / "o%d/audio" / name).with_suffix(".wav").stat().st_size > 2 * 2.9 * RATE


def damaged(good, folder):
    """Videos of every kind that cannot be used: {name: part of the reason}."""
    source = f"file:{good}"
    run_ffmpeg(["-i", source, "-an", "-c", "copy", f"{folder}/no sound.mp4"])
    run_ffmpeg(["-i", source, "-vn", "-c", "copy", f"{folder}/no picture.mp4"])
    run_ffmpeg(["-i", source, "-c", "copy", "-bsf:a", "noise=amount=20", f"{folder}/bad sound.mp4"])
    (folder / "cut.mp4").write_bytes(good.read_bytes()[:2000])
    (folder / "text.webm").write_text("not found")
    (folder / "empty.mov").touch()
    return {
        "bad sound.mp4": "no sound",
        "cut.mp4": "cannot be read as a video",
        "empty.mov": "cannot be read as a video",
        "no picture.mp4": "no picture",
        "no sound.mp4": "no sound",
        "text.webm": "cannot be read as a video",
    }


def test_failures_are_named_and_the_others_go_on(good, tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    reasons = damaged(good, tmp_path / "videos")
    shutil.copy(good, tmp_path / "videos/good.mp4")
    status = preprocess.main([f"--videos={tmp_path}/videos", f"--out={tmp_path}", "--jobs=2"])
    out, err = capsys.readouterr()
    assert status == 1
    lines = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == len(reasons)
    for line, (name, reason) in zip(lines, sorted(reasons.items()), strict=True):
        assert line.startswith(f"failed: {name}: {reason}")
    assert out.splitlines()[-1] == "7 videos: 1 made, 0 already there, 6 failed"
    assert os.listdir(tmp_path / "frames") == ["good.mp4"]
    assert os.listdir(tmp_path / "audio") == ["good.wav"]


def test_second_run_makes_only_what_is_missing(good, tmp_path):
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(good, tmp_path / "videos" / name)
    options = {"root": tmp_path / "videos", "out": tmp_path, "jobs": 2}
    assert convert_all(**options) == (2, 0, [])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()}
    (tmp_path / "audio/a.wav").unlink()
    assert convert_all(**options) == (1, 1, [])
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()}
    assert {path for path in after if after[path] != before[path]} == {tmp_path / "audio/a.wav"}
    assert convert_all(**options) == (0, 2, [])


def test_interrupted_work_leaves_nothing(good, tmp_path, monkeypatch):
    def interrupted(arguments, **_):
        (folder,) = (tmp_path / "frames").iterdir()
        (folder / "000001.jpg").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(preprocess, "run_ffmpeg", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(good, tmp_path / "frames/a.mp4", tmp_path / "audio/a.wav")
    assert os.listdir(tmp_path / "frames") == os.listdir(tmp_path / "audio") == []


def test_two_videos_of_one_id_are_not_mixed_up(good, tmp_path):
    for suffix in (".mp4", ".webm"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        shutil.copy(good, tmp_path / f"videos/a{suffix}")
    made, kept, failures = convert_all(tmp_path / "videos", tmp_path, jobs=1)
    assert (made, kept) == (1, 0)
    assert failures == ["a.webm: a.mp4 has the same id: rename or remove one of them"]


def test_folder_that_cannot_be_written_is_a_failure(good, tmp_path):
    (tmp_path / "frames").touch()
    made, _, (failure,) = convert_all(good.parent, tmp_path, jobs=1)
    assert made == 0
    assert failure.startswith("good.mp4: ")


def test_no_videos_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no videos under"):
        convert_all(tmp_path, tmp_path, jobs=1)
    with pytest.raises(UserError, match="no folder"):
        convert_all(tmp_path / "none", tmp_path, jobs=1)


@pytest.mark.parametrize("flag", ["--fps=0", "--rate=x", "--short_side=-1", "--jobs=0"])
def test_flags_out_of_range_are_refused(flag, capsys):
    with pytest.raises(SystemExit):
        preprocess.main([flag])
    assert flag.split("=")[0] in capsys.readouterr().err


def test_what_is_made_can_be_indexed(good, tmp_path):
    for name in ("flute/a.mp4", "flute/b.mp4"):
        (tmp_path / "videos/flute").mkdir(parents=True, exist_ok=True)
        shutil.copy(good, tmp_path / "videos" / name)
    assert preprocess.main([f"--videos={tmp_path}/videos", f"--out={tmp_path}"]) == 0
    roots = [f"--root_audio={tmp_path}/audio", f"--root_frame={tmp_path}/frames"]
    create_index_files.main([*roots, f"--path_output={tmp_path}", "--min_seconds=3"])
    (clip,) = read_index(tmp_path / "val.csv")
    assert clip.num_frames == 3 * FPS
