"""Checkpoints: on disk before they have their names, checked when read, and the one before is kept."""

import itertools
import os
import time
from types import SimpleNamespace

import pytest
import torch

from arguments import parse_args
from engine.failures import Failures
from engine.options import run_folder, training_options
from engine.training import storage
from engine.training.checkpoint import (
    FILE_PREVIOUS,
    FILE_STATE,
    NETS,
    find_run,
    restore,
    save_state,
    start_run,
)
from engine.training.storage import clear_remains, copy_run, read_checkpoint, write_checkpoint
from models import load_weights
from tests.engine.test_longer import leave_run
from utils import UserError


def flip(path, place, bit=0x10):
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ bit]))


class Nets(torch.nn.Module):
    """Networks as attributes."""

    def __init__(self, nets):
        super().__init__()
        for name, net in nets.items():
            self.add_module(name, net)


def make_trainer(args, folder):
    """What of a trainer is saved, with networks of one layer."""
    nets = {f"net_{name}": torch.nn.Linear(2, 1) for name in NETS}
    parameters = [parameter for net in nets.values() for parameter in net.parameters()]
    return SimpleNamespace(
        args=args,
        folder=folder,
        separator=Nets(nets),
        lock=None,
        optimizer=torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        failures=Failures(10, "train.csv"),
        epoch=0,
        finished=True,
        best=1.0,
        history={"train": {}, "val": {}},
        within=None,
    )


@pytest.fixture
def run(tmp_path):
    """(args, folder) of a run with a state after epoch 1 and, before it, one after epoch 0."""
    args = parse_args(["--preset", "small", "--ckpt", str(tmp_path)])
    folder = run_folder(args)
    trainer = make_trainer(args, folder)
    start_run(folder, args)
    for trainer.epoch in (0, 1):
        save_state(trainer)
    return args, folder


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    path = str(tmp_path / "state.pth")
    value = {"net": torch.arange(64, dtype=torch.float32), "epoch": 3, "name": "x"}
    write_checkpoint(path, value)
    refused = 0
    for place, bit in itertools.product(range(os.path.getsize(path)), (0x01, 0x10)):
        flip(path, place, bit)
        try:
            found = read_checkpoint(path)
        except UserError:
            refused += 1
        else:  # an unused byte, e.g. of a date
            assert torch.equal(found.pop("net"), value["net"])
            assert found == {"epoch": 3, "name": "x"}
        flip(path, place, bit)
    assert refused > 1000
    assert read_checkpoint(path)["epoch"] == 3


def test_a_damaged_state_is_replaced_by_the_one_before(run, caplog):
    args, folder = run
    assert find_run(folder, args)["epoch"] == 1
    path = os.path.join(folder, FILE_STATE)
    flip(path, os.path.getsize(path) // 2)
    assert find_run(folder, args)["epoch"] == 0
    assert f"{path}: damaged (" in caplog.text
    assert "continuing from the state before it, after epoch 0" in caplog.text
    flip(os.path.join(folder, FILE_PREVIOUS), os.path.getsize(path) // 2)
    with pytest.raises(UserError, match=f"{FILE_STATE}: damaged .*{FILE_PREVIOUS}: damaged .* --overwrite"):
        find_run(folder, args)


def test_a_process_killed_between_two_names_leaves_a_state(run):
    args, folder = run
    os.remove(os.path.join(folder, FILE_STATE))
    assert find_run(folder, args)["epoch"] == 0


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ([1, 2], "nets is missing, expected a dict"),
        ({"nets": {}, "optimizer": 3}, "optimizer is a int, expected a dict"),
        ({"epoch": "x"}, "epoch is a str, expected a int"),
    ],
)
def test_a_state_with_other_contents_is_one_line(run, state, complaint):
    args, folder = run
    path = os.path.join(folder, FILE_STATE)
    whole = read_checkpoint(path)
    os.remove(os.path.join(folder, FILE_PREVIOUS))
    torch.save(whole | state if state == {"epoch": "x"} else state, path)
    with pytest.raises(UserError, match=f"{FILE_STATE}: not the state of a run: {complaint}; --overwrite"):
        find_run(folder, args)


def test_a_state_of_other_networks_is_one_line(run):
    args, folder = run
    state = find_run(folder, args)
    for wrong in ({"nets": {}}, {"optimizer": {}}, {"nets": state["nets"] | {"sound": {"w": torch.ones(1)}}}):
        with pytest.raises(UserError, match=r"the state is not of these networks: .*; --overwrite"):
            restore(state | wrong, make_trainer(args, folder))
    restore(state, make_trainer(args, folder))


def test_states_of_older_code_are_read(run):
    """They do not say which clips cannot be read, nor where in an epoch they were saved."""
    args, folder = run
    state = find_run(folder, args)
    trainer = make_trainer(args, folder)
    restore({key: value for key, value in state.items() if key not in ("within", "unreadable")}, trainer)
    assert (trainer.within, len(trainer.failures)) == (None, 0)
    restore(state | {"within": {"step": 5}, "unreadable": {"a": "gone"}}, trainer)
    assert (trainer.within["step"], trainer.failures.reasons) == (5, {"a": "gone"})


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls, flush, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("flush"), flush(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("rename"), rename(*names)))
    write_checkpoint(str(tmp_path / "x.pth"), {"a": 1})
    assert calls == ["flush", "rename", "flush"]


def test_a_file_that_reads_back_damaged_replaces_nothing(tmp_path, monkeypatch):
    path, previous = (str(tmp_path / name) for name in ("x.pth", "previous.pth"))
    write_checkpoint(path, {"a": torch.ones(99)}, previous)
    save = torch.save

    def save_badly(value, name):
        save(value, name)
        flip(name, os.path.getsize(name) // 2)

    monkeypatch.setattr(torch, "save", save_badly)
    with pytest.raises(UserError, match=r"x\.pth: damaged .* as soon as it was written"):
        write_checkpoint(path, {"a": torch.zeros(99)}, previous)
    assert read_checkpoint(path)["a"].sum() == 99
    assert os.listdir(tmp_path) == ["x.pth"]


def test_what_killed_runs_left_is_deleted(run, caplog):
    args, folder = run
    page = os.path.join(folder, "visualization")
    os.makedirs(page)
    left, new, old, mine = (
        os.path.join(*path)
        for path in (
            (folder, ".writing-a.pth"),
            (folder, ".writing-b.json"),
            (page, ".writing-c.webm"),
            (page, "mine.pth"),
        )
    )
    for path in (left, new, old, mine):
        open(path, "wb").close()
    past = time.time() - storage.LEFT_SECONDS - 1
    os.utime(old, (past, past))
    start_run(folder, args, find_run(folder, args))
    assert [os.path.exists(path) for path in (left, new, old, mine)] == [False, True, False, True]
    clear_remains(os.path.join(folder, "gone"))


def test_a_copy_that_was_killed_is_begun_again(tmp_path):
    source, copy, work = tmp_path / "a", tmp_path / "b", tmp_path / ".copying-b"
    source.mkdir()
    (source / "x").write_text("whole")
    work.mkdir()
    (work / "y").write_text("half")
    copy_run(str(source), str(copy))
    assert [path.name for path in copy.iterdir()] == ["x"]
    assert not work.exists()


def test_damaged_weights_are_one_line(tmp_path):
    net, path = torch.nn.Linear(8, 8), str(tmp_path / "sound_best.pth")
    torch.save(net.state_dict(), path)
    load_weights(net, path)
    flip(path, os.path.getsize(path) // 2)
    with pytest.raises(UserError, match=r"sound_best\.pth: damaged \(.+\)"):
        load_weights(net, path)


def test_a_state_that_only_a_longer_run_has_counts(tmp_path):
    """A longer run is found by either of its files."""
    folder = leave_run(tmp_path, "--num_epoch", "3")
    os.rename(os.path.join(folder, FILE_STATE), os.path.join(folder, FILE_PREVIOUS))
    args = parse_args(["--ckpt", str(tmp_path), "--num_epoch", "4"])
    assert find_run(run_folder(args), args)["folder"] == folder
    assert training_options(args)["num_epoch"] == 4
