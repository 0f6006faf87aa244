"""BSS Eval v3 (SDR, SIR, SAR): in batches on the device, and mir_eval's as the reference.

BSS Eval allows each true source a filter of 512 taps. An estimate is projected onto the delays of its own
source (the target) and onto the delays of all sources (target and interference); the rest is artifacts. The
least-squares problems depend on the true sources only, so they are factorised once for all estimates.

B mixtures, N sources, M estimates, L samples. Sounds are cut into blocks, each preceded by `TAPS` - 1
samples, so that correlations and filters need short FFTs only. Energies are taken from the residual
waveforms: differences of energies would lose all digits where little remains.
"""

import functools
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.linalg
import threadpoolctl
import torch

TAPS = 512  # of BSS Eval's distortion filter
FFT = 4096  # samples of a block with those before it
BLOCKS = 64  # of a sound processed at a time
CHUNK = 2**25  # matrix entries that a GPU solves at a time: 256 MiB


@torch.inference_mode()
def bss_eval(sources, estimates):
    """(sdr, sir, sar), each [B, N, M] in dB: of each estimate [B, M, L] against each source [B, N, L].

    Computed in float64 on the tensors' device. The diagonal [b, n, n] is what mir_eval's BSS Eval v3 gives
    without permutation. No sound may be silent. Source: Vincent et al., "Performance measurement in blind
    audio source separation", 2006.
    """
    # On a CPU, one mixture at a time fits the caches and reuses memory: faster than batches.
    size = max(1, CHUNK // (sources.shape[1] * TAPS) ** 2) if sources.is_cuda else 1
    chunks = sources.split(size), estimates.split(size)
    scored = map(_bss_eval, *chunks) if sources.is_cuda else _in_threads(_bss_eval, *chunks)
    return tuple(torch.cat(scores) for scores in zip(*scored, strict=True))


def _in_threads(function, *arguments):
    """[function(*each)], a thread per core, since threads of torch and LAPACK wait for each other."""
    count = torch.get_num_threads()
    alone = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with _thread_pools().limit(limits=1), ThreadPoolExecutor(count, **alone) as pool:
        return list(pool.map(function, *arguments))


@functools.cache
def _thread_pools():
    return threadpoolctl.ThreadpoolController()


@torch.inference_mode()
def _bss_eval(sources, estimates):
    """`bss_eval` of one chunk."""
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
    # Without any error the ratio is infinite, as in mir_eval.
    return [torch.where(rest == 0, torch.inf, 10 * torch.log10(signal / rest)) for signal, rest in pairs]


def _parts(sounds):
    """Yield [B, N + M, K, FFT] blocks of sounds [B, N + M, L], up to where filters of `TAPS` end."""
    step = FFT - TAPS + 1
    count = -(-(sounds.shape[-1] + TAPS - 1) // step)
    sounds = torch.nn.functional.pad(sounds, (TAPS - 1, count * step - sounds.shape[-1]))
    for part in sounds.unfold(-1, FFT, step).split(BLOCKS, dim=2):
        yield part.double()


def _correlate(sounds, count):
    """[B, N + M, N, TAPS] correlations, sum over t of a[t] b[t - lag], of all sounds a with the sources b.

    count: N, the first sounds are the sources.
    """
    total = 0.0
    for part in _parts(sounds):
        past = torch.fft.rfft(part[:, :count])
        now = torch.fft.rfft(torch.nn.functional.pad(part[..., TAPS - 1 :], (TAPS - 1, 0)))
        products = [(now * each[:, None].conj()).sum(dim=2) for each in past.unbind(dim=1)]
        total = total + torch.stack(products, dim=2)
    return torch.fft.irfft(total, FFT)[..., :TAPS]


def _energies(sounds, own_filters, filters):
    """[5, B, N, M] energies of target, distortion, interference, target + interference, and artifacts.

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
    """[B, N, TAPS, N, TAPS] Gram matrix of all delays of all sources, from correlations [B, N, N, TAPS]."""
    negative = correlations.transpose(1, 2)[..., 1:].flip(-1)
    lags = torch.cat([negative, correlations], dim=-1)
    delays = torch.arange(TAPS, device=lags.device)
    index = TAPS - 1 + delays - delays[:, None]
    shape = (*lags.shape[:2], TAPS, lags.shape[2], TAPS)
    return lags[:, :, None].expand(*shape[:4], -1).gather(-1, index[:, None].expand(shape))


def _solve(gram, right):
    """Solve systems [B, n, n] (overwritten) for columns [B, n, M]; singular ones as mir_eval does."""
    diagonal = gram.diagonal(dim1=1, dim2=2).clone()
    result, infos = (_solve_definite if gram.is_cuda else _solve_definite_cpu)(gram, right)
    for b in infos.nonzero().flatten().tolist():
        lower = gram[b].tril(-1)  # still unchanged
        whole = lower + lower.mT + diagonal[b].diag()
        result[b], info = torch.linalg.solve_ex(whole, right[b])
        if info:  # singular: the least-norm solution
            rounding = torch.finfo(whole.dtype).eps * len(whole)
            result[b] = torch.linalg.pinv(whole, hermitian=True, rtol=rounding) @ right[b]
    return result


def _solve_definite(gram, right):
    """(solutions, [B] codes: 0, or another where the matrix is not positive definite)."""
    factors, infos = torch.linalg.cholesky_ex(gram)
    return torch.cholesky_solve(right, factors), infos


def _solve_definite_cpu(gram, right):
    """The same by scipy's LAPACK: 12 ms for n = 1024, torch takes 20 (AMD, one thread).

    Overwrites `gram` with the factors: allocating another 8 MiB for each mixture took 5 ms.
    """
    # LAPACK is column-major: its lower triangle is the upper one of the transpose, which needs no copy.
    pairs = zip(gram.mT.numpy(), right.numpy(), strict=True)
    solved = [scipy.linalg.lapack.dposv(*pair, lower=True, overwrite_a=True)[1:] for pair in pairs]
    results, infos = zip(*solved, strict=True)
    return torch.from_numpy(np.stack(results)), torch.tensor(infos)


def bss_eval_reference(sources, estimates):
    """(sdr, sir, sar), each [N] in dB, of estimates against their sources [N, L], by mir_eval."""
    import mir_eval  # here: it takes a second, and few runs need it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # mir_eval 0.9 drops the module
        return mir_eval.separation.bss_eval_sources(sources, estimates, False)[:3]
