"""Files of a run and full disks: one line that says what and where."""

import argparse
import json
import os
import subprocess
import sys

import pytest

from arguments import network_options
from engine.options import AT_LEAST, AT_MOST, read_options
from engine.training.checkpoint import read_history
from media import writing_sound
from tests.helpers import PROJECT
from utils import UserError, save_json

FULL = """
import resource, sys
import numpy as np
from utils import command
import pages.media
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
noise = np.random.default_rng(0).uniform(-1, 1, 2_000_000).astype(np.float32)

@command
def main():
    pages.media.write_sound(sys.argv[1], noise, 44100)

main()
"""


@pytest.mark.parametrize("text", ["null", "3", "[]", '"x"', "{", "", "NaN", "[" * 9999, "\0"])
def test_options_of_other_content_are_refused(tmp_path, text):
    (tmp_path / "options.json").write_text(text)
    with pytest.raises(UserError, match=f"{tmp_path}/options.json: not the options of a run: "):
        read_options(tmp_path)


@pytest.mark.parametrize("key", sorted(AT_MOST))
def test_absurd_options_are_refused_before_they_cost_memory(tmp_path, key):
    for value in (AT_MOST[key] + 1, 10**100, AT_LEAST.get(key, 1) - 1):
        save_json(tmp_path / "options.json", {key: value})
        with pytest.raises(UserError, match=key):
            network_options(argparse.Namespace(ckpt="x", num_gpus=0, amp="auto"), str(tmp_path))


HISTORIES = [
    "[]",
    "null",
    "3",
    '{"val": 3}',
    '{"val": {"err": 3}}',
    '{"val": {"err": ["x"]}}',
    "{",
    "[" * 9999,
]


@pytest.mark.parametrize("text", HISTORIES)
def test_a_history_of_other_content_is_refused(tmp_path, text):
    (tmp_path / "history.json").write_text(text)
    with pytest.raises(UserError, match=f"{tmp_path}/history.json: not the history of a run: "):
        read_history(tmp_path)


def test_a_history_is_read_as_it_was_written(tmp_path):
    history = {"train": {"epoch": [0.5, 1], "err": [0.2, None]}, "val": {"epoch": []}}
    (tmp_path / "history.json").write_text(json.dumps(history))
    assert read_history(tmp_path) == history


def test_a_full_disk_is_one_line_while_sound_is_written(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path / "a.mp3")]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path}/a.mp3: cannot be written: ")
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_what_soundfile_asserts_is_an_error_of_writing():
    with (
        pytest.raises(OSError, match=r"a\.wav: cannot be written: not all of it was written"),
        writing_sound("a.wav"),
    ):
        raise AssertionError
