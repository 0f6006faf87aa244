"""Scores of separated sounds: SDR, SIR and SAR of BSS Eval v3, on the device or by mir_eval, and SI-SDR.

BSS Eval allows each true source a filter of 512 taps: an estimate is projected on the delays of its own
source (the target), and on those of all sources (the target and the interference); the rest is artifacts. The
least squares problems depend on the true sources alone: they are factorised once for all estimates.

B mixtures, N sources, M estimates, L samples. Sounds are cut into blocks, each with the `TAPS` - 1 samples
before it, so that correlations and filters need short transforms only. Energies are those of the waves that
remain, not differences of energies, which would lose all digits where little remains.
"""

import numpy as np
import torch

from engine.evaluation.bss_eval import bss_eval, bss_eval_reference

SILENCE = 1e-5  # a sound whose absolute samples sum to less is silent: no ratio to it is defined
SILENT_ESTIMATE = "silent estimate"
SCORES = ("sdr", "sir", "sar", "si_sdr", "sdr_mixture", "sdr_oracle")
FIXED = ("sdr_mixture", "sdr_oracle")  # those in which the networks have no part


def si_sdr(sources, estimates):
    """[..., N] scale-invariant SDR in dB of sounds [..., N, L]: Le Roux et al., "SDR - half-baked or well
    done?", 2019."""
    sources, estimates = sources.double(), estimates.double()
    scale = (sources * estimates).sum(dim=-1) / sources.square().sum(dim=-1)
    target = scale[..., None] * sources
    energies = target.square().sum(dim=-1), (estimates - target).square().sum(dim=-1)
    signal, noise = (energy.clamp_min(torch.finfo(torch.float64).tiny) for energy in energies)
    return 10 * torch.log10(signal / noise)


def find_silence(sources, estimates, mix):
    """Why a mixture cannot be scored: "silent mixture", "silent source", "silent estimate"; "" if it can.

    sources and estimates [N, L], mix [L]: arrays.
    """
    if np.abs(mix).sum() < SILENCE:
        return "silent mixture"
    if (np.abs(sources).sum(axis=1) < SILENCE).any():
        return "silent source"
    if (np.abs(estimates).sum(axis=1) < SILENCE).any():
        return SILENT_ESTIMATE
    return ""


@torch.inference_mode()
def score_batch(sources, estimates, mix, oracle, swapped=False, fixed=True):
    """A list of B {score: [N] dB}, of mixtures that are not silent, see `find_silence`.

    sources, estimates and oracle [B, N, L], mix [B, L]: tensors on a device, which computes. Scores are
    sdr, sir, sar, si_sdr: of the estimates; and unless `fixed` is False
    sdr_mixture: of the mixture as every estimate; sdr_oracle: of `oracle`, the mixture under the true masks
    (nan where that is silent); with `swapped` also
    sdr_swapped: of the estimates handed round by one, as if each source had been shown another's pictures.
    """
    count = sources.shape[1]
    others = [oracle, mix[:, None]] if fixed else []
    sdr, sir, sar = bss_eval(sources, torch.cat([estimates, *others], dim=1))
    own = torch.arange(count, device=sources.device)
    scores = {"sdr": sdr[:, own, own], "sir": sir[:, own, own], "sar": sar[:, own, own]}
    scores["si_sdr"] = si_sdr(sources, estimates)
    if fixed:
        silent = (oracle.abs().sum(dim=-1) < SILENCE).any(dim=1, keepdim=True)
        scores["sdr_mixture"] = sdr[:, :, 2 * count]
        scores["sdr_oracle"] = sdr[:, own, count + own].masked_fill(silent, torch.nan)
    if swapped:
        scores["sdr_swapped"] = sdr[:, own, own.roll(1)]
    scores = {key: value.cpu().numpy() for key, value in scores.items()}
    return [{key: value[b] for key, value in scores.items()} for b in range(len(sources))]


def score_reference(sources, estimates, mix, oracle, swapped=False, fixed=True):
    """{score: [N] dB} as `score_batch` gives for one mixture of arrays without B, by mir_eval."""
    tensors = torch.from_numpy(sources), torch.from_numpy(estimates)
    sources, estimates, oracle = (np.asarray(x, np.float64) for x in (sources, estimates, oracle))
    sdr, sir, sar = bss_eval_reference(sources, estimates)
    scores = {"sdr": sdr, "sir": sir, "sar": sar, "si_sdr": si_sdr(*tensors).numpy()}
    if fixed:
        mixes = np.broadcast_to(np.asarray(mix, np.float64), sources.shape)
        scores["sdr_mixture"] = bss_eval_reference(sources, mixes)[0]
        silent = find_silence(sources, oracle, mix)
        scores["sdr_oracle"] = (
            np.full(len(sources), np.nan) if silent else bss_eval_reference(sources, oracle)[0]
        )
    if swapped:
        scores["sdr_swapped"] = bss_eval_reference(sources, np.roll(estimates, 1, axis=0))[0]
    return scores


def summarize(scores):
    """{score: mean in dB}: the mean over the sources of a mixture, then over mixtures; None without any.

    scores: a list of what `score_batch` gives.
    """
    if not scores:
        return {}
    means = {}
    for key in scores[0]:
        values = np.array([np.mean(mixture[key]) for mixture in scores])
        values = values[np.isfinite(values)]
        means[key] = float(values.mean()) if len(values) else None
    return means
