"""Scores of separated sounds: SDR, SIR and SAR of BSS Eval v3, on the device or by mir_eval, and SI-SDR.

B mixtures, N sources, L samples.
"""

import numpy as np
import torch

from engine.evaluation.bss_eval import bss_eval, bss_eval_reference

SILENCE = 1e-5  # a sound whose absolute samples sum to less is silent: no score is defined
SILENT_ESTIMATE = "silent estimate"
SCORES = ("sdr", "sir", "sar", "si_sdr", "sdr_mixture", "sdr_oracle", "si_sdr_mixture")
FIXED = ("sdr_mixture", "sdr_oracle", "si_sdr_mixture")  # independent of the networks


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
    """Why a mixture cannot be scored: "silent mixture", "silent source" or "silent estimate"; "" if it can.

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
def score_batch(sources, estimates, mix, oracle, swapped=False, fixed=True, average=None):
    """A list of B {score: [N] dB} for mixtures that are not silent, see `find_silence`.

    sources, estimates and oracle [B, N, L], mix [B, L]: tensors; the scores are computed on their device.
    sdr, sir, sar, si_sdr: of the estimates;
    if `fixed`: sdr_mixture and si_sdr_mixture, of the mixture as every estimate, and sdr_oracle, of `oracle`,
    the mixture under the true masks (NaN if that is silent);
    if `swapped`: sdr_swapped, of the estimates shifted by one source, as if the pictures were swapped;
    average [B, L]: sdr_average, of this sound as every estimate (NaN if it is silent).
    """
    count = sources.shape[1]
    others = [oracle, mix[:, None]] if fixed else []
    others += [] if average is None else [average[:, None]]
    sdr, sir, sar = bss_eval(sources, torch.cat([estimates, *others], dim=1))
    own = torch.arange(count, device=sources.device)
    scores = {"sdr": sdr[:, own, own], "sir": sir[:, own, own], "sar": sar[:, own, own]}
    scores["si_sdr"] = si_sdr(sources, estimates)
    if fixed:
        silent = _are_silent(oracle).any(dim=1, keepdim=True)
        scores["sdr_mixture"] = sdr[:, :, 2 * count]
        scores["si_sdr_mixture"] = si_sdr(sources, mix[:, None].expand_as(sources))
        scores["sdr_oracle"] = sdr[:, own, count + own].masked_fill(silent, torch.nan)
    if swapped:
        scores["sdr_swapped"] = sdr[:, own, own.roll(1)]
    if average is not None:
        scores["sdr_average"] = sdr[:, :, -1].masked_fill(_are_silent(average)[:, None], torch.nan)
    scores = {key: value.cpu().numpy() for key, value in scores.items()}
    return [{key: value[b] for key, value in scores.items()} for b in range(len(sources))]


def _are_silent(sounds):
    return sounds.abs().sum(dim=-1) < SILENCE


def score_reference(sources, estimates, mix, oracle, swapped=False, fixed=True, average=None):
    """`score_batch` for one mixture, by mir_eval: arrays without the B axis in, {score: [N] dB} out."""
    tensors = torch.from_numpy(sources), torch.from_numpy(estimates)
    sources, estimates, oracle = (np.asarray(x, np.float64) for x in (sources, estimates, oracle))
    sdr, sir, sar = bss_eval_reference(sources, estimates)
    scores = {"sdr": sdr, "sir": sir, "sar": sar, "si_sdr": si_sdr(*tensors).numpy()}
    if fixed:
        scores["sdr_mixture"] = _sdr_of_one(sources, mix)
        scores["si_sdr_mixture"] = si_sdr(tensors[0], torch.from_numpy(mix).expand_as(tensors[0])).numpy()
        silent = find_silence(sources, oracle, mix)
        scores["sdr_oracle"] = (
            np.full(len(sources), np.nan) if silent else bss_eval_reference(sources, oracle)[0]
        )
    if swapped:
        scores["sdr_swapped"] = bss_eval_reference(sources, np.roll(estimates, 1, axis=0))[0]
    if average is not None:
        scores["sdr_average"] = _sdr_of_one(sources, average)
    return scores


def _sdr_of_one(sources, sound):
    """[N] SDR of one sound [L] as the estimate of every source, by mir_eval; NaN if it is silent."""
    if np.abs(sound).sum() < SILENCE:
        return np.full(len(sources), np.nan)
    return bss_eval_reference(sources, np.broadcast_to(np.asarray(sound, np.float64), sources.shape))[0]


def summarize(scores):
    """{score: mean in dB}: over the sources of a mixture, then over mixtures; None if there are none.

    scores: a list as `score_batch` returns it.
    """
    if not scores:
        return {}
    means = {}
    for key in scores[0]:
        values = np.array([np.mean(mixture[key]) for mixture in scores])
        values = values[np.isfinite(values)]
        means[key] = float(values.mean()) if len(values) else None
    return means
