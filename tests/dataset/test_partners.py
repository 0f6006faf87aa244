"""Which clips may be mixed: the draws of a scan over all clips, without the scan."""

import numpy as np
import pytest

from dataset.index import Clip
from dataset.indexing.partners import KINDS, Partners


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
