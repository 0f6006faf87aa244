"""The page of ./scripts/doctor.sh: it names what is wrong, works without packages, and needs no network."""

import re
import socket

import pytest

import doctor
from dataset.index import Clip, write_index
from tests.helpers import make_checkpoint
from tests.test_environment import HEAVY, modules_of, run_without

NAMES = "project Python system packages ffmpeg libsndfile limits data run".split()


@pytest.fixture(autouse=True)
def no_torch(monkeypatch):
    """Without the seconds in which torch is loaded."""
    monkeypatch.setattr(doctor, "TORCH", "print('there')")


def report(root):
    found = doctor.examine(str(root))
    return found, "\n".join(found.lines)


def test_the_page_covers_everything_and_asks_no_network(tmp_path, monkeypatch, tree):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network"))
    make_checkpoint(tmp_path / "ckpt/demo")
    (tmp_path / "data").mkdir()
    write_index(tmp_path / "data/train.csv", tree[1])
    _, text = report(tmp_path)
    for name in NAMES:
        assert re.search(f"^{name} ", text, re.MULTILINE)
    assert f"{tmp_path}/data/train.csv: 9 rows\n" in text
    assert f"{tmp_path}/ckpt/demo: 3 files of weights" in text
    assert "torch            there" in text


def test_what_is_wrong_with_data_and_runs_is_named(tmp_path):
    make_checkpoint(tmp_path / "ckpt/demo")
    (tmp_path / "ckpt/demo/options.json").write_text("[")
    weights = tmp_path / "ckpt/demo/sound_best.pth"
    weights.write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "data").mkdir()
    write_index(tmp_path / "data/val.csv", [Clip("gone.wav", "gone.mp4", 9)])
    before = report(tmp_path / "nothing")[0].num_problems
    found, text = report(tmp_path)
    assert "val.csv: 1 rows  <- no gone.wav" in text
    assert "3 files of weights  <- sound_best.pth: damaged, options.json: damaged" in text
    assert found.num_problems == before + 2


def test_packages_that_are_missing_or_too_old_are_problems(tmp_path, monkeypatch):
    versions = doctor.importlib.metadata.version

    def version(name):
        if name in ("tqdm", "flask"):
            raise doctor.importlib.metadata.PackageNotFoundError
        return "0.1" if name == "numpy" else versions(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    _, text = report(tmp_path)
    assert "tqdm is missing  <- requirements-data.txt needs tqdm" in text
    assert "flask is missing (optional)\n" in text
    assert "numpy 0.1  <- requirements-data.txt needs <3,>=1.26" in text


def test_a_program_that_hangs_is_a_problem_and_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "SECONDS", 0.1)
    monkeypatch.setattr(doctor, "TORCH", "import time; time.sleep(60)")
    _, text = report(tmp_path)
    assert re.search("torch .*<- no answer in 0.2 s", text)


def test_it_works_without_any_package(tmp_path):
    packages = HEAVY | modules_of("requirements-data.txt") | {"imageio_ffmpeg", "packaging"}
    result = run_without(packages, "doctor.py", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == ""
    assert "run ./scripts/install.sh" in result.stdout
    assert re.search(r"\d problems, marked <-\n$", result.stdout)
