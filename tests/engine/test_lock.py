"""One training writes a folder: who holds it, who may take it over, and what another one is told."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import main
from arguments import parse_args
from engine.options import run_folder
from engine.processes import lock
from engine.processes.lock import FILE_LOCK, STALE_SECONDS, Lock
from engine.training import heartbeat
from engine.training.train import Trainer
from tests.engine.test_train import flags, read
from tests.helpers import PROJECT, Pool
from utils import Fault, UserError

OTHER = {"host": "elsewhere", "pid": 7, "started": 1, "boot": "b", "id": "x"}
HOLD = """
import sys, time
from engine.processes.lock import Lock
with Lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def no_pool(monkeypatch):
    """Scores are computed in this process, which spares each run two processes."""
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())


def leave(folder, holder, age=0):
    """A lock file of another process, touched `age` seconds ago."""
    Path(folder).mkdir(exist_ok=True)
    path = os.path.join(folder, FILE_LOCK)
    Path(path).write_text(json.dumps(holder) if isinstance(holder, dict) else holder)
    os.utime(path, (time.time() - age,) * 2)
    return path


def mine(**changes):
    """The holder that this process would be."""
    return Lock(".")._holder | changes


def test_the_file_says_who_holds_it_and_goes_with_it(tmp_path):
    folder = str(tmp_path / "new")
    with Lock(folder) as held:
        found = json.loads(Path(folder, FILE_LOCK).read_text())
        assert (found["host"], found["pid"]) == (os.uname().nodename, os.getpid())
        held.check()
        expected = f"{folder}: a training is running there: process {os.getpid()} on "
        with pytest.raises(UserError, match=expected):
            Lock(folder).__enter__()
        held.check()
    assert not os.path.exists(folder)
    Path(folder).mkdir()
    Path(folder, "a").touch()
    with Lock(folder):
        pass
    assert os.listdir(folder) == ["a"]


@pytest.mark.parametrize(
    ("holder", "age"),
    [
        (mine(started=1), 0),  # an earlier process of the same number
        (mine(pid=2**22 + 1), 0),
        (mine(boot="before"), 0),
        (OTHER, STALE_SECONDS + 60),
        ("", 60),
        ('{"host": ', 60),
        ("[1]", 60),
    ],
)
def test_the_lock_of_a_dead_process_is_taken_over(tmp_path, holder, age):
    leave(tmp_path, holder, age)
    with Lock(str(tmp_path)) as held:
        held.check()
    assert not tmp_path.exists()


@pytest.mark.parametrize(
    ("holder", "age", "words"),
    [
        (OTHER, 60, r"process 7 on elsewhere, which reported 60 s ago; .* wait 10 minutes or remove {path}$"),
        ("", 0, "{path} was just made"),
    ],
)
def test_a_lock_that_may_be_alive_is_refused(tmp_path, holder, age, words):
    path = leave(tmp_path, holder, age)
    with pytest.raises(UserError, match=words.format(path=path)):
        Lock(str(tmp_path)).__enter__()
    assert os.listdir(tmp_path) == [FILE_LOCK]


def test_a_restart_on_another_machine_continues_its_own_work(tmp_path):
    leave(tmp_path, OTHER)
    with Lock(str(tmp_path), is_restart=True) as held:
        held.check()


def test_a_killed_holder_leaves_a_lock_that_the_next_one_takes_over(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {process.pid} on "):
            Lock(str(tmp_path)).__enter__()
        process.kill()
        process.wait()
    assert os.listdir(tmp_path) == [FILE_LOCK]
    with Lock(str(tmp_path)) as held:
        held.check()


def test_of_two_that_take_over_one_wins(tmp_path, monkeypatch):
    """The slower one finds the lock of the faster one under the name of the dead one's."""
    leave(tmp_path, OTHER, STALE_SECONDS + 60)
    faster, rename = Lock(str(tmp_path)), os.rename

    def late(source, target):
        monkeypatch.setattr(os, "rename", rename)
        faster.__enter__()
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(UserError, match="a training is running there"):
        Lock(str(tmp_path)).__enter__()
    faster.check()
    faster.__exit__()


def test_it_is_touched_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "TOUCH_SECONDS", 0.01)
    with Lock(str(tmp_path)) as held:
        os.utime(held.path, (0, 0))
        while os.path.getmtime(held.path) < 1:
            time.sleep(0.01)


def test_a_lost_lock_is_a_fault_and_is_left_alone(tmp_path):
    with Lock(str(tmp_path)) as held:
        leave(tmp_path, OTHER)
        with pytest.raises(Fault, match=f"{held.path} is gone or of another process"):
            held.check()
    assert json.loads(Path(held.path).read_text()) == OTHER


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_second_training_in_a_folder_is_refused_in_one_line(
    tree, tmp_path, no_pool, monkeypatch, capsys, more
):
    argv = flags(tree, tmp_path, "--num_epoch", "1")
    folder = run_folder(parse_args(argv))
    train_epoch, refused = Trainer._train_epoch, []

    def files():
        names = set(os.listdir(folder)) - {heartbeat.FILE}
        return {name for name in names if not name.startswith(".writing-")}

    def start_another(self, epoch):
        before = files()
        with pytest.raises(SystemExit) as stop:
            main.main([*argv, *more])
        refused.append((stop.value.code, capsys.readouterr().err.splitlines()[-1]))
        assert files() == before
        train_epoch(self, epoch)

    monkeypatch.setattr(Trainer, "_train_epoch", start_another)
    main.main(argv)
    assert refused[0][0] == 2
    assert refused[0][1].startswith(f"error: {folder}: a training is running there: process {os.getpid()} ")
    assert read(folder, "metrics.json")["epoch"] == 1
    assert FILE_LOCK not in os.listdir(folder)


def test_a_folder_that_vanishes_while_its_run_trains_ends_it(tree, tmp_path, no_pool, monkeypatch, capsys):
    """Moved back, the run goes on; nothing is written in its old place."""
    argv = flags(tree, tmp_path, "--num_epoch", "2")
    folder, train_epoch = run_folder(parse_args(argv)), Trainer._train_epoch

    def vanishing(self, epoch):
        train_epoch(self, epoch)
        if epoch == 2:
            os.rename(folder, f"{folder}-moved")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", vanishing)
        with pytest.raises(SystemExit) as stop:
            main.main(argv)
    assert stop.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {folder}/{FILE_LOCK} is gone")
    assert not os.path.exists(folder)
    os.rename(f"{folder}-moved", folder)
    os.remove(os.path.join(folder, FILE_LOCK))  # its process, which is this one, still lives
    main.main(argv)
    assert read(folder, "history.json")["val"]["epoch"] == [1, 2]
