"""Which clips may be mixed: the draws of a scan over all clips, without the scan."""

import numpy as np
import pytest

from dataset.index import Clip
from dataset.indexing.partners import KINDS, LabelSets, Partners


def make_clips(rng, count):
    """Clips of up to 7 categories; some share a video."""
    names = [(rng.integers(7), rng.integers(max(1, count // 2))) for _ in range(count)]
    return [Clip(f"audio/c{category}/v{video}.wav", "frames", 10) for category, video in names]


def scan(clips, pairs, picked, failed):
    """The sorted numbers of the clips that may be mixed with `picked`, by looking at each."""
    keys = [{"category": clip.category, "video": clip.id} for clip in clips]
    return [
        number
        for number, key in enumerate(keys)
        if number not in failed and all(key[kind] != keys[n][kind] for kind in KINDS[pairs] for n in picked)
    ]


@pytest.mark.parametrize("pairs", ["category", "video"])
def test_draws_are_those_of_a_choice_among_all_allowed_clips(pairs):
    rng = np.random.default_rng(0)
    for trial in range(300):
        clips = make_clips(rng, int(rng.integers(1, 60)))
        picked = rng.integers(len(clips), size=rng.integers(1, 4)).tolist()
        failed = rng.integers(len(clips), size=rng.integers(0, 3)).tolist()
        allowed = scan(clips, pairs, picked, failed)
        drawn = Partners(clips, pairs).draw(picked, failed, np.random.default_rng(trial))
        assert drawn == (np.random.default_rng(trial).choice(allowed) if allowed else None)


def test_nothing_picked_yet_leaves_all_but_the_failed():
    clips = [Clip(f"a/c{n}/v{n}.wav", "frames", 10) for n in range(4)]
    partners = Partners(clips, "category")
    assert {partners.draw([], [0, 2], np.random.default_rng(seed)) for seed in range(50)} == {1, 3}
    assert partners.draw([], [0, 1, 2, 3], np.random.default_rng(0)) is None
    assert partners.num_labels() == {"category": 4, "video": 4}


def make_sets(rng, count, most):
    """The labels of clips: up to `most` of seven each."""
    sets = [rng.choice(7, rng.integers(1, most + 1), replace=False).tolist() for _ in range(count)]
    starts = np.cumsum([0, *map(len, sets)])
    return sets, LabelSets(starts, np.array([label for one in sets for label in one], np.int32))


def test_one_label_a_clip_draws_as_its_category_does():
    rng = np.random.default_rng(1)
    for trial in range(100):
        count = int(rng.integers(1, 60))
        sets, labels = make_sets(rng, count, 1)
        clips = [Clip(f"audio/c{label}/v{n // 2}.wav", "frames", 10) for n, (label,) in enumerate(sets)]
        picked = rng.integers(count, size=2).tolist()
        one, other = (
            Partners(clips, "category", each).draw(picked, [0], np.random.default_rng(trial))
            for each in (None, labels)
        )
        assert one == other


def test_clips_with_a_label_in_common_are_never_mixed_and_all_others_are_drawn():
    rng = np.random.default_rng(2)
    for _ in range(40):
        count = int(rng.integers(2, 30))
        sets, labels = make_sets(rng, count, 3)
        clips = [Clip(f"audio/x/v{n // 2}.wav", "frames", 10) for n in range(count)]
        picked, failed = rng.integers(count, size=1).tolist(), rng.integers(count, size=1).tolist()
        allowed = {
            n
            for n in range(count)
            if n not in failed and all(not {*sets[n]} & {*sets[p]} and n // 2 != p // 2 for p in picked)
        }
        partners = Partners(clips, "category", labels)
        drawn = {partners.draw(picked, failed, rng) for _ in range(300)}
        assert drawn == (allowed or {None})


def test_the_few_clips_left_are_drawn_evenly():
    count = 20_000
    sets = [[0, 1]] * (count - 2) + [[2]] * 2
    labels = LabelSets(
        np.cumsum([0, *map(len, sets)]), np.array([label for one in sets for label in one], np.int32)
    )
    clips = [Clip(f"audio/x/v{n}.wav", "frames", 10) for n in range(count)]
    partners = Partners(clips, "category", labels)
    assert partners.num_labels()["category"] == 3
    drawn = [partners.draw([5], [], np.random.default_rng(seed)) for seed in range(40)]
    assert set(drawn) == {count - 2, count - 1}
    assert 8 < drawn.count(count - 1) < 32


def test_segments_of_one_video_are_never_mixed():
    clips = [Clip(f"audio/c{n}/aaaaaaaaaaa_{n:06d}.wav", "frames", 10) for n in range(3)]
    clips.append(Clip("audio/c9/bbbbbbbbbbb_000000.wav", "frames", 10))
    for pairs in ("category", "video"):
        drawn = {Partners(clips, pairs).draw([0], [], np.random.default_rng(seed)) for seed in range(20)}
        assert drawn == {3}
