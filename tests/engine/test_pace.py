"""What a run says about its progress: steps, loss, speed and time left."""

import logging
import re

import pytest
import torch

from engine.training.pace import Pace
from engine.training.train import Trainer
from tests.engine.test_train import make_trainer


class Clock:
    """Seconds that pass only when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_speed_is_of_the_epoch_and_time_left_is_of_the_run():
    clock = Clock()
    pace = Pace(20, clock)
    assert pace.left() is None
    pace.begin_epoch()
    for _ in range(5):
        clock.now += 2
        pace.step()
    assert (pace.steps(), pace.speed(), pace.left()) == (5, 0.5, 30)
    clock.now += 10  # an evaluation: each five steps take 20 s with it
    pace.begin_epoch()
    assert (pace.steps(), pace.speed(), pace.left()) == (0, 0, 60)
    clock.now += 1
    pace.step()
    assert (pace.steps(), pace.speed()) == (1, 1)


@pytest.fixture
def trainer(tree, tmp_path, monkeypatch):
    """A trainer of 4 epochs of 2 steps of 4 mixtures; a step takes 2 s and its loss is the epoch's number."""
    trainer, clock = make_trainer(tree, tmp_path), Clock()
    trainer.pace = Pace(8, clock)

    def step(self, batch, *parts):
        clock.now += 2
        return torch.tensor(float(self.epoch + 1))

    monkeypatch.setattr(Trainer, "_step", step)
    return trainer


def test_each_recorded_loss_is_a_line(trainer, caplog):
    caplog.set_level(logging.INFO)
    for epoch in (1, 2):
        trainer._train_epoch(epoch)
        trainer.epoch = epoch
    assert [message for message in caplog.messages if message.startswith("epoch")] == [
        "epoch 1/4, step 1/2, loss 1.0000, 2 mixtures/s, 14 s left",
        "epoch 1/4, step 2/2, loss 1.0000, 2 mixtures/s, 12 s left",
        "epoch 2/4, step 1/2, loss 2.0000, 2 mixtures/s, 10 s left",
        "epoch 2/4, step 2/2, loss 2.0000, 2 mixtures/s, 8 s left",
    ]


def test_lines_between_them_say_where_the_run_is(trainer):
    assert trainer._line("epoch 1/4") == "epoch 1/4, step 0/2, waiting for the first steps"
    trainer.pace.begin_epoch()
    trainer.pace.clock.now += 4
    trainer.pace.step()
    for loss in (0.5, 1.0):
        trainer._check((torch.tensor(loss), []))
    assert trainer.loss == 1.0, "of the last --disp_iter steps, here one"
    assert trainer._line("epoch 1/4") == "epoch 1/4, step 1/2, loss 1.0000, 1 mixtures/s, 28 s left"


def test_the_beginning_says_how_much_there_is_to_do_and_what_the_numbers_mean(tree, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trainer = make_trainer(tree, tmp_path, "--lr_frame", "0", "--weighted_loss", "1")
    trainer.epoch = 1
    trainer._announce()
    text = "\n".join(caplog.messages)
    assert "epochs left: 3, steps an epoch: 2, steps in all: 6, mixtures a step: 4" in text
    assert "sound 0.001, synthesizer 0.001, backbone 0, fc 0.001" in text
    assert re.search("binary cross-entropy .*, weighted by the mixture's energy; 0 is perfect", text)
