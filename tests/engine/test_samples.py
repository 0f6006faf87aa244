"""--samples_per_epoch: epochs are parts of one sequence, in which every clip comes up once per pass."""

from collections import Counter

import numpy as np
import pytest
import torch

import main
from arguments import parse_args
from engine.loaders import build_train_loader, start_epoch
from engine.machine import distributed
from engine.options import run_folder
from engine.training.train import Trainer
from tests.engine.test_train import flags, read
from tests.helpers import Pool
from utils import Stopped, UserError

NUM_CLIPS, BATCH = 9, 4  # of the tree, and of its runs


def make_loader(tree, folder, samples):
    return build_train_loader(parse_args(flags(tree, folder, "--samples_per_epoch", str(samples))))


def order(loader, epoch, skipped=0):
    """The batches of an epoch, as lists of examples."""
    start_epoch(loader, epoch, skipped)
    return list(loader.batch_sampler)


@pytest.mark.parametrize("samples", [4, 8, 10, 40])
def test_epochs_of_any_size_go_on_in_the_list(tree, tmp_path, samples):
    loader = make_loader(tree, tmp_path, samples)
    assert len(loader) == samples // BATCH
    epochs = [order(loader, epoch) for epoch in range(1, 19)]
    assert all(len(batches) == len(loader) for batches in epochs)
    drawn = [number for batches in epochs for batch in batches for number in batch]
    passes = [drawn[start : start + NUM_CLIPS] for start in range(0, len(drawn), NUM_CLIPS)]
    assert all(sorted(n % NUM_CLIPS for n in one) == list(range(NUM_CLIPS)) for one in passes[:-1])
    assert len({tuple(n % NUM_CLIPS for n in one) for one in passes[:-1]}) > len(passes) // 2
    assert max(Counter(drawn).values()) == 1  # no example twice, so that no epoch repeats a mixture


def test_an_epoch_starts_at_any_step(tree, tmp_path):
    loader = make_loader(tree, tmp_path, 40)
    for skipped in range(11):
        assert order(loader, 3, skipped) == order(loader, 3)[skipped:]


def test_processes_share_the_batches_of_one(tree, tmp_path, monkeypatch):
    alone = [order(make_loader(tree, tmp_path, 10), epoch) for epoch in (1, 2)]
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        argv = flags(tree, tmp_path, "--samples_per_epoch", "10", "--batch_size_per_gpu", "2")
        loader = build_train_loader(parse_args(argv, processes=(2, 2)))
        parts.append([order(loader, epoch) for epoch in (1, 2)])
    for epoch, batches in enumerate(alone):
        for step, batch in enumerate(batches):
            assert sorted(batch) == sorted(parts[0][epoch][step] + parts[1][epoch][step])


def test_without_it_epochs_are_those_of_before(tree, tmp_path):
    loader = build_train_loader(parse_args(flags(tree, tmp_path, "--dup_trainset", "2")))
    seed = np.random.SeedSequence([loader.dataset.seed, 3]).generate_state(1)[0]
    shuffled = torch.randperm(18, generator=torch.Generator().manual_seed(int(seed)))
    assert [number for batch in order(loader, 3) for number in batch] == shuffled[:16].tolist()


def test_a_batch_must_fit_in_an_epoch(tree, tmp_path):
    with pytest.raises(UserError, match=r"exceeds the epoch's 3 samples: .* raise --samples_per_epoch"):
        make_loader(tree, tmp_path, 3)


def test_a_run_stopped_within_an_epoch_goes_on_as_if_it_had_not(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())
    more = "--samples_per_epoch 12 --num_epoch 2 --eval_epoch 2".split()
    histories = []
    step, count = Trainer._step, [0]

    def stopping(self, *arguments):
        loss = step(self, *arguments)
        count[0] += 1
        if count[0] == 5:  # the second of the second epoch's three
            self.stop.name = "SIGTERM"
        return loss

    for name in ("whole", "stopped"):
        argv = flags(tree, tmp_path / name, *more)
        if name == "stopped":
            monkeypatch.setattr(Trainer, "_step", stopping)
            with pytest.raises(Stopped):
                main.train(parse_args(argv))
        main.train(parse_args(argv))
        histories.append(read(run_folder(parse_args(argv)), "history.json"))
    assert histories[0] == histories[1]
    assert len(histories[0]["train"]["err"]) == 6
