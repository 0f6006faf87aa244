"""Intervals contain the true mean as often as they claim; statistics are of the right mixtures."""

import json

import numpy as np
import pytest
from scipy.stats import t

from engine.evaluation.report import summary_line, write_metrics
from engine.evaluation.statistics import describe, interval, score_statistics
from tests.helpers import table

TRIALS = 1000
MU = 7.0  # dB, the true mean of simulated scores
# Number of clips, mixtures of each, sources of a mixture.
DESIGNS = [(20, 2, 2), (20, 8, 2), (60, 2, 2), (60, 8, 2), (200, 2, 2), (200, 8, 2), (60, 8, 3), (200, 8, 4)]
EFFECTS = {"small": 0.3, "equal": 1.0, "large": 4.0}  # standard deviation of clips' effects; of the noise: 1


def pair_up(num_clips, times, num_mix, random):
    """Mixtures [M, num_mix] of different clips, each clip in `times` of them."""
    rest = np.concatenate([random.permutation(num_clips) for _ in range(times)])
    mixtures = rest[: len(rest) // num_mix * num_mix].reshape(-1, num_mix)
    while bad := [m for m, clips in enumerate(mixtures) if len(set(clips)) < num_mix]:
        for m in bad:  # swap with another mixture until no mixture has a clip twice
            one, other = ((row, random.integers(num_mix)) for row in (m, random.integers(len(mixtures))))
            mixtures[one], mixtures[other] = mixtures[other], mixtures[one]
    return mixtures


def simulate(mixtures, effect, random):
    """Scores [TRIALS, M] of mixtures: the mean, an effect of each clip, noise."""
    effects = effect * random.standard_normal((TRIALS, mixtures.max() + 1))
    return MU + effects[:, mixtures].sum(axis=-1) + random.standard_normal((TRIALS, len(mixtures)))


def naive_interval(values):
    """The interval of a mean of independent values."""
    width = t.ppf(0.975, values.shape[-1] - 1) * values.std(axis=-1, ddof=1) / values.shape[-1] ** 0.5
    return values.mean(axis=-1) - width, values.mean(axis=-1) + width


def coverage(ends, truth=MU):
    """The share of intervals that contain the truth."""
    low, high = ends
    return np.mean((low <= truth) & (truth <= high))


def trial(design, effect):
    """The coverage of our intervals and of naive ones."""
    random = np.random.default_rng(0)
    mixtures = pair_up(*design, random)
    values = simulate(mixtures, EFFECTS[effect], random)
    return coverage(interval(values, mixtures.tolist())), coverage(naive_interval(values))


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_contain_the_mean_as_often_as_they_say(design, effect):
    ours, naive = trial(design, effect)
    assert 0.93 <= ours <= 0.97
    if effect != "small":
        assert naive < 0.90


def test_naive_intervals_fail_the_same_test_by_far():
    assert trial((200, 8, 2), "large")[1] < 0.6


def test_differences_of_two_runs_are_covered():
    random = np.random.default_rng(0)
    mixtures = pair_up(40, 4, 2, random)
    one, other = simulate(mixtures, 4.0, random), simulate(mixtures, 0.5, random)
    shared = simulate(mixtures, 8.0, random)  # what makes mixtures hard for both
    assert 0.93 <= coverage(interval(one + shared - (other + shared), mixtures.tolist()), 0.0) <= 0.97


def test_of_mixtures_that_share_no_clips_the_interval_is_the_usual_one():
    values = np.random.default_rng(0).standard_normal((3, 25))
    clips = [[2 * m, 2 * m + 1] for m in range(25)]
    np.testing.assert_allclose(interval(values, clips), naive_interval(values), rtol=1e-9)


def test_a_repeated_mixture_narrows_nothing():
    values = np.random.default_rng(0).standard_normal((2, 30))
    clips = [[2 * m, 2 * m + 1] for m in range(30)]
    low, high = interval(values, clips)
    twice = interval(np.concatenate([values, values], axis=1), clips + clips)
    np.testing.assert_allclose(twice[1] - twice[0], high - low, rtol=0.1)


@pytest.mark.parametrize("clips", [[["a", "b"]], [["a", "b"], ["a", "c"], ["d", "a"]]])
def test_without_a_second_clip_there_is_no_interval(clips):
    found = describe({"sdr": np.arange(len(clips))}, clips)["sdr"]
    assert (found["low"], found["high"], found["num_mixtures"]) == (None, None, len(clips))


def test_equal_scores_have_an_interval_without_width():
    found = describe({"sdr": [3.0, 3.0, 3.0]}, [["a", "b"], ["b", "c"], ["c", "d"]])["sdr"]
    assert (found["low"], found["high"]) == (3.0, 3.0)


def test_means_and_medians_are_of_finite_scores():
    clips = [["a", "b"], ["b", "c"], ["c", "d"], ["e", "f"], ["g", "h"]]
    scores = {"sdr": [1, 2, 6, np.nan, np.inf], "sir": 5 * [np.nan], "sar": [0, 0, 0, 0, 9]}
    found = describe(scores, clips)
    assert list(found) == ["sdr", "sar"]
    assert (found["sdr"]["mean"], found["sdr"]["median"]) == (3, 2)
    assert (found["sdr"]["num_mixtures"], found["sdr"]["num_clips"]) == (3, 4)
    assert (found["sar"]["mean"], found["sar"]["num_mixtures"], found["sar"]["num_clips"]) == (1.8, 5, 8)


def mixture(*clips, **scores):
    """(clips, scores) of a mixture; clips: such as "flute/a"."""
    scores = {key: np.array(values) for key, values in scores.items()}
    return [(clip.split("/")[0], clip) for clip in clips], scores


MIXTURES = [
    mixture("flute/a", "cello/b", sdr=[4, 8], sdr_mixture=[1, 1]),
    mixture("cello/b", "flute/c", sdr=[2, 10], sdr_mixture=[0, 4]),
    mixture("cello/d", "drum/e", sdr=[6, 0], sdr_mixture=[0, np.nan]),
]


def test_statistics_by_category_are_of_its_own_sources():
    found = score_statistics(MIXTURES)
    means = {category: each["sdr"]["mean"] for category, each in found["by_category"].items()}
    assert means == {"cello": 16 / 3, "drum": 0, "flute": 7}
    assert found["statistics"]["sdr"]["mean"] == pytest.approx((6 + 6 + 3) / 3)
    assert found["by_category"]["flute"]["sdr"]["num_clips"] == 3


def test_statistics_by_pair_are_of_the_first_in_mixtures_with_the_second():
    pairs = score_statistics(MIXTURES)["by_pair"]
    means = {(a, b): each["sdr"]["mean"] for a, others in pairs.items() for b, each in others.items()}
    assert means == {
        ("flute", "cello"): 7,
        ("cello", "flute"): 5,
        ("cello", "drum"): 6,
        ("drum", "cello"): 0,
    }


def test_gains_are_over_the_mixture_and_need_its_score():
    found = score_statistics(MIXTURES)["statistics"]
    assert found["sdr_gain"]["mean"] == pytest.approx((5 + 4) / 2)
    assert found["sdr_gain"]["num_mixtures"] == 2
    assert "si_sdr_gain" not in found


def test_two_of_a_category_are_a_pair_and_a_clip_with_itself_too():
    mixtures = [mixture("flute/a", "flute/b", sdr=[1, 3]), mixture("flute/a", "flute/a", sdr=[5, 5])]
    found = score_statistics(mixtures)
    assert found["by_pair"]["flute"]["flute"]["sdr"]["mean"] == 3.5
    assert found["by_pair"]["flute"]["flute"]["sdr"]["low"] is None


def test_of_three_sources_each_category_has_two_others():
    pairs = score_statistics([mixture("a/1", "b/2", "c/3", sdr=[1, 2, 3])])["by_pair"]
    assert {category: list(others) for category, others in pairs.items()} == {
        "a": ["b", "c"],
        "b": ["a", "c"],
        "c": ["a", "b"],
    }


@pytest.mark.parametrize("mixtures", [[], [mixture("x", "y", sdr=[np.nan, 1])]])
def test_nothing_scored_has_no_statistics(mixtures):
    found = score_statistics(mixtures)
    assert found["statistics"] == {}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_clips_without_categories_have_no_parts():
    found = score_statistics([([("", "a"), ("", "b")], {"sdr": np.array([1.0, 2.0])})])
    assert found["statistics"]["sdr"]["mean"] == 1.5
    assert found["by_category"] == found["by_pair"] == {}


# ---- in files

COUNTS = dict.fromkeys(("num_mixtures", "num_failed", "num_silent", "num_clips_unreadable"), 3) | {"epoch": 1}


def test_the_summary_line_has_the_interval_after_the_sdr():
    found = {"statistics": describe({"sdr": [1.0, 2.0, 6.0]}, [["a", "b"], ["c", "d"], ["e", "f"]])}
    low, high = found["statistics"]["sdr"]["low"], found["statistics"]["sdr"]["high"]
    assert f"SDR: 3.0000 [{low:.2f}, {high:.2f}], SIR: " in summary_line(COUNTS | {"sdr": 3.0} | found)
    assert "SDR: 3.0000, SIR: " in summary_line(COUNTS | {"sdr": 3.0})


def test_files_have_all_groups_and_only_numbers(tmp_path):
    rows = [mixture(f"flute/{m}", f"cello/{m + 1}", sdr=[m, 2], sir=[np.nan, 1]) for m in range(5)]
    write_metrics(str(tmp_path), score_statistics(rows), [])

    def refuse(name):
        raise AssertionError(name)

    found = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert found["by_pair"]["flute"]["cello"]["sdr"]["mean"] == 2
    header, *lines = table(tmp_path / "statistics.csv")
    assert header == ["score", "group", "mean", "median", "low", "high", "mixtures"]
    groups = [(line[0], line[1], line[2]) for line in lines]
    assert groups == [
        ("sdr", "all", "2.0000"),
        ("sdr", "cello", "2.0000"),
        ("sir", "cello", "1.0000"),
        ("sdr", "flute", "2.0000"),
        ("sdr", "cello with flute", "2.0000"),
        ("sir", "cello with flute", "1.0000"),
        ("sdr", "flute with cello", "2.0000"),
    ]
    assert all(float(line[4]) <= float(line[2]) <= float(line[5]) and line[6] == "5" for line in lines)
