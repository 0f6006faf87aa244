"""Losses and weights of NaN: what is saved stays good, and one line says what to do."""

import json
import math
import os

import pytest
import torch

import main
from arguments import parse_args
from engine.evaluation.evaluate import Evaluator
from engine.options import run_folder
from engine.training import train
from engine.training.train import Trainer
from tests.engine.test_distributed import torchrun, training_flags
from tests.engine.test_train import flags, make_trainer, read
from tests.helpers import NETWORKS, Pool, make_checkpoint
from utils import Fault, save_json

POISONED = """
import math
import main
from engine.machine import distributed
from engine.training import train

batches_on, seen = train.batches_on, []

def poisoned(device, loader):
    for batch in batches_on(device, loader):
        seen.append(1)
        if len(seen) == 2 and distributed.rank() == 1:
            batch["mix"] = batch["mix"] * math.nan
        yield batch

if __name__ == "__main__":
    train.batches_on = poisoned
    main.main()
"""


@pytest.fixture
def no_pool(monkeypatch):
    """Scores are computed in this process, which spares each run two processes."""
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())


def poison(monkeypatch, *numbers):
    """Make the mixtures of these batches NaN, counted from 1 over all epochs; returns the clips of each."""
    batches_on, seen, clips = train.batches_on, [], []

    def poisoned(device, loader):
        for batch in batches_on(device, loader):
            seen.append(batch)
            if len(seen) in numbers:
                batch["mix"] = batch["mix"] * math.nan
                names = {loader.dataset.clips[n].name for info in batch["info"] for n in info["clips"]}
                clips.append(sorted(names))
            yield batch

    monkeypatch.setattr(train, "batches_on", poisoned)
    return clips


def run(argv):
    """(exit status, the run's folder)."""
    try:
        main.main(argv)
    except SystemExit as stop:
        return stop.code, run_folder(parse_args(argv))
    return 0, run_folder(parse_args(argv))


def error_line(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error", "Trace"))]
    assert len(lines) == 1
    return lines[0]


def same_weights(folders):
    files = [os.path.join(folder, "state_latest.pth") for folder in folders]
    one, other = (torch.load(path)["nets"] for path in files)
    return all(torch.equal(one[net][key], other[net][key]) for net in one for key in one[net])


def test_a_loss_of_nan_ends_in_one_line_and_the_same_command_goes_on(
    tree, tmp_path, monkeypatch, no_pool, capsys
):
    argv, undisturbed = (flags(tree, tmp_path / name, "--num_epoch", "2") for name in ("a", "b"))
    with monkeypatch.context() as patch:
        clips = poison(patch, 3)  # the first batch of the second epoch
        assert run(argv)[0] == 1
    line = error_line(capsys)
    assert "the loss is nan in epoch 2, for the clips " + ", ".join(clips[0]) in line
    folders = [run(each)[1] for each in (argv, undisturbed)]
    assert same_weights(folders)
    assert read(folders[0], "history.json") == read(folders[1], "history.json")


def test_steps_with_a_loss_of_nan_are_left_out_if_asked_for(tree, tmp_path, monkeypatch, caplog):
    """They change neither weights nor running statistics, and more of them than allowed end training."""
    more = "--dup_trainset 2 --amp off".split()
    disturbed = make_trainer(tree, tmp_path, *more, "--skip_nonfinite", "1")
    wanted = make_trainer(tree, tmp_path, *more)
    clips = poison(monkeypatch, 2)
    disturbed._train_epoch(1)
    told = "step left out (1 of --skip_nonfinite 1): the loss is nan, for the clips "
    assert told + ", ".join(clips[0]) in caplog.text
    wanted.model.train()
    train.start_epoch(wanted.loader, 1)
    for step, batch in enumerate(wanted.loader, 1):
        wanted._set_rates((step - 1) / len(wanted.loader))
        if step != 2:
            wanted._step(batch)
    states = [trainer.separator.state_dict() for trainer in (disturbed, wanted)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert all(math.isfinite(loss) for loss in disturbed.history["train"]["err"])
    counts = {"num_clips_replaced": 0, "num_clips_damaged": 0, "num_steps_left_out": 1}
    assert disturbed._counts() == counts


def test_more_steps_than_allowed_end_training(tree, tmp_path, monkeypatch):
    trainer = make_trainer(tree, tmp_path, "--skip_nonfinite", "1", "--dup_trainset", "2")
    clips = poison(monkeypatch, 2, 3)
    with pytest.raises(Fault, match="the loss is nan in epoch 1, for the clips ") as found:
        trainer._train_epoch(1)
    assert ", ".join(clips[1]) in str(found.value)
    assert trainer.guard.skipped == 1


def test_a_group_of_batches_with_a_loss_of_nan_makes_no_step(tree, tmp_path):
    trainer = make_trainer(tree, tmp_path, "--skip_nonfinite", "9", "--accumulate", "2")
    good = next(iter(trainer.loader))
    bad = good | {"mix": good["mix"] * math.nan}
    before = [p.clone() for p in trainer.separator.parameters()]
    for group in ((bad, good), (good, bad)):
        for part, batch in enumerate(group, 1):
            trainer._step(batch, part, 2)
        assert all(torch.equal(p, q) for p, q in zip(trainer.separator.parameters(), before, strict=True))
    for part in (1, 2):
        trainer._step(good, part, 2)
    assert not all(torch.equal(p, q) for p, q in zip(trainer.separator.parameters(), before, strict=True))


def test_processes_leave_out_a_step_together(tree, tmp_path):
    """The batch of the second process is NaN; the first one says so."""
    script = tmp_path / "poisoned.py"
    script.write_text(POISONED)
    argv = training_flags(tree, tmp_path, 2, "--skip_nonfinite", "1", "--num_gpus", "0", "--id", "two")
    status, _, err = torchrun(script, argv)
    assert status == 0, err
    assert err.count("step left out (1 of --skip_nonfinite 1): the loss is nan, for the clips ") == 1
    folder = next(tmp_path.glob("two-*"))
    assert all(map(math.isfinite, read(folder, "history.json")["train"]["err"]))


def test_a_validation_loss_of_nan_is_no_finished_epoch(tree, tmp_path, monkeypatch, no_pool, capsys):
    argv, undisturbed = (flags(tree, tmp_path / name, "--num_epoch", "2") for name in ("a", "b"))
    separate = Evaluator._separate

    def spoilt(self, *args):
        for mixture in separate(self, *args):
            yield mixture._replace(loss=math.nan if mixture.index == 1 else mixture.loss)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "_separate", spoilt)
        status, folder = run(argv)
    assert status == 1
    line = error_line(capsys)
    assert "the validation loss of 1 of 2 mixtures is not finite in epoch 1, for the clips " in line
    assert not os.path.exists(os.path.join(folder, "metrics.json"))
    folders = [run(each)[1] for each in (argv, undisturbed)]
    assert same_weights(folders)
    assert read(folders[0], "history.json") == read(folders[1], "history.json")


def test_weights_of_nan_are_not_saved(tree, tmp_path, monkeypatch, no_pool, capsys):
    """The last step of an epoch may spoil them although its loss is finite."""
    argv = flags(tree, tmp_path, "--num_epoch", "2")
    train_epoch = Trainer._train_epoch

    def spoiling(self, epoch):
        train_epoch(self, epoch)
        if epoch == 2:
            self.separator.net_synthesizer.scale.data[0] = math.inf

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", spoiling)
        status, folder = run(argv)
    assert status == 1
    assert "1 tensors of the networks are not finite, e.g. net_synthesizer.scale" in error_line(capsys)
    assert torch.load(os.path.join(folder, "state_latest.pth"))["epoch"] == 1
    assert run(argv)[0] == 0


def test_networks_of_nan_are_not_evaluated(tree, tmp_path, capsys):
    folder = make_checkpoint(tmp_path / "x")
    path = os.path.join(folder, "sound_best.pth")
    state = torch.load(path)
    name = next(iter(state))
    torch.save(state | {name: state[name] * math.nan}, path)
    argv = ["--mode", "eval", "--id", "x", "--ckpt", str(tmp_path), "--list_val", f"{tree[0]}/val.csv"]
    assert run([*argv, *NETWORKS, "--num_gpus", "0"])[0] == 1
    assert f"{path}: {name} has values that are not finite" in error_line(capsys)


def test_json_has_no_nan(tmp_path):
    save_json(tmp_path / "a.json", {"a": [math.nan, {"b": (math.inf, 1.5, "NaN", 3)}], "c": None})
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail) == {
        "a": [None, {"b": [None, 1.5, "NaN", 3]}],
        "c": None,
    }
