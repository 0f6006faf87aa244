"""heartbeat.json: how far a run is."""

import os
import socket
import time
from datetime import datetime

import pytest

import main
from arguments import parse_args
from engine.options import run_folder
from engine.training import heartbeat
from engine.training.train import Trainer
from tests.engine.test_train import flags, make_trainer, read
from tests.helpers import Pool


def test_a_report_says_how_far_a_run_is(tree, tmp_path):
    trainer = make_trainer(tree, tmp_path)
    found = heartbeat.describe(trainer)
    assert (found["phase"], found["epoch"], found["step"]) == ("training", 1, 0)
    assert (found["loss"], found["last_save"]) == (None, None)
    trainer._train_epoch(1)
    (tmp_path / heartbeat.FILE_STATE).touch()
    found = heartbeat.describe(trainer)
    assert (found["epoch"], found["num_epoch"]) == (1, 4)
    assert found["step"] == found["steps_per_epoch"] == len(trainer.loader)
    assert found["loss"] == trainer.history["train"]["err"][-1]
    assert found["mixtures_per_second"] > 0
    assert (found["host"], found["pid"]) == (socket.gethostname(), os.getpid())
    saved, now = (datetime.fromisoformat(found[key]).timestamp() for key in ("last_save", "time"))
    assert saved == int(os.path.getmtime(tmp_path / heartbeat.FILE_STATE)) <= now
    trainer.epoch, trainer.finished = 1, False
    found = heartbeat.describe(trainer)
    assert (found["phase"], found["epoch"]) == ("evaluating", 1)


def test_it_is_written_while_a_run_trains_and_says_how_it_ended(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())
    monkeypatch.setattr(heartbeat, "SECONDS", 0.01)
    argv = flags(tree, tmp_path, "--num_epoch", "2")
    folder, train_epoch = run_folder(parse_args(argv)), Trainer._train_epoch
    path = os.path.join(folder, heartbeat.FILE)

    def watched(self, epoch):
        train_epoch(self, epoch)
        while not os.path.exists(path) or read(folder, heartbeat.FILE)["epoch"] < epoch:
            time.sleep(0.01)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", watched)
        with pytest.raises(SystemExit):
            main.main(argv)
    found = read(folder, heartbeat.FILE)
    assert (found["phase"], found["epoch"]) == ("stopped", 1)
    main.main(argv)
    found = read(folder, heartbeat.FILE)
    assert (found["phase"], found["epoch"]) == ("finished", 2)


def test_a_full_disk_does_not_end_the_reports(tree, tmp_path, monkeypatch, caplog):
    def full(path, value):
        raise OSError(28, "No space left on device")

    trainer = make_trainer(tree, tmp_path)
    monkeypatch.setattr(heartbeat, "save_json", full)
    with heartbeat.heartbeat(trainer):
        pass
    assert "heartbeat.json: not written: [Errno 28] No space left on device" in caplog.text
