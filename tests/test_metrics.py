"""Scores against mir_eval and their definitions; means over mixtures."""

import mir_eval
import numpy as np
import pytest

from engine.metrics import find_silence, score_mixture, si_sdr, summarize

RNG = np.random.default_rng(0)
SOURCES = RNG.standard_normal((2, 4000)).astype(np.float32)
MIX = SOURCES.sum(0)
ESTIMATES = SOURCES + 0.3 * RNG.standard_normal((2, 4000)).astype(np.float32)


def reference(sources, estimates):
    with pytest.warns(FutureWarning):
        return mir_eval.separation.bss_eval_sources(sources, estimates, False)[:3]


def test_scores_are_those_of_mir_eval():
    scores = score_mixture(SOURCES, ESTIMATES, MIX, SOURCES + 0.1 * MIX, swapped=True)
    for key, value in zip(("sdr", "sir", "sar"), reference(SOURCES, ESTIMATES), strict=True):
        np.testing.assert_allclose(scores[key], value, atol=1e-4)
    for key, estimates in {
        "sdr_mixture": np.stack([MIX, MIX]),
        "sdr_oracle": SOURCES + 0.1 * MIX,
        "sdr_swapped": ESTIMATES[::-1],
    }.items():
        np.testing.assert_allclose(scores[key], reference(SOURCES, estimates)[0], atol=1e-4, err_msg=key)


def test_si_sdr_has_known_values():
    source = np.array([[1.0, -1.0, 1.0, -1.0]])
    noise = np.array([[1.0, 1.0, -1.0, -1.0]])  # orthogonal
    np.testing.assert_allclose(si_sdr(source, source + 0.1 * noise), [20.0], atol=1e-6)
    np.testing.assert_allclose(si_sdr(source, 7 * (source + 0.1 * noise)), [20.0], atol=1e-6)


def test_silence_is_found_and_named():
    zeros = np.zeros_like(SOURCES)
    assert find_silence(SOURCES, ESTIMATES, MIX) == ""
    assert find_silence(zeros, ESTIMATES, MIX) == "silent source"
    assert find_silence(SOURCES, zeros, MIX) == "silent estimate"
    assert find_silence(SOURCES, ESTIMATES, zeros[0]) == "silent mixture"
    scores = score_mixture(SOURCES, ESTIMATES, MIX, zeros)
    assert np.isnan(scores["sdr_oracle"]).all()


def test_means_are_over_mixtures():
    mixtures = [
        {"sdr": np.array([1.0, 3.0])},
        {"sdr": np.array([6.0, 6.0])},
        {"sdr": np.array([np.nan, 1.0])},
    ]
    assert summarize(mixtures) == {"sdr": 4.0}
    assert summarize([]) == {}
    assert summarize(mixtures[2:]) == {"sdr": None}
