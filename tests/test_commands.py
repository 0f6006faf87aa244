"""Every command: --help and a typo are answered before large packages are imported."""

import subprocess
import sys

import pytest

from tests.helpers import PROJECT

HEAVY = "torch torchvision librosa sklearn matplotlib scipy PIL yt_dlp tensorboard timm mir_eval".split()
ARRAYS = ["numpy", "soundfile", "imageio_ffmpeg"]
COMMANDS = {
    "main.py": (*HEAVY, *ARRAYS),
    "separate.py": (*HEAVY, *ARRAYS),
    "create_index_files.py": HEAVY,
    "models/download_weights.py": (*HEAVY, *ARRAYS),
    "-m benchmark": (*HEAVY, *ARRAYS),
    "-m engine.baselines": (*HEAVY, *ARRAYS),
    "-m engine.tables": HEAVY,
    "-m engine.evaluation.compare": (*HEAVY, *ARRAYS),
    "-m dataset.demo": (*HEAVY, *ARRAYS),
    "-m dataset.download": (*HEAVY, *ARRAYS),
    "-m dataset.preprocess": HEAVY,
    "-m pages.serve": (*HEAVY, *ARRAYS),
}
REQUIRED = {"separate.py": "VIDEO", "-m engine.evaluation.compare": "RUN"}


def run(command, *arguments):
    """Run a command of the project; its stderr also has a line for each module that is imported."""
    argv = [sys.executable, "-X", "importtime", *command.split(), *arguments]
    result = subprocess.run(argv, cwd=PROJECT, env={"PYTHONPATH": "."}, capture_output=True, text=True)
    lines = result.stderr.splitlines()
    modules = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    return result, modules, [line for line in lines if not line.startswith("import time:")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_examples_and_a_typo_is_one_line_at_once(command):
    result, modules, told = run(command, "--help")
    assert (result.returncode, told) == (0, [])
    assert not modules & set(COMMANDS[command])
    text, _, examples = result.stdout.partition("\nexamples:\n")
    assert text
    assert all(line.startswith(("  python ", "  ./scripts/")) for line in examples.splitlines())
    assert len(examples.splitlines()) >= 2
    result, modules, told = run(command, "--hepl")
    assert result.returncode == 2
    if command in REQUIRED:
        assert told == [f"error: the following arguments are required: {REQUIRED[command]}"]
    else:
        assert told == ["error: unrecognized arguments: --hepl; did you mean --help?"]
    assert not modules & set(COMMANDS[command])


def test_flags_for_older_checkpoints_have_a_help_of_their_own():
    usual, full = (run("separate.py", flag)[0].stdout for flag in ("--help", "--help-all"))
    assert "--num_sources" in usual
    assert "--arch_sound" not in usual
    assert "--arch_sound" in full
    assert full.index("\noptions:") < full.index("\nnetworks:") < full.rindex("--arch_sound")
