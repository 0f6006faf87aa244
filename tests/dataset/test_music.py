"""The data set: which clips are mixed, at which moment, and how unreadable clips are handled."""

import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import limits
from dataset import music
from dataset.audio import read_window
from dataset.index import Clip
from dataset.music import MUSICMixDataset, Sampling, _draw_centre, _frame_numbers, collate
from utils import UserError

SAMPLING = Sampling(num_frames=3, stride_frames=4, img_size=32, aud_len=16383)


def make(clips, train=True, sampling=SAMPLING, **kwargs):
    return MUSICMixDataset(clips, sampling, train, **kwargs)


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in ("mix", "sources", "frames")) and a["info"] == b["info"]


def test_item_has_the_batch_format_and_the_mixture_is_the_sum(tree):
    item = make(tree[1])[4]
    assert item["mix"].shape == (16383,)
    assert item["sources"].shape == (2, 16383)
    assert item["frames"].shape == (2, 3, 3, 32, 32)
    assert item["frames"].dtype == torch.uint8
    torch.testing.assert_close(item["mix"], item["sources"].sum(0))
    assert item["info"]["clips"][0] == 4


def test_evaluation_takes_the_middle_of_the_clip(tree):
    clips = tree[1]
    item = make(clips, train=False)[2]
    first, second = item["info"]["clips"]
    assert item["info"]["centres"] == [80, 80]
    for n, number in enumerate((first, second)):
        wave = read_window(clips[number].path_audio, 79.5 / 8, 16383, 11025)
        np.testing.assert_allclose(item["sources"][n], wave / 2, atol=1e-7)


def test_sources_are_divided_by_their_number(tree):
    sampling = SAMPLING._replace(num_mix=3)
    item = make(tree[1], train=False, sampling=sampling)[0]
    wave = read_window(tree[1][0].path_audio, 79.5 / 8, 16383, 11025)
    np.testing.assert_allclose(item["sources"][0], wave / 3, atol=1e-7)


def test_training_scales_volumes_within_the_range(tree):
    dataset = make(tree[1], repeats=4)
    factors = []
    for index in range(len(dataset)):
        item = dataset[index]
        for n, number in enumerate(item["info"]["clips"]):
            centre = item["info"]["centres"][n]
            wave = read_window(tree[1][number].path_audio, (centre - 0.5) / 8, 16383, 11025)
            factors.append(float(2 * item["sources"][n].abs().sum() / np.abs(wave).sum()))
    assert 0.5 <= min(factors) < 0.7
    assert 1.3 < max(factors) <= 1.5001


def test_randomness_depends_on_seed_epoch_and_index_alone(tree):
    one, other = make(tree[1]), make(tree[1])
    items = [one[index] for index in range(6)]
    assert all(same(items[index], other[index]) for index in reversed(range(6)))
    one.set_epoch(1)
    assert not same(one[0], items[0])
    assert not same(make(tree[1], seed=5)[0], items[0])
    one.set_epoch(0)
    assert same(one[0], items[0])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_and_see_new_epochs(tree, workers):
    alone, dataset = make(tree[1]), make(tree[1])
    loader = DataLoader(
        dataset, batch_size=3, num_workers=workers, collate_fn=collate, persistent_workers=True
    )
    for epoch in range(2):
        alone.set_epoch(epoch)
        dataset.set_epoch(epoch)
        mixes = torch.cat([batch["mix"] for batch in loader])
        torch.testing.assert_close(mixes, torch.stack([alone[index]["mix"] for index in range(9)]))


def test_evaluation_is_the_same_in_every_epoch(tree):
    dataset = make(tree[1], train=False)
    item = dataset[3]
    dataset.set_epoch(7)
    assert same(dataset[3], item)


def test_views_change_only_what_is_seen(tree):
    plain, viewed = make(tree[1]), make(tree[1], views=5)
    drawn = set()
    for epoch in range(10):
        plain.set_epoch(epoch)
        viewed.set_epoch(epoch)
        one, other = plain[4], viewed[4]
        assert one["info"] == other["info"]
        assert torch.equal(one["mix"], other["mix"])
        assert other["frames"].dtype == torch.int64
        assert (other["frames"] // 5).tolist() == other["info"]["clips"]
        drawn |= {int(number) % 5 for number in other["frames"]}
    assert drawn == set(range(5))


def test_after_the_epochs_of_views_items_hold_frames_again(tree):
    plain, viewed = make(tree[1]), make(tree[1], views=5, view_epochs=2)
    viewed.unreadable[0] = "gone"
    for dataset in (plain, viewed):
        dataset.set_epoch(2)
    assert viewed[4]["frames"].dtype == torch.int64
    assert viewed[0]["info"]["failures"] == [(tree[1][0].name, "gone")]
    for dataset in (plain, viewed):
        dataset.set_epoch(3)
    for index in (0, 4):
        for key in ("sources", "frames"):
            assert torch.equal(viewed[index][key], plain[index][key])
        assert viewed[index]["info"] == plain[index]["info"]


def test_views_of_a_clip_are_always_the_same_and_all_different(tree):
    pictures = make(tree[1], views=4).view_clip(2)
    assert pictures.shape == (4, 3, 3, 32, 32)
    assert torch.equal(make(tree[1], views=4).view_clip(2), pictures)
    assert torch.equal(make(tree[1], views=5).view_clip(2)[:4], pictures)
    assert len(torch.unique(pictures.flatten(1), dim=0)) == 4
    assert not torch.equal(make(tree[1], views=4, seed=5).view_clip(2), pictures)


def test_a_clip_whose_views_cannot_be_made_is_replaced(tree):
    dataset = make(tree[1], views=2)
    dataset.unreadable[4] = "no such picture"
    item = dataset[4]
    assert 4 not in item["info"]["clips"]
    assert item["info"]["failures"] == [(tree[1][4].name, "no such picture")]


def test_an_epoch_of_no_given_number_of_rounds_has_about_a_thousand_items(tree):
    assert len(make(tree[1], repeats=0)) == 9 * round(1000 / 9)
    assert len(make(tree[1], train=False, repeats=0)) == 9


@pytest.mark.parametrize("train", [True, False])
def test_pairs(tree, train):
    clips = tree[1]
    for num_mix in (2, 3):
        sampling = SAMPLING._replace(num_mix=num_mix)
        for index in range(9):
            for pairs in ("category", "video"):
                item = make(clips, train=train, sampling=sampling, pairs=pairs)[index]
                picked = [clips[number] for number in item["info"]["clips"]]
                assert len({clip.id for clip in picked}) == num_mix
                if pairs == "category":
                    assert len({clip.category for clip in picked}) == num_mix


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("num_mix", [2, 3])
def test_a_video_in_two_categories_is_not_mixed_with_itself(tree, train, num_mix):
    clips = list(tree[1])
    for n in (1, 2):  # violin0 is in all three categories
        clips[n] = clips[n]._replace(path_audio=f"audio/{clips[n].category}/violin0.wav")
    dataset = make(clips, train=train, sampling=SAMPLING._replace(num_mix=num_mix), repeats=20)
    rng = np.random.default_rng(0)
    for draw in range(200):
        picked = [draw % 9]
        while len(picked) < num_mix:
            picked.append(dataset._pick(0, picked, [], rng, None))
        assert len({clips[number].id for number in picked}) == num_mix
        assert len({clips[number].category for number in picked}) == num_mix


def test_a_clip_without_a_partner_is_left_out_with_a_reason(tree):
    first = tree[1][0]
    clips = [first, first._replace(path_audio=f"tuba/{first.id}.wav"), tree[1][3]]
    assert [clip.name for clip in clips] == ["violin/violin0", "tuba/violin0", "violin/violin1"]
    item = make(clips)[0]
    assert "mix" not in item
    assert item["info"]["failures"] == [("violin/violin0", "all other clips share its category or video")]
    with pytest.raises(UserError, match=r"2 need clips of 2 different videos, found 1 in 2 clips"):
        make(clips[:2])


def test_fixed_mixtures_are_taken_as_they_are(tree):
    clips, mixtures = tree[1], [(4, 2), (0, 1), (8, 4), (3, 0)]
    dataset = make(clips, train=False, mixtures=mixtures, repeats=7)
    assert len(dataset) == 4
    assert [tuple(dataset[index]["info"]["clips"]) for index in range(4)] == mixtures
    wave = read_window(clips[2].path_audio, 79.5 / 8, 16383, 11025)
    np.testing.assert_allclose(dataset[0]["sources"][1], wave / 2, atol=1e-7)
    three = make(clips[:3], False, SAMPLING._replace(num_mix=3), mixtures=[(2, 0, 1)])
    assert three[0]["info"]["clips"] == [2, 0, 1]
    assert make(clips[:1] * 2, train=False, mixtures=[(0, 1)])[0]["info"]["clips"] == [0, 1]


def test_all_partners_are_drawn(tree):
    dataset = make(tree[1], pairs="category", repeats=30)
    partners = {dataset[index]["info"]["clips"][1] for index in range(0, len(dataset), 9)}
    assert partners == {1, 2, 4, 5, 7, 8}  # all clips of other categories than clip 0's


def test_original_pairs_follow_their_definition(tree):
    dataset = make(tree[1], train=False, pairs="original", sampling=SAMPLING._replace(num_mix=3))
    for index in range(len(dataset)):
        random.seed(index)
        expected = [index, *(random.randint(0, len(dataset) - 1) for _ in range(2))]
        assert dataset[index]["info"]["clips"] == expected


def test_num_val_limits_the_list_and_repeats_lengthen_it(tree):
    assert len(make(tree[1], train=False, max_items=4)) == 4
    assert len(make(tree[1], train=True, repeats=5)) == 45


def test_too_few_groups_are_refused(tree):
    violins = [clip for clip in tree[1] if clip.category == "violin"]
    with pytest.raises(UserError, match=r"2 need clips of 2 different categories.*found 1 in 3 clips.*video"):
        make(violins)
    assert len(make(violins, pairs="video")[0]["info"]["clips"]) == 2
    with pytest.raises(UserError, match=r"different videos, found 1"):
        make(violins[:1], pairs="video")
    assert make(violins[:1], pairs="original", train=False)[0]["info"]["clips"] == [0, 0]


@pytest.mark.parametrize(
    ("count", "margin"),
    [(1, 0), (2, 0), (5, 2), (49, 24), (100, 24), (128, 24), (129, 64), (130, 64), (400, 64)],
)
def test_centre_frames_keep_away_from_the_ends_if_the_clip_allows(count, margin):
    rng = np.random.default_rng(0)
    centres = [_draw_centre(count, Sampling(), rng) for _ in range(4000)]
    assert min(centres) == margin + 1
    assert max(centres) == count - margin


def test_frame_numbers():
    assert _frame_numbers(100, 3, 24, 400) == [76, 100, 124]
    assert _frame_numbers(10, 3, 24, 20) == [1, 10, 20]


@pytest.fixture
def broken(tree, tmp_path):
    """The tree's clips, of which number 0 lacks its audio and number 4 a frame."""
    root = tmp_path / "tree"
    shutil.copytree(tree[0], root)
    clips = [
        Clip(
            c.path_audio.replace(tree[0], str(root)), c.path_frames.replace(tree[0], str(root)), c.num_frames
        )
        for c in tree[1]
    ]
    os.remove(clips[0].path_audio)
    os.remove(os.path.join(clips[4].path_frames, "000080.jpg"))
    return clips


def test_training_replaces_unreadable_clips(broken):
    item = make(broken)[0]
    assert 0 not in item["info"]["clips"]
    assert item["info"]["failures"][0][0] == "violin/violin0"
    assert "violin0.wav" in item["info"]["failures"][0][1]
    assert same(item, make(broken)[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_clip_that_is_never_read_counts_as_unreadable(tree, monkeypatch, workers):
    """As on a network disk that does not answer."""

    def hang(path, *args):
        if "violin0" in os.path.basename(path):
            time.sleep(600)
        return read_window(path, *args)

    monkeypatch.setattr(music, "read_window", hang)
    monkeypatch.setattr(limits, "SECONDS_TO_READ", 2)
    loader = DataLoader(make(tree[1]), batch_size=None, num_workers=workers)
    [(name, reason)] = next(iter(loader))["info"]["failures"]
    assert name == "violin/violin0"
    assert reason == "violin/violin0: not read within 2 s (SOP_SECONDS_TO_READ)"
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_evaluation_skips_unreadable_clips(broken):
    dataset = make(broken, train=False)
    items = [dataset[index] for index in range(len(dataset))]
    assert "mix" not in items[0]
    assert "mix" not in items[4]
    batch = collate(items)
    assert len(batch["info"]) == len(batch["mix"]) == len(batch["frames"])
    assert {info["index"] for info in batch["dropped"]} >= {0, 4}
    assert len(batch["info"]) + len(batch["dropped"]) == len(dataset)
    assert "mix" not in collate([items[0]])


def test_unreadable_fixed_mixtures_are_skipped(broken):
    dataset = make(broken, train=False, mixtures=[(1, 3), (1, 0), (0, 2)])
    items = [dataset[index] for index in range(3)]
    assert ["mix" in item for item in items] == [True, False, False]
    assert {item["info"]["failures"][0][0] for item in items[1:]} == {"violin/violin0"}


def test_an_example_is_given_up_when_nothing_can_be_read(tmp_path):
    clips = [Clip(f"{tmp_path}/{n % 3}/{n}.wav", f"{tmp_path}/{n}", 200) for n in range(30)]
    item = make(clips)[0]
    assert "mix" not in item
    assert 1 < len(item["info"]["failures"]) <= 11
