"""Scores against mir_eval and their definitions; means over mixtures."""

import mir_eval
import numpy as np
import pytest
import scipy.signal
import torch

from engine.evaluation import bss_eval as bss
from engine.evaluation.bss_eval import bss_eval
from engine.evaluation.metrics import find_silence, score_batch, score_reference, si_sdr, summarize

LENGTH = 6000  # samples: more than one block
PERFECT = 100  # dB above which a score is rounding error
RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.standard_normal(shape)


def blend(sources, leak=0.3, artifacts=0.1):
    """Estimates with some of the other sources and some noise."""
    matrix = np.eye(len(sources)) + leak * RNG.random((len(sources), len(sources)))
    return matrix @ sources + artifacts * sources.std() * noise(*sources.shape)


def reverberate(waves):
    impulse = noise(2000) * np.exp(-np.arange(2000) / 300)
    return scipy.signal.fftconvolve(waves, impulse[None], axes=1)[:, : waves.shape[1]]


def low_pass(waves, cutoff):
    """Like resampled or compressed sound: almost nothing above `cutoff`, where 1 is the highest frequency."""
    window = scipy.signal.firwin(301, cutoff)
    return scipy.signal.fftconvolve(waves, window[None], mode="same", axes=1).astype(np.float32)


def keep(waves, *spans):
    """Silence except for one span of samples in each sound."""
    out = np.zeros_like(waves)
    for wave, kept, span in zip(out, waves, spans, strict=True):
        wave[slice(*span)] = kept[slice(*span)]
    return out


def tones(*hertz):
    times = np.arange(LENGTH) / 11025
    return np.stack([np.sin(2 * np.pi * f * times) + 0.3 * np.sin(4 * np.pi * f * times) for f in hertz])


def late(wave, samples):
    return np.concatenate([np.zeros(samples), wave[:-samples]])


def make_cases():
    """{name: (sources, estimates)}, all [N, L]."""
    two, three = noise(2, LENGTH), noise(3, LENGTH)
    wet, low = reverberate(three), low_pass(two, 0.2)
    bits = np.round(low * 2**15) / 2**15
    turns = keep(two, (0, 2500), (3000, LENGTH))
    clicks = keep(two, (1000, 1001), (4000, 4002))
    near = np.stack([two[0], two[0] + 1e-4 * two[1]])
    doubled = np.stack([two[0], -0.5 * two[0]])
    echo = np.stack([two[0], late(two[0], 40)])
    unequal = two * [[1e-6], [1]]
    return {
        "noise": (two, blend(two)),
        "three": (three, blend(three)),
        "reverberant": (wet, blend(three)),
        "reverberant estimates": (three, reverberate(blend(three))),
        "low-passed": (low, blend(low, artifacts=0.01)),
        "low-passed throughout": (low, low_pass(blend(two), 0.2)),
        "of 16 bits": (bits, blend(bits)),
        "turns": (turns, blend(turns)),
        "short notes": (keep(two, (100, 900), (300, 1200)), blend(two)),
        "clicks": (clicks, blend(two)),
        "tones": (tones(440, 660), blend(tones(440, 660))),
        "chord": (tones(440, 550, 660) + 1e-3 * three, blend(tones(440, 550, 660))),
        "almost the same": (near, blend(two)),
        "the same twice": (doubled, blend(two)),
        "an echo": (echo, blend(two)),
        "quiet": (1e-9 * two, 1e-9 * blend(two)),
        "unequal": (unequal, blend(unequal)),
        "short": (two[:, :700], blend(two[:, :700])),
        "shorter than the filter": (two[:, :300], blend(two[:, :300])),
        "off centre": (two + 5, blend(two)),
        "perfect": (two, two.copy()),
        "perfect but for scale": (two, -0.3 * two),
        "one perfect": (two, np.stack([two[0], blend(two)[1]])),
        "changed round": (two, two[::-1].copy()),
        "the mixture": (three, np.stack([three.sum(axis=0)] * 3)),
    }


CASES = make_cases()


def reference(sources, estimates):
    """[3, N] scores by mir_eval."""
    return np.stack(mir_eval.separation.bss_eval_sources(sources, estimates, False)[:3])


def score(sources, estimates):
    """[3, N, M] scores of one mixture."""
    tensors = (torch.from_numpy(np.asarray(x))[None] for x in (sources, estimates))
    return torch.cat(bss_eval(*tensors)).numpy()


def own(pairs):
    return pairs.diagonal(axis1=1, axis2=2)


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_mir_eval(name):
    sources, estimates = CASES[name]
    expected, found = reference(sources, estimates), own(score(sources, estimates))
    np.testing.assert_array_equal(found > PERFECT, expected > PERFECT)
    np.testing.assert_allclose(found.clip(max=PERFECT), expected.clip(max=PERFECT), atol=1e-4)


def test_each_estimate_is_scored_against_each_source():
    sources, estimates = CASES["three"]
    pairs = score(sources, np.concatenate([estimates, estimates[:1]]))
    np.testing.assert_allclose(own(pairs[:, :, [1, 2, 0]]), reference(sources, np.roll(estimates, -1, 0)))
    np.testing.assert_allclose(pairs[:, :, 3], pairs[:, :, 0])


def projected(waves, estimate):
    """The estimate projected onto all delays of waves [N, L], by an SVD of the delays."""
    delays = [np.pad(wave, (late, bss.TAPS - 1 - late)) for wave in waves for late in range(bss.TAPS)]
    delays = np.stack(delays, axis=1)
    return delays @ np.linalg.lstsq(delays, estimate)[0]


def test_sources_that_determine_no_filters_are_projected_on_all_the_same():
    """mir_eval means to take the least-norm filters, but catches an error that numpy 2 no longer raises."""
    wave = np.zeros(40)
    wave[3] = 1.0
    sources = np.stack([wave, 2 * wave])
    estimates = noise(2, 40)
    found = score(sources, estimates)
    assert np.isfinite(found).all()
    estimate = np.pad(estimates[0], (0, bss.TAPS - 1))
    target, explained = projected(sources[:1], estimate), projected(sources, estimate)
    expected = 10 * np.log10(np.square(target).sum() / np.square(estimate - target).sum())
    assert found[0, 0, 0] == pytest.approx(expected, abs=1e-4)
    expected = 10 * np.log10(np.square(explained).sum() / np.square(estimate - explained).sum())
    assert found[2, 0, 0] == pytest.approx(expected, abs=1e-4)


def test_a_singular_system_has_the_least_solution():
    gram, right = torch.ones(1, 3, 3).double(), torch.tensor([[[3.0, 1.0]] * 3]).double()
    expected = torch.tensor([[[1.0, 1 / 3]] * 3]).double()
    torch.testing.assert_close(bss._solve(gram, right), expected)


def test_gpus_solve_what_the_cpu_solves():
    waves = noise(4, 50, 60)
    gram, right = torch.from_numpy(waves @ waves.swapaxes(1, 2)), torch.from_numpy(noise(4, 50, 3))
    gram[2, 0, 0] *= -1  # indefinite, but invertible
    one, bad = bss._solve_definite(gram.clone(), right)
    other, bad_too = bss._solve_definite_cpu(gram.clone(), right)
    assert (bad != 0).tolist() == (bad_too != 0).tolist() == [False, False, True, False]
    torch.testing.assert_close(one[bad == 0], other[bad == 0])
    torch.testing.assert_close(gram @ bss._solve(gram.clone(), right), right)


def test_scores_depend_neither_on_the_batch_nor_on_the_parts(monkeypatch):
    batch = [CASES[name] for name in ("noise", "low-passed", "turns", "tones")]
    tensors = [torch.from_numpy(np.stack(sounds)) for sounds in zip(*batch, strict=True)]
    whole = torch.stack(bss_eval(*tensors))
    for b, case in enumerate(batch):
        np.testing.assert_allclose(whole[:, b], score(*case), atol=1e-9)
    monkeypatch.setattr(bss, "BLOCKS", 1)
    np.testing.assert_allclose(torch.stack(bss_eval(*tensors)), whole, atol=1e-6)
    tensors[1][0, 1, 7] = torch.nan
    spoilt = torch.stack(bss_eval(*tensors))
    assert spoilt[:, 0, :, 1].isnan().all()
    np.testing.assert_allclose(spoilt[:, 0, :, 0], whole[:, 0, :, 0], atol=1e-6)
    np.testing.assert_allclose(spoilt[:, 1:], whole[:, 1:], atol=1e-6)


def sounds_of(name):
    """(sources, estimates, mix, oracle) of a case, as the separator gives them."""
    sources, estimates = (np.float32(sounds) for sounds in CASES[name])
    mix = sources.sum(axis=0)
    return sources, estimates, mix, sources + np.float32(0.1) * mix


@pytest.mark.parametrize(
    ("names", "fixed", "swapped"),
    [(("noise", "turns"), False, False), (("three", "reverberant"), True, True)],
)
def test_batches_have_the_scores_of_mir_eval(names, fixed, swapped):
    mixtures = [sounds_of(name) for name in names]
    batch = [torch.from_numpy(np.stack(sounds)) for sounds in zip(*mixtures, strict=True)]
    averages = [sounds[2] + np.float32(0.1 * noise(LENGTH)) if swapped else None for sounds in mixtures]
    scores = score_batch(*batch, swapped, fixed, torch.from_numpy(np.stack(averages)) if swapped else None)
    for found, sounds, average in zip(scores, mixtures, averages, strict=True):
        expected = score_reference(*sounds, swapped, fixed, average)
        assert list(found) == list(expected)
        for key in expected:
            np.testing.assert_allclose(found[key], expected[key], atol=1e-4, err_msg=key)
    assert ("sdr_average" in found) == swapped
    assert ("sdr_swapped" in found, "sdr_oracle" in found, "sdr_mixture" in found) == (swapped, fixed, fixed)


def test_scores_by_mir_eval_are_what_they_are_called():
    sources, estimates, mix, oracle = sounds_of("noise")
    average = estimates.mean(axis=0)
    scores = score_reference(sources, estimates, mix, oracle, swapped=True, average=average)
    for key, value in zip(("sdr", "sir", "sar"), reference(sources, estimates), strict=True):
        np.testing.assert_allclose(scores[key], value, atol=1e-4)
    swapped = estimates[::-1].copy()
    for key, sounds in {
        "sdr_mixture": np.stack([mix] * 2),
        "sdr_oracle": oracle,
        "sdr_swapped": swapped,
        "sdr_average": np.stack([average] * 2),
    }.items():
        np.testing.assert_allclose(scores[key], reference(sources, sounds)[0], atol=1e-4, err_msg=key)


def test_si_sdr_has_known_values():
    source = torch.tensor([[1.0, -1.0, 1.0, -1.0]]).double()
    other = torch.tensor([[1.0, 1.0, -1.0, -1.0]]).double()  # orthogonal
    np.testing.assert_allclose(si_sdr(source, source + 0.1 * other), [20.0], atol=1e-6)
    np.testing.assert_allclose(si_sdr(source, 7 * (source + 0.1 * other)), [20.0], atol=1e-6)
    assert si_sdr(source, source) > PERFECT


def test_silence_is_found_and_named():
    sources, estimates, mix, oracle = sounds_of("noise")
    zeros = np.zeros_like(sources)
    assert find_silence(sources, estimates, mix) == ""
    assert find_silence(zeros, estimates, mix) == "silent source"
    assert find_silence(sources, zeros, mix) == "silent estimate"
    assert find_silence(sources, estimates, zeros[0]) == "silent mixture"
    oracle[1] = 0
    tensors = (torch.from_numpy(sounds)[None] for sounds in (sources, estimates, mix, oracle))
    for scores in (score_batch(*tensors)[0], score_reference(sources, estimates, mix, oracle)):
        assert np.isnan(scores["sdr_oracle"]).all()
        assert np.isfinite([value for key, value in scores.items() if key != "sdr_oracle"]).all()
    tensors = (torch.from_numpy(sounds)[None] for sounds in (sources, estimates, mix, oracle))
    silent = score_batch(*tensors, average=torch.zeros(1, LENGTH))[0]
    for scores in (silent, score_reference(sources, estimates, mix, oracle, average=zeros[0])):
        assert np.isnan(scores["sdr_average"]).all()
        assert np.isfinite(scores["sdr"]).all()


def test_means_are_over_mixtures():
    mixtures = [
        {"sdr": np.array([1.0, 3.0])},
        {"sdr": np.array([6.0, 6.0])},
        {"sdr": np.array([np.nan, 1.0])},
    ]
    assert summarize(mixtures) == {"sdr": 4.0}
    assert summarize([]) == {}
    assert summarize(mixtures[2:]) == {"sdr": None}
