"""A run that is stopped or killed within an epoch continues with the next batch, as if it had not."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import main
from arguments import parse_args
from engine.loaders import build_train_loader, start_epoch
from engine.machine import distributed
from engine.options import run_folder
from engine.processes.children import prepare_loader
from engine.processes.stop import COPIES, Stop
from engine.training import train, within
from engine.training.checkpoint import FILE_STATE, NETS
from engine.training.train import Trainer
from tests.engine.test_train import flags, make_trainer, read
from tests.helpers import Pool
from utils import Stopped, UserError

STEPS = 4  # in an epoch
VARIED = "--optimizer adamw --accumulate 2 --schedule cosine --warmup 0.5 --augment_speed 3"


@pytest.fixture(autouse=True)
def no_pool(monkeypatch):
    """Scores are computed in this process, which spares each run two processes."""
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())


def run_flags(tree, folder, *more):
    return flags(
        tree,
        folder,
        "--num_epoch",
        "2",
        "--dup_trainset",
        "2",
        "--disp_iter",
        "3",
        "--eval_epoch",
        "2",
        *more,
    )


def act_in_step(monkeypatch, number, act):
    """Call `act` in this step of the session."""
    step, count = Trainer._step, [0]

    def acting(self, batch, *parts):
        count[0] += 1
        loss = step(self, batch, *parts)
        if count[0] == number:
            act()
        return loss

    monkeypatch.setattr(Trainer, "_step", acting)


def draw_in_steps(monkeypatch, drawn):
    """Add what torch draws in each step, as dropout does, to a list."""
    step = Trainer._step

    def drawing(self, batch, *parts):
        drawn.append(torch.rand(()).item())
        return step(self, batch, *parts)

    monkeypatch.setattr(Trainer, "_step", drawing)


def exit_status(argv):
    """The status with which main.py ends; 0 if it returns."""
    try:
        main.main(argv)
    except SystemExit as stop:
        return stop.code
    return 0


def send(name):
    return lambda: os.kill(os.getpid(), getattr(signal, name))


def check_equal_runs(one, other):
    """Bit for bit, but for times."""
    for name in ("history.json", "metrics.json"):
        assert read(one, name) == read(other, name)
    for name in [f"{net}_{suffix}" for net in NETS for suffix in ("latest", "best")]:
        states = [torch.load(os.path.join(folder, f"{name}.pth")) for folder in (one, other)]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0]), name
    states = [torch.load(os.path.join(folder, FILE_STATE)) for folder in (one, other)]
    averages = [state["optimizer"]["state"] for state in states]
    assert averages[0].keys() == averages[1].keys()
    for key, values in averages[0].items():
        for name, value in values.items():
            assert value is averages[1][key][name] or torch.equal(value, averages[1][key][name])


@pytest.mark.parametrize(("name", "more", "step"), [("SIGTERM", "--accumulate 3", 3), ("SIGINT", VARIED, 2)])
def test_a_stopped_run_ends_as_if_it_had_not_been(tree, tmp_path, monkeypatch, capfd, name, more, step):
    whole, parts = (run_flags(tree, tmp_path / folder, *more.split()) for folder in ("whole", "parts"))
    folders = [run_folder(parse_args(argv)) for argv in (whole, parts)]
    drawn = []
    draw_in_steps(monkeypatch, drawn)
    main.main(whole)
    draws = drawn.copy()
    drawn.clear()
    with monkeypatch.context() as patch:
        act_in_step(patch, STEPS + 1, send(name))
        capfd.readouterr()
        assert exit_status(parts) == 75
    assert capfd.readouterr().err.splitlines()[-1] == (
        f"stopped by {name}: {folders[1]} holds the run up to step {step}/{STEPS} of epoch 2; "
        "the same command continues it"
    )
    assert exit_status([*parts, "--workers", "2"]) == 0
    assert drawn == draws
    check_equal_runs(*folders)


def test_a_stopped_run_does_not_wait_for_a_batch(tree, tmp_path, monkeypatch, capfd):
    """As from a server that is down."""
    whole, parts = (run_flags(tree, tmp_path / folder, "--workers", "1") for folder in ("whole", "parts"))
    folders = [run_folder(parse_args(argv)) for argv in (whole, parts)]
    main.main(whole)

    def stuck(device, loader):
        yield from itertools.islice(loader, 2)
        send("SIGTERM")()
        pytest.fail("waits for a batch")

    with monkeypatch.context() as patch:
        patch.setattr(train, "batches_on", stuck)
        assert exit_status(parts) == 75
    assert f"holds the run up to step 2/{STEPS} of epoch 1" in capfd.readouterr().err
    assert exit_status(parts) == 0
    check_equal_runs(*folders)


def test_a_killed_run_goes_on_from_its_last_save(tree, tmp_path, monkeypatch, capfd):
    whole, parts = (run_flags(tree, tmp_path / folder) for folder in ("whole", "parts"))
    folders = [run_folder(parse_args(argv)) for argv in (whole, parts)]
    main.main(whole)
    for number, place in ((2, (0, 1)), (STEPS, (1, 0))):  # steps in a session; where the run then is
        with monkeypatch.context() as patch:
            act_in_step(patch, number, lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                main.main([*parts, "--save_minutes", "1e-9"])
        state = torch.load(os.path.join(folders[1], FILE_STATE))
        assert (state["epoch"], state["within"] and state["within"]["step"]) == place
    assert exit_status(parts) == 0
    assert "resuming after epoch 0 of 2, step 1 of the next" in capfd.readouterr().err
    check_equal_runs(*folders)


def test_minutes_count_from_the_last_save(tree, tmp_path, monkeypatch):
    trainer = make_trainer(tree, tmp_path, "--save_minutes", "10", "--dup_trainset", "2")
    now, saved = [trainer.saved_at], []
    monkeypatch.setattr("engine.training.train.time.monotonic", lambda: now[0])
    monkeypatch.setattr("engine.training.train.save_state", lambda trainer, part: saved.append(part["step"]))

    def step(self, batch, *parts):
        now[0] += 301
        return torch.tensor(1.0)

    monkeypatch.setattr(Trainer, "_step", step)
    trainer._train_epoch(1)
    assert saved == [2], "the end of an epoch is saved anyway"
    trainer.args.save_minutes = 0
    trainer._train_epoch(2)
    assert saved == [2]


def test_a_signal_in_an_evaluation_repeats_the_evaluation_only(tree, tmp_path, monkeypatch, capfd):
    argv = run_flags(tree, tmp_path, "--num_epoch", "1")
    with monkeypatch.context() as patch:
        patch.setattr("engine.evaluation.evaluate.submit", lambda *work: send("SIGTERM")())
        assert exit_status(argv) == 75
    assert "up to epoch 1; the same command continues it" in capfd.readouterr().err
    monkeypatch.setattr(Trainer, "_train_epoch", lambda self, epoch: 1 / 0)
    assert exit_status(argv) == 0
    assert read(run_folder(parse_args(argv)), "history.json")["val"]["epoch"] == [1]


def test_handlers_are_those_of_before_when_a_run_has_ended(tree, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    assert exit_status(run_flags(tree, tmp_path, "--num_epoch", "1")) == 0
    assert before == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]


# What a process does that gets a signal, and then another one; it says what its clock is to show.
ENDS = """
import os, signal, sys, time
from engine.processes.stop import Stop

now = [0]
with Stop(lambda: now[0]) as stop:
    for seconds in map(float, sys.argv[1:]):
        now[0] = seconds
        os.kill(os.getpid(), signal.SIGTERM)
        print(stop.name, flush=True)
"""


@pytest.mark.parametrize(("later", "status"), [(COPIES, 0), (COPIES + 0.5, 128 + signal.SIGTERM)])
def test_a_second_signal_ends_at_once_unless_it_is_a_copy_of_the_first(later, status):
    command = [sys.executable, "-c", ENDS, "0", str(later)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == status, result.stderr
    assert result.stdout.split() == ["SIGTERM"] * (2 if status == 0 else 1)


class Ones(torch.utils.data.Dataset):
    """Items that a worker loads after it has sent itself the signals that reach all processes."""

    def __len__(self):
        return 3

    def __getitem__(self, number):
        for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGTERM"):
            send(name)()
        return torch.ones(())


def test_a_loader_outlives_a_signal_to_all_processes():
    loader = torch.utils.data.DataLoader(Ones(), num_workers=1, worker_init_fn=prepare_loader)
    assert torch.cat(list(loader)).tolist() == [1, 1, 1]


def _wait_in_worker(ready):
    prepare_loader(0)
    ready.set()
    time.sleep(600)


def test_a_loader_ends_when_its_parent_says_so():
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_wait_in_worker, args=(ready,))
    worker.start()
    assert ready.wait(timeout=60)
    worker.terminate()
    worker.join(timeout=60)
    assert worker.exitcode == 1


def test_a_request_waits_for_a_place_where_work_may_be_repeated():
    with Stop() as stop:
        send("SIGUSR1")()
        assert stop.name == "SIGUSR1"
        with pytest.raises(Stopped, match="SIGUSR1"), stop.at_once():
            pytest.fail("the work begins")


def test_an_epoch_starts_where_it_is_told_without_loading_what_comes_before(tree, tmp_path):
    loader = build_train_loader(parse_args(flags(tree, tmp_path, "--dup_trainset", "2")))

    def order(skipped):
        start_epoch(loader, 3, skipped)
        return list(loader.batch_sampler)

    for skipped in range(STEPS + 1):
        assert order(skipped) == order(0)[skipped:]
        assert len(loader) == STEPS


def test_what_is_drawn_in_a_step_depends_on_seed_epoch_step_and_process(monkeypatch):
    def draw(*place):
        within.seed_step(*place)
        return torch.rand(3).tolist()

    first = draw(1, 2, 3)
    assert first == draw(1, 2, 3)
    others = [draw(*place) for place in ((2, 2, 3), (1, 3, 3), (1, 2, 4))]
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    others.append(draw(1, 2, 3))
    assert first not in others


def test_another_number_of_processes_gets_the_mean_of_what_they_had(tree, tmp_path, monkeypatch):
    trainer = make_trainer(tree, tmp_path)
    trainer.model.train()
    trainer.losses = [torch.tensor(1.0), torch.tensor(3.0)]
    packed = within.pack(trainer)
    packed["processes"].append([torch.full_like(value, 2) for value in packed["processes"][0]])
    before = [buffer.clone() for buffer in distributed.norm_statistics(trainer.separator)]
    within.unpack(packed, trainer)
    assert trainer.losses == [1.5, 2.5]
    for value, buffer in zip(before, distributed.norm_statistics(trainer.separator), strict=True):
        torch.testing.assert_close(buffer, (value + 2) / 2)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    within.unpack(packed | {"steps": len(trainer.loader)}, trainer)
    assert trainer.losses == [2, 2]


def test_a_list_that_changed_within_an_epoch_is_refused(tree, tmp_path):
    trainer = make_trainer(tree, tmp_path)
    packed = within.pack(trainer)
    with pytest.raises(UserError, match=r"train\.csv has changed within an epoch: expected 5 steps per"):
        within.unpack(packed | {"steps": 5}, trainer)


def test_steps_and_seconds_of_earlier_sessions_count(tree, tmp_path):
    trainer = make_trainer(tree, tmp_path)
    trainer.pace.begin_epoch(done=6, seconds=3.0)
    assert trainer.pace.steps() == 6
    assert trainer.pace.seconds() >= 3
    trainer.loss = 0.5
    assert trainer._line("epoch 1/4").startswith("epoch 1/4, step 6/2, loss 0.5000, ")
    assert "left" not in trainer._line("epoch 1/4"), "not known before the session's first step"
    trainer.pace.step()
    assert " s left" in trainer._line("epoch 1/4")
    assert within.pack(trainer)["seconds"] >= 3


@pytest.mark.parametrize(
    ("name", "processes", "error"),
    [("SIGTERM", 2, Stopped), ("SIGTERM", 1, RuntimeError), ("", 2, RuntimeError)],
)
def test_a_connection_lost_after_a_signal_is_a_stop(tree, tmp_path, monkeypatch, name, processes, error):
    """One process ended at once, in an evaluation; this one was already in the next step."""
    trainer = make_trainer(tree, tmp_path)

    def lose():
        trainer.stop.name = name
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(trainer, "_train", lose)
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    with pytest.raises(error, match="stopped by SIGTERM" if error is Stopped else "Connection closed"):
        trainer.run()


class GoneStore:
    """The store of a process that has ended."""

    def add(self, *_):
        raise torch.distributed.DistNetworkError("Failed to recv")

    check = add


def test_the_process_with_the_store_has_told_why_it_ended(monkeypatch):
    monkeypatch.setattr(distributed, "_store", GoneStore())
    assert distributed._was_told(attempt=1)
    assert not distributed._first_to_tell()
