"""Convert folders of videos to trees of frames and audio."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

import create_index_files
from dataset.index import find_videos, read_index
from dataset.preprocess import __main__
from dataset.preprocess.__main__ import convert_all
from dataset.preprocess.convert import Settings
from dataset.preprocess.merge import part_of
from media import path_ffmpeg
from tests.helpers import PROJECT
from tests.videos import make_bad, make_video, tone
from utils import UserError

FPS, RATE = Settings().fps, Settings().rate


def copies(good_video, folder, *names):
    """Copy a video to these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(good_video, folder / name)
    return folder


def table(out, name="preprocess.csv"):
    """The table of outcomes: {video: row}."""
    with open(out / name, newline="", errors="surrogateescape") as file:
        return {row["video"]: row for row in csv.DictReader(file)}


def contents(out):
    """{path: bytes} of all files in a tree."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def run(videos, out, *flags):
    return __main__.main([f"--videos={videos}", f"--out={out}", "--jobs=2", *flags])


NAMES = [
    "-dash.mp4",
    "a b, c.MP4",
    "q\"u'o`te.mp4",
    "ümläut 音.mkv",
    "100%d %.mp4",
    "co:lon.mp4",
    "x/y/z.mp4",
    "line\nbreak.mp4",
    os.fsdecode(b"latin \xe4.mp4"),
]


def test_tree_is_mirrored_whatever_the_names(good_video, tmp_path):
    names = ["no category.mp4", *(f"steel drum/{name}" for name in NAMES)]
    videos = copies(good_video, tmp_path / "videos", *names)
    (videos / "notes.txt").touch()
    (videos / "._hidden.mp4").touch()
    copies(good_video, videos, ".partial/a.mp4")
    out = tmp_path / "o%d"
    assert run(videos, out) == 0
    for name in names:
        pictures = [picture for picture in os.listdir(out / "frames" / name) if picture.endswith(".jpg")]
        assert len(pictures) == 3 * FPS
        assert (out / "audio" / name).with_suffix(".wav").stat().st_size > 2 * 2.9 * RATE
    rows = table(out)
    assert set(rows) == set(names)
    assert {row["state"] for row in rows.values()} == {"done"}
    assert sorted(os.listdir(out)) == [".preprocess.csv.lock", "audio", "frames", "preprocess.csv"]


def test_failures_are_named_and_the_others_go_on(good_video, tmp_path, capsys):
    videos = copies(good_video, tmp_path / "videos", "good.mp4")
    reasons = make_bad(good_video, videos)
    assert len(reasons) >= 20
    assert run(videos, tmp_path) == 1
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == len(reasons)
    for line, (name, reason) in zip(lines, sorted(reasons.items()), strict=True):
        assert line.startswith(f"failed: {name}: ")
        assert reason in line
        assert reason in table(tmp_path)[name]["reason"]
    assert out.splitlines()[-1].startswith(
        f"{len(reasons) + 1} videos: 1 made, 0 already there, {len(reasons)} failed"
    )
    assert os.listdir(tmp_path / "frames") == ["good.mp4"]
    assert os.listdir(tmp_path / "audio") == ["good.wav"]
    assert table(tmp_path)["good.mp4"]["frames"] == str(3 * FPS)


def test_second_run_makes_only_what_is_missing(good_video, tmp_path, capsys):
    names = ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"]
    videos, out = copies(good_video, tmp_path / "videos", *names), tmp_path / "out"
    run(videos, out)
    before = contents(out)
    media = [path for path in out.rglob("*.*") if path.suffix in (".wav", ".jpg")]
    for path in media:
        os.utime(path, (1, 1))  # so that new files have a later time
    (out / "audio/a.wav").unlink()
    (out / "frames/b.mp4/000007.jpg").rename(out / "frames/b.mp4/x.jpg")
    os.truncate(out / "audio/c.wav", 2 * RATE)
    (out / "frames/d.mp4/.preprocess.json").write_text("")  # as after a power cut
    capsys.readouterr()
    run(videos, out)
    assert capsys.readouterr().out.startswith("5 videos: 4 made, 1 already there, 0 failed")
    assert contents(out) == before
    kept = {path for path in media if path.stat().st_mtime == 1}
    assert kept == {path for path in media if "e.mp4" in path.parts or path.name == "e.wav"}
    run(videos, out)
    assert capsys.readouterr().out == "5 videos: 0 made, 5 already there, 0 failed\n"


def test_a_sound_of_unknown_frames_is_not_cut_to_them(good_video, tmp_path, capsys):
    videos, out = copies(good_video, tmp_path / "videos", "a.mp4"), tmp_path / "out"
    run(videos, out, "--fps=1")
    (out / "frames/a.mp4/.preprocess.json").unlink()
    (out / "audio/a.wav").unlink()
    run(videos, out)
    assert table(out)["a.mp4"]["seconds"].startswith("3.0")
    assert "note: a.mp4: frames for 0.4 s, audio for 3.0 s" in capsys.readouterr().err


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no second file system")
def test_outputs_may_lie_on_another_disk(good_video, tmp_path):
    videos, out = copies(good_video, tmp_path / "videos", "a.mp4"), tmp_path / "out"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        for name in ("frames", "audio"):
            (Path(elsewhere) / name).mkdir()
            out.mkdir(exist_ok=True)
            (out / name).symlink_to(Path(elsewhere) / name)
        assert run(videos, out, "--fps=4") == run(videos, out) == 0
        assert sorted(os.listdir(out / "frames")) == ["a.mp4"]
        assert sorted(os.listdir(out / "audio")) == ["a.wav"]
        assert table(out)["a.mp4"]["frames"] == str(3 * FPS)


def test_cyclic_links_are_followed_once(good_video, tmp_path):
    videos = copies(good_video, tmp_path / "videos", "c/a.mp4")
    (videos / "c/loop").symlink_to("..")
    assert find_videos(videos) == ["c/a.mp4"]


def test_changed_settings_and_videos_are_converted_again(good_video, tmp_path, capsys):
    videos, out = copies(good_video, tmp_path / "videos", "a.mp4", "b.mp4"), tmp_path / "out"
    run(videos, out)
    run(videos, out, "--fps=4")
    assert {row["frames"] for row in table(out).values()} == {str(3 * 4)}
    run(videos, out, "--fps=4", "--short_side=24")
    make_video(videos / "b.mp4", [100] * 50, 25, tone(2), codec="aac")
    capsys.readouterr()
    run(videos, out, "--fps=4", "--short_side=24")
    assert capsys.readouterr().out.startswith("2 videos: 1 made, 1 already there, 0 failed")
    assert table(out)["b.mp4"]["frames"] == str(2 * 4)


def test_outputs_of_older_pipelines_are_kept(good_video, tmp_path, capsys):
    videos, out = copies(good_video, tmp_path / "videos", "a.mp4", "b.mp4"), tmp_path / "out"
    run(videos, out)
    (out / "frames/a.mp4/.preprocess.json").unlink()
    (out / "audio/a.wav").unlink()
    before = contents(out)
    capsys.readouterr()
    run(videos, out, "--fps=4")
    after = contents(out)
    assert all(after[name] == data for name, data in before.items() if name.startswith("frames/a.mp4/"))
    assert "audio/a.wav" in after
    assert {name: row["state"] for name, row in table(out).items()} == {"a.mp4": "found", "b.mp4": "done"}
    assert "1 of them are of unknown origin" in capsys.readouterr().out


START = [sys.executable, "-m", "dataset.preprocess", "--jobs", "2"]


def test_killed_at_any_time_and_run_again_is_as_good_as_never_killed(tmp_path):
    videos = tmp_path / "videos"
    levels = np.random.default_rng(0).integers(0, 255, 250)
    for number in range(6):
        make_video(videos / f"c/{number}.mp4", levels, 25, tone(10), size=(640, 480), codec="aac")
    flags = [f"--videos={videos}", f"--out={tmp_path / 'killed'}"]
    killed = 0
    for folder in ("frames", "frames/c/1.mp4", "audio/c"):
        process = subprocess.Popen([*START, *flags], cwd=PROJECT, start_new_session=True)
        while process.poll() is None and not (tmp_path / "killed" / folder).exists():
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed > 0
    assert run(videos, tmp_path / "killed") == 0
    assert run(videos, tmp_path / "whole") == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert len(table(tmp_path / "killed")) == 6


def slow_ffmpeg(path, go):
    """An ffmpeg that waits after frames until the file `go` exists, so that tests do not depend on speed."""
    wait = f'case "$*" in *06d.jpg*) while [ ! -e "{go}" ]; do sleep 0.05; done;; esac'
    path.write_text(f'#!/bin/sh\n"{path_ffmpeg()}" "$@" || exit\n{wait}\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def _interruptible():
    """Enable Ctrl-C for the processes of a test, as background shells disable it."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.mark.usefixtures("_interruptible")
def test_ctrl_c_stops_and_leaves_no_partial_outputs(good_video, tmp_path):
    videos = copies(good_video, tmp_path / "videos", "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    out, go = tmp_path / "out", tmp_path / "go"
    flags = [f"--videos={videos}", f"--out={out}", f"--ffmpeg={slow_ffmpeg(tmp_path / 'ffmpeg', go)}"]
    process = subprocess.Popen([*START, *flags], cwd=PROJECT, stderr=subprocess.PIPE)
    while process.poll() is None and not list(out.glob(".preprocess-*/*/frames/*.jpg")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    go.touch()
    _, err = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert not list(out.glob(".preprocess-*"))


def test_shards_share_the_work(good_video, tmp_path):
    names = [f"c{number % 2}/{number:011d}.mp4" for number in range(6)]
    videos = copies(good_video, tmp_path / "videos", *names)
    parts = [{name for name in names if part_of(name, 3) == number} for number in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert part_of("a/x.mp4", 2) == part_of("b/x.mkv", 2)  # only the id counts
    for number in (1, 2, 3):
        assert run(videos, tmp_path / "out", f"--shard={number}/3") == 0
        assert set(table(tmp_path / "out", f"preprocess-{number}of3.csv")) == parts[number - 1]
    run(videos, tmp_path / "whole")
    media = [
        {name: data for name, data in contents(tmp_path / out).items() if "/" in name}
        for out in ("out", "whole")
    ]
    assert media[0] == media[1]


def test_two_videos_with_one_id_are_not_confused(good_video, tmp_path):
    results, failures = convert_all(
        copies(good_video, tmp_path / "videos", "a.mp4", "a.webm"), tmp_path, jobs=1
    )
    assert list(results) == ["a.mp4"]
    assert failures == {"a.webm": "a.mp4 has the same id: rename or remove one of them"}


def test_a_second_process_is_locked_out(good_video, tmp_path):
    with (
        __main__.Ledger(str(tmp_path / "preprocess.csv"), __main__.COLUMNS),
        pytest.raises(UserError, match="in use"),
    ):
        convert_all(good_video.parent, tmp_path, jobs=1)


def test_folder_that_cannot_be_written_is_a_failure(good_video, tmp_path):
    videos = copies(good_video, tmp_path / "videos", "a.mp4")
    (tmp_path / "frames").touch()
    results, failures = convert_all(videos, tmp_path, jobs=1)
    assert not results
    assert "frames" in failures["a.mp4"]


def test_no_videos_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no videos under"):
        convert_all(tmp_path, tmp_path, jobs=1)
    with pytest.raises(UserError, match="no folder"):
        convert_all(tmp_path / "none", tmp_path, jobs=1)


@pytest.mark.parametrize(
    "flag",
    [
        "--fps=0",
        "--rate=99999999",
        "--rate=x",
        "--short_side=-1",
        "--jobs=0",
        "--shard=0/2",
        "--shard=3/2",
        "--shard=1",
    ],
)
def test_flags_out_of_range_are_refused(flag, capsys):
    with pytest.raises(SystemExit):
        __main__.main([flag])
    assert flag.split("=")[0] in capsys.readouterr().err


def test_an_ffmpeg_that_cannot_run_is_one_error(good_video, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        run(good_video.parent, tmp_path / "out", f"--ffmpeg={tmp_path}/none")
    assert error.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/none: cannot be run as ffmpeg")
    assert not (tmp_path / "out").exists()


def test_benchmark_compares_with_two_calls_and_writes_nothing(good_video, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dataset.preprocess.benchmark.ROUNDS", 1)
    videos = copies(good_video, tmp_path / "videos", "a.mp4", "b.mp4")
    assert run(videos, tmp_path / "out", "--benchmark") == 0
    out = capsys.readouterr().out
    assert out.startswith("2 videos, 6 s, 2 at a time")
    assert "time of one pass / time of two calls: " in out
    assert not (tmp_path / "out").exists()


def test_the_outputs_can_be_indexed(good_video, tmp_path):
    videos = copies(good_video, tmp_path / "videos", "flute/a.mp4", "flute/b.mp4")
    assert run(videos, tmp_path) == 0
    roots = [f"--root_audio={tmp_path}/audio", f"--root_frame={tmp_path}/frames"]
    create_index_files.main([*roots, f"--path_output={tmp_path}", "--min_seconds=3"])
    (clip,) = read_index(tmp_path / "val.csv")
    assert clip.num_frames == 3 * FPS
