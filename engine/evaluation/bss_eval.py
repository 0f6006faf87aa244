"""BSS Eval v3 (SDR, SIR, SAR): batched on the device, and mir_eval's as the reference."""

import functools
import warnings
from concurrent.futures import ThreadPoolExecutor

import mir_eval
import numpy as np
import scipy.linalg
import threadpoolctl
import torch

TAPS = 512  # of the filter that BSS Eval allows
FFT = 4096  # samples of a block and of those before it
BLOCKS = 64  # of a sound that are looked at together
CHUNK = 2**25  # numbers in the systems of the mixtures that a GPU scores at a time: 256 MiB


@torch.inference_mode()
def bss_eval(sources, estimates):
    """(sdr, sir, sar), each [B, N, M] in dB: of each estimate [B, M, L] against each source [B, N, L].

    In float64, on the device of the tensors; what mir_eval's BSS Eval v3 without permutation finds is
    [b, n, n]. No sound may be silent. Source: Vincent et al., "Performance measurement in blind audio source
    separation", 2006.
    """
    # On a CPU, memory that fits the caches and that malloc hands out again is worth more than batches.
    size = max(1, CHUNK // (sources.shape[1] * TAPS) ** 2) if sources.is_cuda else 1
    chunks = sources.split(size), estimates.split(size)
    scored = map(_bss_eval, *chunks) if sources.is_cuda else _in_threads(_bss_eval, *chunks)
    return tuple(torch.cat(scores) for scores in zip(*scored, strict=True))


def _in_threads(function, *arguments):
    """[function(*each)] on all cores, a thread each: torch's and LAPACK's own wait for one another."""
    count = torch.get_num_threads()
    alone = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with _thread_pools().limit(limits=1), ThreadPoolExecutor(count, **alone) as pool:
        return list(pool.map(function, *arguments))


@functools.cache
def _thread_pools():
    return threadpoolctl.ThreadpoolController()


@torch.inference_mode()
def _bss_eval(sources, estimates):
    """As `bss_eval`, at once."""
    count = sources.shape[1]
    sounds = torch.cat([sources, estimates], dim=1)
    correlations = _correlate(sounds, count)
    gram = _toeplitz(correlations[:, :count])
    right = correlations[:, count:].permute(0, 2, 3, 1)  # [B, N, TAPS, M]
    own_filters = [_solve(gram[:, n, :, n].clone(), right[:, n]) for n in range(count)]
    own_filters = torch.stack(own_filters, dim=1)
    filters = _solve(gram.flatten(3).flatten(1, 2), right.flatten(1, 2)).view(right.shape)
    target, distortion, interference, explained, artifacts = _energies(sounds, own_filters, filters)
    pairs = (target, distortion), (target, interference), (explained, artifacts)
    # Where there is nothing in the way the ratio is infinite, as mir_eval has it.
    return [torch.where(rest == 0, torch.inf, 10 * torch.log10(signal / rest)) for signal, rest in pairs]


def _parts(sounds):
    """Yield [B, N + M, K, FFT] blocks of sounds [B, N + M, L], up to where filters of `TAPS` end."""
    step = FFT - TAPS + 1
    count = -(-(sounds.shape[-1] + TAPS - 1) // step)
    sounds = torch.nn.functional.pad(sounds, (TAPS - 1, count * step - sounds.shape[-1]))
    for part in sounds.unfold(-1, FFT, step).split(BLOCKS, dim=2):
        yield part.double()


def _correlate(sounds, count):
    """[B, N + M, N, TAPS] sum over t of a[t] * b[t - lag]: of each sound a, and of the first `count` as b."""
    total = 0.0
    for part in _parts(sounds):
        past = torch.fft.rfft(part[:, :count])
        now = torch.fft.rfft(torch.nn.functional.pad(part[..., TAPS - 1 :], (TAPS - 1, 0)))
        products = [(now * each[:, None].conj()).sum(dim=2) for each in past.unbind(dim=1)]
        total = total + torch.stack(products, dim=2)
    return torch.fft.irfft(total, FFT)[..., :TAPS]


def _energies(sounds, own_filters, filters):
    """[5, B, N, M] energies of target, all but target, interference, target and interference, artifacts.

    sounds [B, N + M, L]: sources and estimates; filters [B, N, TAPS, M].
    """
    count, total = filters.shape[1], 0.0
    own_filters, filters = (torch.fft.rfft(each.movedim(-1, 0), FFT) for each in (own_filters, filters))
    for part in _parts(sounds):
        past = torch.fft.rfft(part[:, :count])
        scores = []
        for estimate, own_filter, filter_ in zip(
            part[:, count:].unbind(dim=1), own_filters, filters, strict=True
        ):
            targets = torch.fft.irfft(past * own_filter[:, :, None], FFT)
            explained = torch.fft.irfft((past * filter_[:, :, None]).sum(dim=1, keepdim=True), FFT)
            estimate = estimate[:, None]
            waves = [targets, estimate - targets, explained - targets, explained, estimate - explained]
            waves = [wave[..., TAPS - 1 :].square().sum(dim=(2, 3)) for wave in waves]
            scores.append(torch.stack([wave.expand(-1, count) for wave in waves]))
        total = total + torch.stack(scores, dim=-1)
    return total


def _toeplitz(correlations):
    """[B, N, TAPS, N, TAPS] products of all delays of all sources, of their correlations [B, N, N, TAPS]."""
    negative = correlations.transpose(1, 2)[..., 1:].flip(-1)
    lags = torch.cat([negative, correlations], dim=-1)
    delays = torch.arange(TAPS, device=lags.device)
    index = TAPS - 1 + delays - delays[:, None]
    shape = (*lags.shape[:2], TAPS, lags.shape[2], TAPS)
    return lags[:, :, None].expand(*shape[:4], -1).gather(-1, index[:, None].expand(shape))


def _solve(gram, right):
    """Solve systems [B, n, n], written over, for columns [B, n, M]; as mir_eval does if one is singular."""
    diagonal = gram.diagonal(dim1=1, dim2=2).clone()
    result, infos = (_solve_definite if gram.is_cuda else _solve_definite_cpu)(gram, right)
    for b in infos.nonzero().flatten().tolist():
        lower = gram[b].tril(-1)  # is as it was
        whole = lower + lower.mT + diagonal[b].diag()
        result[b], info = torch.linalg.solve_ex(whole, right[b])
        if info:  # the least solution
            rounding = torch.finfo(whole.dtype).eps * len(whole)
            result[b] = torch.linalg.pinv(whole, hermitian=True, rtol=rounding) @ right[b]
    return result


def _solve_definite(gram, right):
    """(solutions, [B] 0, or something else where a matrix is not positive definite and has none)."""
    factors, infos = torch.linalg.cholesky_ex(gram)
    return torch.cholesky_solve(right, factors), infos


def _solve_definite_cpu(gram, right):
    """The same by scipy's LAPACK: for n = 1024 in 12 ms, where torch's takes 20 (AMD, one thread).

    Factors are written over `gram`: asking the system for another 8 MiB at each mixture took 5 ms.
    """
    # LAPACK's lower triangle is the upper one of the transpose, which lies in the order that it wants.
    pairs = zip(gram.mT.numpy(), right.numpy(), strict=True)
    solved = [scipy.linalg.lapack.dposv(*pair, lower=True, overwrite_a=True)[1:] for pair in pairs]
    results, infos = zip(*solved, strict=True)
    return torch.from_numpy(np.stack(results)), torch.tensor(infos)


def bss_eval_reference(sources, estimates):
    """(sdr, sir, sar), each [N] in dB, of estimates against their sources [N, L], by mir_eval itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the module goes away in mir_eval 0.9
        return mir_eval.separation.bss_eval_sources(sources, estimates, False)[:3]
