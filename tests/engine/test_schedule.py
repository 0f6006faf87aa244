"""Learning rates over a run."""

import math

import numpy as np
import torch

from arguments import parse_args
from engine.build import build_optimizer, build_separator
from engine.loaders import build_train_loader
from engine.training.schedule import rate_factor
from engine.training.train import Trainer
from tests.helpers import SMALL, small_args


def make_trainer(tree, tmp_path, *more):
    args = parse_args([*SMALL, "--list_train", f"{tree[0]}/train.csv", "--dup_trainset", "2", *more])
    separator = build_separator(args)
    optimizer, loader = build_optimizer(args, separator), build_train_loader(args)
    device = torch.device("cpu")
    return Trainer(args, str(tmp_path), separator, separator, device, optimizer, loader, evaluator=None)


def test_rates_fall_after_the_epochs_of_lr_steps():
    args = small_args("--lr_steps", "2", "4")
    factors = [rate_factor(args, done) for done in (0, 1, 1.9, 2, 3.5, 4, 9)]
    np.testing.assert_allclose(factors, [1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_cosine_falls_to_zero_at_the_end_of_the_run():
    args = small_args("--schedule", "cosine", "--num_epoch", "8")
    factors = [rate_factor(args, done) for done in np.linspace(0, 8, 50)]
    assert factors == sorted(factors, reverse=True)
    np.testing.assert_allclose([factors[0], rate_factor(args, 4), factors[-1]], [1, 0.5, 0], atol=1e-12)


def test_rates_rise_over_the_warm_up():
    args = small_args("--warmup", "2", "--lr_steps", "3")
    factors = [rate_factor(args, done) for done in (0, 0.5, 1, 2, 2.5, 3)]
    np.testing.assert_allclose(factors, [0, 0.25, 0.5, 1, 1, 0.1])


def test_each_group_s_rate_follows_the_schedule_step_by_step(tree, tmp_path, monkeypatch):
    trainer = make_trainer(tree, tmp_path, "--schedule", "cosine", "--num_epoch", "2", "--lr_frame", "1e-4")
    rates = []

    def step(self, batch, *parts):
        rates.append([group["lr"] for group in self.optimizer.param_groups])
        return torch.tensor(0.0)

    monkeypatch.setattr(Trainer, "_step", step)
    trainer._train_epoch(1)
    total = len(trainer.loader)
    factors = [(1 + math.cos(math.pi * step / total / 2)) / 2 for step in range(total)]
    np.testing.assert_allclose(rates, np.outer(factors, [1e-3, 1e-3, 1e-4, 1e-3]))
