"""Scores of separated sounds: SDR, SIR, SAR by mir_eval, and SI-SDR.

Shapes: sources and estimates [N, L], the mixture [L].
"""

import warnings

import mir_eval
import numpy as np

SILENCE = 1e-5  # a sound whose absolute samples sum to less is silent: no ratio to it is defined
SILENT_ESTIMATE = "silent estimate"
SCORES = ("sdr", "sir", "sar", "si_sdr", "sdr_mixture", "sdr_oracle")


def bss_eval(sources, estimates):
    """(sdr, sir, sar), each [N] in dB, by mir_eval's BSS Eval v3 without permutation.

    Source: Vincent et al., "Performance measurement in blind audio source separation", 2006.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the module goes away in mir_eval 0.9
        return mir_eval.separation.bss_eval_sources(sources, estimates, False)[:3]


def si_sdr(sources, estimates):
    """[N] scale-invariant SDR in dB: Le Roux et al., "SDR - half-baked or well done?", 2019."""
    scale = (sources * estimates).sum(axis=1) / np.square(sources).sum(axis=1)
    target = scale[:, None] * sources
    noise = np.square(estimates - target).sum(axis=1)
    floor = np.finfo(np.float64).tiny
    return 10 * np.log10(np.maximum(np.square(target).sum(axis=1), floor) / np.maximum(noise, floor))


def find_silence(sources, estimates, mix):
    """Why a mixture cannot be scored: "silent mixture", "silent source", "silent estimate"; "" if it can."""
    if np.abs(mix).sum() < SILENCE:
        return "silent mixture"
    if (np.abs(sources).sum(axis=1) < SILENCE).any():
        return "silent source"
    if (np.abs(estimates).sum(axis=1) < SILENCE).any():
        return SILENT_ESTIMATE
    return ""


def score_mixture(sources, estimates, mix, oracle, swapped=False):
    """{score: [N] dB} of a mixture that is not silent, see `find_silence`.

    sdr, sir, sar, si_sdr: of the estimates; sdr_mixture: of the mixture as every estimate; sdr_oracle: of
    `oracle` [N, L], the mixture under the true masks (nan where that is silent); with `swapped` also
    sdr_swapped: of the estimates handed round by one, as if each source had been shown another's pictures.
    """
    sources, estimates, oracle = (np.asarray(x, np.float64) for x in (sources, estimates, oracle))
    mixes = np.broadcast_to(np.asarray(mix, np.float64), sources.shape)
    sdr, sir, sar = bss_eval(sources, estimates)
    scores = {"sdr": sdr, "sir": sir, "sar": sar, "si_sdr": si_sdr(sources, estimates)}
    scores["sdr_mixture"] = bss_eval(sources, mixes)[0]
    nothing = find_silence(sources, oracle, mix)
    scores["sdr_oracle"] = np.full(len(sources), np.nan) if nothing else bss_eval(sources, oracle)[0]
    if swapped:
        scores["sdr_swapped"] = bss_eval(sources, np.roll(estimates, 1, axis=0))[0]
    return scores


def summarize(scores):
    """{score: mean in dB}: the mean over the sources of a mixture, then over mixtures; None without any.

    scores: a list of what `score_mixture` gives.
    """
    if not scores:
        return {}
    means = {}
    for key in scores[0]:
        values = np.array([np.mean(mixture[key]) for mixture in scores])
        values = values[np.isfinite(values)]
        means[key] = float(values.mean()) if len(values) else None
    return means
