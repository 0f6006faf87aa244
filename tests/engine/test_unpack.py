"""Unpacking videos and pictures with a sound: sizes, rates, channels, lengths, and bad input."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from dataset.preprocess.convert import count_frames
from engine.separation.unpack import unpack, write_copy
from media import run_ffmpeg
from tests.videos import make_bad, make_video, remux, tone
from utils import UserError

FPS, RATE = 8, 11025


def unpacked(path, tmp_path, **options):
    folder = tmp_path / "work"
    folder.mkdir()
    return unpack(str(path), str(folder), FPS, RATE, **options)


def with_sound(path, rate, channels, seconds=1):
    """A video with a given rate and number of channels, each channel at its own loudness."""
    pictures = make_video(path.with_suffix(".mp4"), [100] * 25 * seconds)
    wave = np.sin(np.arange(rate * seconds) / 10)[:, None] * np.linspace(0.2, 0.5, channels)
    soundfile.write(path.with_suffix(".wav"), wave, rate)
    run_ffmpeg(["-i", str(pictures), "-i", str(path.with_suffix(".wav")), "-c", "copy", str(path)])
    return path


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (96000, 6)])
def test_its_own_sound_is_kept(tmp_path, rate, channels):
    found = unpacked(with_sound(tmp_path / "a.mkv", rate, channels), tmp_path)
    own, other = soundfile.info(found.own_sound), soundfile.info(found.sound)
    assert (own.samplerate, own.channels) == (rate, channels)
    assert (other.samplerate, other.channels) == (RATE, 1)
    assert own.frames == rate
    assert other.frames == pytest.approx(RATE, abs=2)
    original = soundfile.read(tmp_path / "a.wav")[0]
    np.testing.assert_allclose(soundfile.read(found.own_sound)[0], original, atol=2 / 32768)
    assert found.num_frames == count_frames(found.frames) == FPS
    assert found.seconds == pytest.approx(1, abs=1e-3)
    assert found.size == (64, 48)


def test_another_rate_may_be_asked_for(good_video, tmp_path):
    own = soundfile.info(unpacked(good_video, tmp_path, own_rate=RATE).own_sound)
    assert (own.samplerate, own.channels) == (RATE, 2)


@pytest.mark.parametrize(
    ("arguments", "size"), [(["-aspect", "8:3"], (128, 48)), (["-aspect", "2:3"], (64, 96))]
)
def test_size_has_square_pixels(good_video, tmp_path, arguments, size):
    found = unpacked(remux(good_video, tmp_path / "a.mp4", *arguments), tmp_path)
    assert found.size == size
    with Image.open(f"{found.frames}/000001.jpg") as picture:
        assert picture.width / picture.height == pytest.approx(size[0] / size[1], rel=0.05)


def test_turned_videos_are_upright(good_video, tmp_path):
    source = tmp_path / "turned.mp4"
    run_ffmpeg(["-display_rotation", "90", "-i", str(good_video), "-c", "copy", str(source)])
    found = unpacked(source, tmp_path)
    assert found.size == (48, 64)
    write_copy(found.video, str(tmp_path / "copy.mp4"), found.seconds)
    assert picture_size(tmp_path / "copy.mp4") == (48, 64)


def picture_size(path):
    """(width, height) of a video's first frame, as stored."""
    run_ffmpeg(["-noautorotate", "-i", str(path), "-frames:v", "1", f"{path}.png"])
    with Image.open(f"{path}.png") as picture:
        return picture.size


def test_a_gap_before_the_sound_is_kept(tmp_path):
    video = make_video(tmp_path / "late.mkv", [100] * 50, sound=tone(1), late=(0, 1))
    found = unpacked(video, tmp_path)
    for path, rate in ((found.sound, RATE), (found.own_sound, 44100)):
        wave = soundfile.read(path, always_2d=True)[0]
        assert len(wave) / rate == pytest.approx(2, abs=0.05)
        assert not wave[: rate * 9 // 10].any()
        assert wave[rate * 11 // 10 :].std() > 0.5


def test_the_shorter_of_pictures_and_sound_counts(tmp_path):
    found = unpacked(make_video(tmp_path / "a.mkv", [100] * 25, sound=tone(3)), tmp_path)
    assert found.seconds == pytest.approx(1, abs=0.01)
    assert found.num_frames == FPS
    assert soundfile.info(found.own_sound).frames == pytest.approx(44100, abs=50)


def test_copies_are_small_and_of_even_size(tmp_path):
    levels = np.linspace(0, 255, 10)
    wide = make_video(tmp_path / "wide.mkv", levels, 10, tone(1), size=(1920, 1080))
    odd = make_video(tmp_path / "odd.mkv", levels, 10, tone(1, channels=1), size=(62, 34))
    for source, size in ((wide, (854, 480)), (odd, (62, 34))):
        copy = tmp_path / f"{source.stem} copy.mp4"
        write_copy(str(source), str(copy), 1.0)
        assert picture_size(copy) == size
        run_ffmpeg(["-i", str(copy), "-map", "0:a", f"{copy}.wav"])
        assert soundfile.info(f"{copy}.wav").duration == pytest.approx(1, abs=0.1)


def make_picture(path, size=(50, 30), turned=False):
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1  # orientation
    Image.new("RGB", size, (200, 30, 30)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(("turned", "size"), [(False, (4001, 3000)), (True, (3000, 4001))])
def test_a_picture_with_a_sound(tmp_path, turned, size):
    picture = make_picture(tmp_path / "a b.jpg", (4001, 3000), turned)
    soundfile.write(tmp_path / "a.wav", tone(2) * 0.5, 44100)
    found = unpacked(picture, tmp_path, path_sound=str(tmp_path / "a.wav"))
    assert found.size == size
    assert found.seconds == pytest.approx(2, abs=0.01)
    assert found.num_frames == 2 * FPS
    own, rate = soundfile.read(found.own_sound)
    assert (rate, own.shape) == (44100, (88200, 2))
    np.testing.assert_allclose(own, tone(2) * 0.5, atol=2 / 32768)
    with Image.open(f"{found.frames}/000016.jpg") as last:
        np.testing.assert_allclose(last.getpixel((5, 5)), (200, 30, 30), atol=8)
        assert (last.width > last.height) == (size[0] > size[1])
    write_copy(found.video, str(tmp_path / "copy.mp4"), found.seconds)


def test_the_sound_of_a_picture_may_be_a_videos(good_video, tmp_path):
    found = unpacked(make_picture(tmp_path / "a.png"), tmp_path, path_sound=str(good_video))
    assert found.seconds == pytest.approx(3, abs=0.1)


def test_pictures_without_a_sound_are_refused(good_video, tmp_path):
    picture = str(make_picture(tmp_path / "a.png"))
    (tmp_path / "text.wav").write_text("no sound")
    for path, sound, reason in (
        (picture, None, "needs a sound to go with it: --audio FILE"),
        (picture, "gone.wav", "gone.wav: no such file"),
        (picture, str(tmp_path / "text.wav"), "text.wav: no readable audio"),
        (picture, picture, "a.png: no readable audio"),
        (str(tmp_path / "b.png"), str(good_video), "no such file"),
        (str(good_video), str(good_video), "good.mp4: cannot be read as a picture"),
    ):
        with pytest.raises(UserError, match=reason):
            unpack(path, str(tmp_path), FPS, RATE, path_sound=sound)


def test_what_cannot_be_used_is_refused_in_words(good_video, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for number, (name, reason) in enumerate(make_bad(good_video, videos).items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(UserError) as error:
            unpack(str(videos / name), str(folder), FPS, RATE)
        assert reason in str(error.value), name
