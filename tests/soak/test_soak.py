"""The soak test in its short form, and that it finds what it looks for."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.helpers import PROJECT
from tests.soak import flat, mutations


def test_the_short_soak_test_passes():
    command = [sys.executable, "-m", "tests.soak", "--short"]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert "training with 2 process(es)" in result.stdout
    assert "bit for bit like the undisturbed run: 1 of 1" in result.stdout
    assert "90 damaged files, each read or refused" in result.stdout


@pytest.mark.parametrize("number", range(len(flat.KINDS)))
def test_growth_is_found(number):
    looks = [(step / 100, [100.0] * len(flat.KINDS)) for step in range(1, 101)]
    assert flat.compare(looks, 100)[1] == []
    looks = [(at, [100 + 400 * at * (k == number) for k, _ in enumerate(flat.KINDS)]) for at, _ in looks]
    [problem] = flat.compare(looks, 100)[1]
    assert problem.startswith(f"{flat.KINDS[number]} grew from 2")


def test_a_long_run_without_looks_at_its_end_is_a_problem():
    [problem] = flat.compare([(step / 100, [1.0] * len(flat.KINDS)) for step in range(1, 80)], 100)[1]
    assert problem.startswith("79 looks at 100 steps")


def test_differences_are_found():
    sound = np.sin(np.arange(1000))
    assert not mutations.differs(sound, sound + 1e-4)
    assert mutations.differs(sound + 0.1, sound)
    pictures = np.full((3, 4, 4, 3), 100, np.uint8)
    assert not mutations.differs(pictures + np.uint8(1), pictures)
    other = pictures.copy()
    other[1] += 9
    assert mutations.differs(other, pictures)


@pytest.mark.parametrize("fault", ["crash", "hang", "traceback"])
def test_faults_are_found_and_the_other_files_are_read(tmp_path, monkeypatch, fault):
    """In the third file that a process reads: numbers 2 and 5 of 8."""
    calls = []

    def outcome(*_):
        calls.append(0)
        if len(calls) == 3:
            if fault == "crash":
                os.abort()
            if fault == "traceback":
                raise KeyError(fault)
            time.sleep(600)
        return mutations.REFUSED

    monkeypatch.setattr(mutations, "outcome", outcome)
    monkeypatch.setattr(mutations, "HANG_SECONDS", 60 if fault != "hang" else 15)
    monkeypatch.setattr(mutations, "WORKERS", 1)
    lines, problems = mutations.soak(str(tmp_path), {"media": 8}, 0)
    assert lines[0] == "6 damaged files, each read or refused:"
    what = {"crash": "ended with -6", "hang": "hung", "traceback": "ended with 1"}[fault]
    assert problems == [f"number {number} of seed 0 {what}" for number in (2, 5)]
