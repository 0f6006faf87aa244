"""How rates fall over a run, and the average of the networks over its steps."""

import math
import os

import numpy as np
import pytest
import torch
from torch import nn

from arguments import parse_args
from engine.build import build_optimizer, build_separator
from engine.loaders import build_train_loader
from engine.training.average import Average
from engine.training.checkpoint import save_weights
from engine.training.schedule import rate_factor
from engine.training.train import Trainer
from tests.helpers import SMALL, small_args


def make_trainer(tree, tmp_path, *more):
    args = parse_args([*SMALL, "--list_train", f"{tree[0]}/train.csv", "--dup_trainset", "2", *more])
    separator = build_separator(args)
    optimizer, loader = build_optimizer(args, separator), build_train_loader(args)
    device = torch.device("cpu")
    return Trainer(args, str(tmp_path), separator, separator, device, optimizer, loader, evaluator=None)


def weights(separator):
    return [p.detach().clone() for p in separator.parameters()]


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


def test_the_average_is_the_formula_s():
    """After k steps: decay^k of the first weights, (1 - decay) decay^(k - i) of those of step i."""
    module, decay = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), 0.8
    average = Average(module, decay)
    states = []
    for number in range(4):
        with torch.no_grad():
            for tensor in (*module.parameters(), module[1].running_mean, module[1].running_var):
                tensor.copy_(torch.full_like(tensor, number + 1.0))
        average.update()
        states.append(number + 1.0)
    # torch's average begins with the weights after the first step.
    expected = states[0]
    for state in states[1:]:
        expected = decay * expected + (1 - decay) * state
    own = {key: value.clone() for key, value in module.state_dict().items()}
    with average.in_place():
        for value in module.state_dict().values():
            if value.is_floating_point():
                torch.testing.assert_close(value, torch.full_like(value, expected))
    assert all(torch.equal(value, own[key]) for key, value in module.state_dict().items())


def test_the_average_is_what_is_evaluated_and_saved(tree, tmp_path, monkeypatch):
    trainer = make_trainer(tree, tmp_path, "--ema", "0.5", "--num_epoch", "1", "--lr_sound", "0.05")
    trained, evaluated = [], []
    finish = Trainer._finish_epoch

    def finishing(self):
        trained.extend(weights(self.separator))
        finish(self)

    monkeypatch.setattr(Trainer, "_finish_epoch", finishing)
    monkeypatch.setattr(Trainer, "_evaluate", lambda self: evaluated.extend(weights(self.separator)) or True)
    trainer.run()
    after = weights(trainer.separator)
    assert all(torch.equal(p, q) for p, q in zip(after, trained, strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(evaluated, trained, strict=True))
    saved = torch.load(os.path.join(trainer.folder, "sound_best.pth"))
    for key, value in trainer.average.model.module.net_sound.state_dict().items():
        assert torch.equal(saved[key], value)


def test_without_an_average_the_networks_themselves_are_saved(tree, tmp_path):
    trainer = make_trainer(tree, tmp_path)
    assert trainer.average.state_dict() == {}
    with trainer.average.in_place():
        save_weights(trainer, is_best=True)
    saved = torch.load(os.path.join(trainer.folder, "sound_best.pth"))
    assert all(
        torch.equal(saved[key], value) for key, value in trainer.separator.net_sound.state_dict().items()
    )


@pytest.mark.parametrize("limit", [0.0, 1e-3])
def test_gradients_are_clipped_to_the_norm_that_is_asked_for(tree, tmp_path, limit):
    trainer = make_trainer(tree, tmp_path, "--clip_grad", str(limit), "--amp", "off")
    trainer._step(next(iter(trainer.loader)))
    norm = torch.stack([p.grad.norm() for p in trainer.separator.parameters() if p.grad is not None]).norm()
    assert norm == pytest.approx(limit, rel=1e-3) if limit else norm > 1e-3
