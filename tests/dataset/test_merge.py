"""Parts of preprocessing that die and run again, and one command that merges them."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest

from dataset.index import read_index
from dataset.preprocess import __main__
from dataset.preprocess.merge import COLUMNS, merge, part_of
from media import path_ffmpeg
from tests.dataset.test_preprocess import copies, run
from tests.helpers import PROJECT
from tests.test_scripts import SCRIPTS, make_environment
from tests.test_scripts import run as run_script
from utils import UserError, replacing

ALL = [f"c{number % 2}/{number:011d}.mp4" for number in range(40)]
PARTS = {part: sorted([name for name in ALL if part_of(name, 2) == part][:4]) for part in (1, 2)}
NAMES = PARTS[1] + PARTS[2]


def states(out):
    """{video: state} of the merged table."""
    with open(out / "preprocess.csv", newline="") as file:
        return {row["video"]: row["state"] for row in csv.DictReader(file)}


def write_ledger(out, name, rows):
    """A ledger of rows (video, state)."""
    with replacing(out / name) as path, open(path, "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *([video, state, "", "", ""] for video, state in rows)])


def kill_part(videos, out, tmp_path, last):
    """Run part 2 of 2 until only the video `last` is left, and kill it."""
    ffmpeg = tmp_path / "ffmpeg"
    wait = f'case "$*" in *{last}*) exec sleep 600;; esac'
    ffmpeg.write_text(f'#!/bin/sh\n{wait}\nexec "{path_ffmpeg()}" "$@"\n')
    ffmpeg.chmod(0o755)
    argv = [sys.executable, "-m", "dataset.preprocess", f"--videos={videos}", f"--out={out}", "--shard=2/2"]
    process = subprocess.Popen([*argv, "--jobs=2", f"--ffmpeg={ffmpeg}"], cwd=PROJECT, start_new_session=True)
    ledger = out / "preprocess-2of2.csv"
    while process.poll() is None and not (ledger.exists() and ledger.read_text().count("done") == 3):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_part_is_named_and_runs_again(good_video, tmp_path, capsys):
    videos, out, last = copies(good_video, tmp_path / "videos", *NAMES), tmp_path / "out", PARTS[2][1]
    assert run(videos, out, "--shard=1/2") == 0
    kill_part(videos, out, tmp_path, last)
    capsys.readouterr()
    assert run(videos, out, "--merge=2") == 1
    output = capsys.readouterr()
    assert output.err == f"part 2/2: 1 missing: {last}\n"
    assert output.out == "8 videos: 7 done, 0 found, 0 failed, 1 missing\nparts to run again: 2\n"
    assert states(out) == dict.fromkeys(NAMES, "done") | {last: "missing"}
    assert run(videos, out, "--shard=2/2") == 0
    environment = make_environment(tmp_path / "env")
    flags = ["--videos", videos, "--out", out, "--merge", "2", "--min_seconds", "1"]
    result = run_script(SCRIPTS / "preprocess_videos.sh", *map(str, flags), env=environment)
    assert result.returncode == 0, result.stderr
    assert "8 videos: 8 done, 0 found, 0 failed, 0 missing" in result.stdout
    clips = read_index(out / "train.csv") + read_index(out / "val.csv")
    assert sorted(f"{clip.name}.mp4" for clip in clips) == sorted(NAMES)


def test_a_part_that_never_began_is_missing_and_failures_are_counted(tmp_path, capsys):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write_ledger(tmp_path, "preprocess-1of2.csv", [(PARTS[1][0], "failed"), (PARTS[1][1], "found")])
    found, missing = merge(tmp_path, tmp_path, 2)
    assert found == {"done": 0, "found": 1, "failed": 1, "missing": 6}
    assert missing == {1: PARTS[1][2:], 2: PARTS[2]}
    write_ledger(tmp_path, "preprocess-2of2.csv", [(name, "done") for name in PARTS[2]])
    write_ledger(tmp_path, "preprocess-1of2.csv", [(name, "failed") for name in PARTS[1]])
    assert __main__.main([f"--videos={tmp_path}", f"--out={tmp_path}", "--merge=2"]) == 1
    wanted = dict.fromkeys(PARTS[2], "done") | dict.fromkeys(PARTS[1], "failed")
    assert states(tmp_path) == wanted | {PARTS[1][1]: "found"}  # as the last merge knew
    assert "again" not in capsys.readouterr().out


def test_without_ledgers_there_is_nothing_to_merge(good_video, tmp_path):
    copies(good_video, tmp_path, *NAMES)
    with pytest.raises(UserError, match=r"preprocess-1of3.csv: there is no ledger of any of 3 parts"):
        merge(tmp_path, tmp_path, 3)
