"""Batch normalisation over all processes: which layers it replaces."""

import torch
from torch import nn

from engine.machine.distributed import average_norms
from engine.machine.sync_norm import SyncNorm, synchronise_norms


def test_frozen_layers_are_left_alone(monkeypatch):
    frozen, trained = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    module = nn.Sequential(frozen.eval(), trained)
    synchronise_norms(module, torch.device("cpu"))
    assert module[0] is frozen
    assert isinstance(module[1], SyncNorm)
    assert module[1].weight is trained.weight
    averaged = []
    monkeypatch.setattr("engine.machine.distributed._reduce", lambda x, op: averaged.append(x) or x + 1)
    average_norms(module)
    assert len(averaged) == 2
    assert frozen.running_mean.tolist() == [0, 0]
    assert module[1].running_mean.tolist() == [1, 1]
