"""Fixed mixtures: evenly spread, and determined by the seed alone."""

import random
from collections import Counter
from itertools import combinations

import pytest

from dataset.index import Clip, read_index, read_mixtures
from dataset.indexing.mixtures import draw_mixtures, draw_same, without_partners
from tests.helpers import create, keys, make_clip


def make_clips(**counts):
    return [Clip(f"audio/{name}.wav", f"frames/{name}", 100) for name in keys(**counts)]


CLIPS = make_clips(flute=7, tuba=5, erhu=9, cello=6)


def categories(mixture):
    return tuple(sorted(clip.category for clip in mixture))


@pytest.mark.parametrize("num_mix", [2, 3])
@pytest.mark.parametrize(("num_mixtures", "seed"), [(1, 1), (3, 1), (50, 1), (50, 2), (256, 1)])
def test_categories_and_clips_occur_evenly(num_mix, num_mixtures, seed):
    mixtures = draw_mixtures(CLIPS, num_mix, num_mixtures, seed)
    pairs = Counter(categories(mixture) for mixture in mixtures)
    possible = [
        len([1 for clip in CLIPS if clip.category == a]) * len([1 for clip in CLIPS if clip.category == b])
        for a, b in combinations(("flute", "tuba", "erhu", "cello"), 2)
    ]
    assert num_mix == 3 or len(mixtures) == min(num_mixtures, sum(possible))
    assert len({frozenset(mixture) for mixture in mixtures}) == len(mixtures)
    for mixture in mixtures:
        assert len({clip.category for clip in mixture}) == len({clip.id for clip in mixture}) == num_mix
    if num_mixtures < 180:  # every pair has at least 30 mixtures
        assert len(mixtures) == num_mixtures
        assert max(pairs.values()) - (min(pairs.values()) if num_mixtures >= 6 else 0) <= 1
    for pair in pairs:
        used = Counter(clip for mixture in mixtures if categories(mixture) == pair for clip in mixture)
        for category in pair:
            numbers = [used[clip] for clip in CLIPS if clip.category == category]
            assert max(numbers) - min(numbers) <= 2


def test_a_pair_with_few_clips_gives_all_its_mixtures():
    mixtures = draw_mixtures(make_clips(flute=2, tuba=2, erhu=20), 2, 60, seed=1)
    pairs = Counter(categories(mixture) for mixture in mixtures)
    assert pairs == {("flute", "tuba"): 4, ("erhu", "flute"): 28, ("erhu", "tuba"): 28}
    assert len(draw_mixtures(make_clips(flute=2, tuba=3), 2, 256, seed=1)) == 6


def test_all_clips_of_a_large_list_are_used_alike():
    clips = make_clips(**{f"c{number:02d}": 95 for number in range(21)})
    for num_mix in (2, 3):
        mixtures = draw_mixtures(clips, num_mix, 256, seed=1)
        assert len(mixtures) == 256
        assert max(Counter(clip for mixture in mixtures for clip in mixture).values()) == 1
        assert len({categories(mixture) for mixture in mixtures}) == (210 if num_mix == 2 else 256)


def test_the_first_rows_stand_for_all():
    mixtures = draw_mixtures(CLIPS, 2, 60, seed=1)
    assert mixtures[:10] == draw_mixtures(CLIPS, 2, 10, seed=1)
    for start in range(0, 60, 6):
        assert len({categories(mixture) for mixture in mixtures[start : start + 6]}) == 6


def test_mixtures_depend_on_seed_and_names_alone():
    shuffled = random.Random(1).sample(CLIPS, len(CLIPS))
    mixtures = draw_mixtures(CLIPS, 2, 40, seed=1)
    assert draw_mixtures(shuffled, 2, 40, seed=1) == mixtures
    assert draw_mixtures(CLIPS, 2, 40, seed=2) != mixtures
    moved = [clip._replace(path_audio=f"/mnt/{clip.path_audio}") for clip in CLIPS]
    names = [[clip.name for clip in mixture] for mixture in mixtures]
    assert [[clip.name for clip in mixture] for mixture in draw_mixtures(moved, 2, 40, seed=1)] == names


def test_mixtures_are_those_of_every_python():
    """They must not change between versions, as published scores depend on them."""
    mixtures = draw_mixtures(make_clips(flute=2, tuba=2, erhu=2), 2, 4, seed=1234)
    assert [[clip.name for clip in mixture] for mixture in mixtures] == [
        ["flute/fl000000001", "tuba/tu000000001"],
        ["erhu/er000000000", "flute/fl000000000"],
        ["erhu/er000000001", "tuba/tu000000000"],
        ["flute/fl000000000", "tuba/tu000000000"],
    ]


def test_a_video_is_not_mixed_with_itself():
    clips = [Clip(f"audio/{name}.wav", "f", 9) for name in ("flute/a", "tuba/a", "tuba/b")]
    (mixture,) = draw_mixtures(clips, 2, 10, seed=1)
    assert {clip.name for clip in mixture} == {"flute/a", "tuba/b"}
    assert draw_mixtures(clips[:2], 2, 10, seed=1) == []


def test_lists_of_mixtures_are_written(tmp_path, capsys):
    for key in keys(flute=8, tuba=8):
        make_clip(tmp_path, key, num_frames=8)
    val = create(tmp_path, "--min_seconds=1", "--trainset_ratio=0.5", "--num_mixtures=9")[1]
    mixtures = read_mixtures(tmp_path / "val_mix2.csv")
    assert len(mixtures) == 9
    assert {clip for mixture in mixtures for clip in mixture} == set(val)
    assert mixtures == draw_mixtures(read_index(tmp_path / "val.csv"), 2, 9, 1234)
    printed = capsys.readouterr().out
    assert f"wrote {tmp_path}/val_mix2.csv: 9 mixtures of 2" in printed
    assert "no val_mix3.csv: needs validation clips of 3 categories" in printed
    assert not (tmp_path / "val_mix3.csv").exists()


@pytest.mark.parametrize("num_mix", [2, 3])
def test_mixtures_of_one_category_are_of_different_videos_and_distinct(num_mix):
    mixtures = draw_same(CLIPS, num_mix, seed=1)
    assert len(mixtures) == len(CLIPS)
    assert len({frozenset(mixture) for mixture in mixtures}) == len(mixtures)
    for clip, mixture in zip(CLIPS, mixtures, strict=True):
        assert mixture[0] == clip
        assert {one.category for one in mixture} == {clip.category}
        assert len({one.id for one in mixture}) == num_mix
    assert draw_same(CLIPS, num_mix, seed=1) == mixtures
    assert draw_same(CLIPS, num_mix, seed=2) != mixtures


def test_clips_without_partners_are_left_out_of_mixtures_of_one_category():
    clips = make_clips(flute=2, tuba=1, erhu=3)
    clips += [clips[2]._replace(num_frames=50)]  # the tuba's video again
    assert [clip.category for clip in without_partners(clips, 2)] == ["tuba", "tuba"]
    assert len(without_partners(clips, 3)) == 4
    pairs = draw_same(clips, 2, seed=1)
    assert Counter(mixture[0].category for mixture in pairs) == {"flute": 1, "erhu": 3}
    assert draw_same(clips[:3], 3, seed=1) == []
