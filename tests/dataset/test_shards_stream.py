"""The streamed mode: whole shards one after another, mixtures within a group of them."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dataset.index import Clip
from dataset.music import MUSICMixDataset, Sampling
from dataset.shards.stream import Stream
from engine.loaders import EpochSampler
from tests.dataset.packing import history, pack_all
from utils import UserError

CATEGORIES = ("cello", "flute", "tuba")
NUM_SHARDS, PER_SHARD, GROUP = 11, 6, 3


@pytest.fixture(scope="module")
def clips():
    """Rows without files, in an order that has nothing to do with the shards."""
    rows = [
        Clip(f"{shard}.tar/{CATEGORIES[n % 3]}/v{shard}-{n}.wav", f"{shard}.tar/x/v{shard}-{n}", 100)
        for shard in range(NUM_SHARDS)
        for n in range(PER_SHARD)
    ]
    return [rows[number] for number in np.random.default_rng(0).permutation(len(rows))]


def shard_of(clip):
    return int(clip.path_audio.split(".")[0])


def make(clips, endless=False, repeats=1):
    stream = Stream(clips, GROUP, 1234, endless)
    dataset = MUSICMixDataset(clips, Sampling(), True, repeats=repeats, stream=stream)
    length = 50 if endless else len(dataset)
    return dataset, EpochSampler(length, 2, len(clips) if endless else 0, stream)


@pytest.mark.parametrize("repeats", [1, 3])
def test_an_epoch_reads_each_group_once_and_mixes_within_it(clips, repeats):
    dataset, sampler = make(clips, repeats=repeats)
    sampler.seed = dataset.seed
    for epoch in (1, 2):
        sampler.epoch = epoch
        dataset.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == list(range(len(dataset)))
        groups = dataset.stream.groups(epoch)
        pairs = {*zip(groups.tolist(), map(shard_of, clips), strict=True)}
        shards = [[shard for at, shard in pairs if at == group] for group in range(3)]
        assert sorted(map(len, shards)) == [3, 3, 5]  # the two that are left are read with the last group
        read = [groups[index % len(clips)] for index in order]
        assert [key for key, _ in itertools.groupby(read)] == [0, 1, 2]
        assert order != sorted(order)
        for index in order:
            first, second = dataset.mixture(index)
            assert groups[first] == groups[second]
            assert clips[first].category != clips[second].category


def test_all_shards_meet_over_the_epochs(clips):
    stream = Stream(clips, GROUP, 1234)
    groups = [stream.groups(epoch) for epoch in range(60)]
    shards = [*map(shard_of, clips)]
    for one, other in itertools.combinations(map(shards.index, range(NUM_SHARDS)), 2):
        assert any(each[one] == each[other] for each in groups)


def test_the_endless_sequence_is_streamed_and_goes_on_within_a_pass(clips):
    dataset, sampler = make(clips, endless=True)
    sampler.seed, seen = dataset.seed, []
    for sampler.epoch in (1, 2, 3, 4):
        seen += list(sampler)
    assert sorted(seen[: len(clips)]) == list(range(len(clips)))
    for index in seen:
        number, clip = divmod(index, len(clips))
        groups = dataset.stream.groups(number)
        assert {groups[each] for each in dataset.mixture(index)} == {groups[clip]}


def test_the_original_pairs_stay_in_the_group(clips):
    dataset = MUSICMixDataset(clips, Sampling(), True, pairs="original", stream=Stream(clips, GROUP, 1))
    groups = dataset.stream.groups(0)
    assert all(len({groups[each] for each in dataset.mixture(index)}) == 1 for index in range(len(clips)))


def test_clips_on_disk_are_refused(clips):
    with pytest.raises(UserError, match=r"audio/a/b\.wav: --stream_shards needs clips in shards"):
        Stream([*clips, Clip("audio/a/b.wav", "frames/a/b", 9)], GROUP, 1)


def test_a_group_of_one_category_is_said(clips, monkeypatch):
    monkeypatch.setattr(MUSICMixDataset, "_load", lambda *_: 1)
    alike = [clip for clip in clips if shard_of(clip) % 3 == CATEGORIES.index(clip.category)]
    dataset = MUSICMixDataset(alike, Sampling(), True, stream=Stream(alike, 1, 1))
    [(_, reason)] = dataset[0]["info"]["failures"]
    assert reason == "all other clips in its group of shards (--stream_shards) share its category or video"


def test_training_streams_shards(tree, tmp_path, monkeypatch):
    packed = pack_all(tree[1], tmp_path / "shards", megabytes=0.01)
    found = [Clip(*packed[clip.name]) for clip in tree[1]]
    assert len({clip.path_audio.split(".tar")[0] for clip in found}) == len(found)
    streamed = history(found, tmp_path / "one", monkeypatch, "--stream_shards", "3")
    assert streamed == history(found, tmp_path / "two", monkeypatch, "--stream_shards", "3", "--workers", "2")
    assert streamed["val"] != history(found, tmp_path / "three", monkeypatch)["val"]


def test_workers_draw_from_the_group(clips, monkeypatch):
    dataset, _ = make(clips)

    class Drawn(torch.utils.data.Dataset):
        def __len__(self):
            return len(dataset)

        def __getitem__(self, index):
            return torch.tensor(dataset.mixture(index))

    drawn = list(DataLoader(Drawn(), batch_size=None, num_workers=2))
    assert [pair.tolist() for pair in drawn] == [dataset.mixture(index) for index in range(len(dataset))]
