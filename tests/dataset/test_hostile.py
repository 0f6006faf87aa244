"""Files from others: pipes, playlists, sizes and lengths that must be refused before anything is decoded."""

import logging
import os
import re
import socket
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image

import create_index_files
import limits
from dataset.audio import read_window, sound_seconds
from dataset.download.video_list import Collection, Video
from dataset.frames import open_picture, read_pixels
from dataset.index import find_videos
from dataset.preprocess import convert as module
from dataset.preprocess.convert import check_video, convert
from dataset.preprocess.probe import read_header
from media import media_input, run_ffmpeg
from tests.helpers import PROJECT, keys, make_clip
from tests.videos import make_video, remux, tone
from utils import UserError

RATE = 11025  # samples/s
NOT_REGULAR = "not a regular file"
PLAYLISTS = {
    "dash": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT3S" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{secret}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "absolute concat": "ffconcat version 1.0\nfile '{secret}'\n",
    "relative concat": "ffconcat version 1.0\nfile secret.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\nm=video 9 RTP/AVP 96\nc=IN IP4 127.0.0.1\na=rtpmap:96 H264/90000\n",
}


@pytest.fixture
def specials(tmp_path):
    """Files that are none: their paths."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    return [str(tmp_path / "pipe"), str(tmp_path / "socket"), "/dev/zero"]


@pytest.mark.parametrize(
    "read", [lambda path: read_window(path, 0, 100, RATE), sound_seconds, lambda path: read_pixels(path, 32)]
)
def test_pipes_sockets_and_devices_are_refused_before_they_are_opened(specials, read):
    for path in specials:
        with pytest.raises(UserError, match=f"{path}: cannot be read as .*: {NOT_REGULAR}"):
            read(path)


def test_ffmpeg_gets_regular_files_only(specials, tmp_path):
    for path in specials:
        with pytest.raises(UserError, match=f"{path}: {NOT_REGULAR}"):
            media_input(path)
    with pytest.raises(UserError, match=r"gone\.mp4: No such file"):
        media_input(tmp_path / "gone.mp4")


def test_a_pipe_among_the_sounds_is_left_out_of_the_index(tmp_path, capsys):
    for key in keys(flute=4, tuba=4):
        make_clip(tmp_path, key)
    sound = tmp_path / "audio" / f"{keys(tuba=1)[0]}.wav"
    sound.unlink()
    os.mkfifo(sound)
    flags = [f"--root_audio={tmp_path}/audio", f"--root_frame={tmp_path}/frames", f"--path_output={tmp_path}"]
    create_index_files.main(flags)
    assert f"sound cannot be read: {sound}" in capsys.readouterr().err


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch, caplog, good_video):
    for name in ("open", "closed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(good_video.read_bytes())
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with caplog.at_level(logging.WARNING):
        assert find_videos(tmp_path) == ["open/a.mp4"]
    assert caplog.messages == [f"left out: {tmp_path}/closed: Permission denied"]


# ---- playlists


@pytest.fixture(params=PLAYLISTS, ids=lambda name: name.replace(" ", "_"))
def playlist(request, tmp_path, good_video):
    """A playlist named like a video, of a file of somebody else."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(good_video.read_bytes())
    path = tmp_path / "x.mp4"
    path.write_text(PLAYLISTS[request.param].format(secret=secret))
    return path


def test_a_playlist_named_like_a_video_opens_no_other_file(playlist, tmp_path):
    (tmp_path / "work").mkdir()
    with pytest.raises(UserError, match="cannot be read as a video"):
        convert(playlist, tmp_path / "frames", tmp_path / "sound.wav", tmp_path / "work")
    with pytest.raises(UserError, match="cannot be read as a video"):
        check_video(playlist)
    assert not (tmp_path / "frames").exists()


def test_a_playlist_from_a_server_is_not_kept(playlist, tmp_path):
    with (
        Collection(tmp_path / "videos") as collection,
        pytest.raises(UserError, match="cannot be read as a video"),
    ):
        collection.place(Video("flute", "aaaaaaaaaaa"), playlist)
    assert not list((tmp_path / "videos").rglob("*.mp4"))


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm", "mov", "avi", "m4v", "ts", "flv"])
def test_known_containers_are_read(good_video, tmp_path, container):
    coding = ["-c:v", "libvpx", "-c:a", "libvorbis"] if container == "webm" else []
    path = remux(good_video, tmp_path / f"a.{container}", *coding)
    check_video(path)
    assert read_header(path) == pytest.approx(3, abs=0.3)


# ---- sizes and lengths by the header


def refused_unread(path, tmp_path, monkeypatch):
    """Why a video is refused; decoding it fails the test."""
    monkeypatch.setattr(module, "_run", lambda *_: pytest.fail("decoded"))
    (tmp_path / "work").mkdir()
    with pytest.raises(UserError) as caught:
        convert(path, tmp_path / "frames", tmp_path / "sound.wav", tmp_path / "work")
    with pytest.raises(UserError, match=re.escape(str(caught.value))):
        check_video(path)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_jump_of_25_hours_is_refused_before_decoding(tmp_path, monkeypatch, suffix):
    times = [*(np.arange(50) / 25), 25 * 3600]
    path = make_video(tmp_path / f"a.{suffix}", [9] * 51, 25, tone(2), times=times)
    assert path.stat().st_size < 1e6
    assert "longer than 4 hours" in refused_unread(path, tmp_path, monkeypatch)


def test_outputs_end_soon_after_the_packets(good_video, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SLACK", (1, 0))
    monkeypatch.setattr(module, "read_header", lambda *_: 1.0)  # whose timestamps jump there and back
    (tmp_path / "work").mkdir()
    with pytest.raises(UserError, match="longer than 1 s, which its packets do not fill"):
        convert(good_video, tmp_path / "frames", tmp_path / "sound.wav", tmp_path / "work")


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("MAX_PIXELS", 64 * 48 - 1, r"64 × 48 pixels, expected at most 3071 \(SOP_MAX_PIXELS\)"),
        ("MAX_FPS", 24, r"25 frames/s, expected at most 24 \(SOP_MAX_FPS\)"),
        ("MAX_RATE", 44099, r"44100 samples/s, expected at most 44099 \(SOP_MAX_RATE\)"),
        ("MAX_SECONDS", 2, r"longer than 0.000555556 hours \(SOP_MAX_SECONDS\)"),
    ],
)
def test_videos_are_measured_by_their_header(good_video, tmp_path, monkeypatch, limit, value, words):
    monkeypatch.setattr(limits, limit, value)
    assert re.search(words, refused_unread(good_video, tmp_path, monkeypatch))


def test_channels_of_a_video_are_counted_by_its_header(tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mkv", [9] * 25, 25, tone(1, channels=40), codec="pcm_s16le")
    assert "40 channels, expected at most 32" in refused_unread(path, tmp_path, monkeypatch)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_pictures_are_measured_by_their_header(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (300, 200)).save(path)
    monkeypatch.setattr(limits, "MAX_PIXELS", 60_000)
    assert open_picture(path).size == (300, 200)
    assert read_pixels(path, 100)[1] == (100, 150)
    monkeypatch.setattr(limits, "MAX_PIXELS", 59_999)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    for read in (open_picture, lambda path: read_pixels(path, 100)):
        with pytest.raises(UserError, match="300 × 200 pixels, expected at most 59999"):
            read(path)


@pytest.mark.parametrize(
    ("channels", "rate", "words"), [(33, 8000, "33 channels, expected at most 32"), (1, 400_000, "samples/s")]
)
def test_sounds_are_measured_by_their_header(tmp_path, channels, rate, words):
    soundfile.write(tmp_path / "a.wav", np.zeros((100, channels)), rate)
    with pytest.raises(UserError, match=words):
        read_window(tmp_path / "a.wav", 0, 100, RATE)


def test_a_sound_without_a_length_is_decoded_up_to_a_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.mp3"
    run_ffmpeg(["-f", "lavfi", "-i", "sine=duration=3", "-write_xing", "0", str(path)])
    assert sound_seconds(path) == pytest.approx(3, abs=0.1)
    monkeypatch.setattr(limits, "FFMPEG_PIPE_BYTES", 50_000)
    with pytest.raises(UserError, match="has no length and is too long to be decoded"):
        sound_seconds(path)


# ---- processes


def test_ffmpeg_has_limits_of_its_own(tmp_path, monkeypatch):
    endless = ["-f", "lavfi", "-i", "testsrc=size=640x480"]
    with pytest.raises(UserError, match=r"more than 1 s of processor time \(SOP_FFMPEG_SECONDS\)"):
        run_ffmpeg([*endless, "-f", "null", "-"], seconds=1)
    monkeypatch.setattr(limits, "FFMPEG_OUTPUT_BYTES", 100_000)
    with pytest.raises(UserError, match="SOP_FFMPEG_OUTPUT_BYTES"):
        run_ffmpeg([*endless, "-f", "rawvideo", str(tmp_path / "a.raw")])
    monkeypatch.setattr(limits, "FFMPEG_BYTES", 100_000_000)
    with pytest.raises(UserError, match="ffmpeg failed"):
        run_ffmpeg([*endless, "-frames:v", "2", "-f", "null", "-"])


def test_an_interrupted_ffmpeg_ends(monkeypatch):
    started = []

    def interrupted(process, *_):
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_ffmpeg(["-f", "lavfi", "-i", "testsrc", "-f", "null", "-"])
    assert started[0].returncode == -9


@pytest.mark.parametrize(
    ("text", "status", "out"), [("1e8", 0, "100000000"), ("many", 2, ""), ("-1", 2, ""), ("nan", 2, "")]
)
def test_limits_can_be_set_from_outside(text, status, out):
    environment = os.environ | {"SOP_MAX_PIXELS": text}
    code = [sys.executable, "-c", "import limits; print(limits.MAX_PIXELS)"]
    result = subprocess.run(code, env=environment, cwd=PROJECT, capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (status, out)
    words = f"error: SOP_MAX_PIXELS: expected a number above 0, found '{text}'\n"
    assert result.stderr == (words if status else "")
