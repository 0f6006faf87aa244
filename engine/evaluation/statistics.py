"""Mean, median and 95 % interval of the scores of mixtures; mixtures that share a clip are not independent.

M mixtures, C clips. A mixture's score is the mean over its sources.
"""

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95  # of the intervals
GAINS = {"sdr_gain": ("sdr", "sdr_mixture"), "si_sdr_gain": ("si_sdr", "si_sdr_mixture")}  # differences
DESCRIBED = ("sdr", "sir", "sar", "si_sdr", *GAINS)  # scores that have statistics
SINGULAR = 1e-9  # relative to the largest singular value: the equations do not tell two variances apart
# The variance of a mean is at least this share of the one for independent mixtures: estimates from few clips
# scatter, even below zero. Chosen by simulation: both 0.25 and 1 miss 93 to 97 % coverage more often.
LEAST_SHARE = 0.5


def interval(values, clips):
    """95 % interval (low, high) of the mean of values [..., M], each of shape [...], or (None, None).

    clips: for each mixture a list of labels of its clips. Mixtures with a clip in common are correlated: the
    interval is about the mean over other clips like these, not over other pairings of the same clips.

    The variance of the mean sums the products of residuals over all pairs of mixtures that share clips. Each
    mixture's own square counts once, as in the dyadic-robust variance of Aronow, Samii and Assenova,
    "Cluster-robust variance estimation for dyadic data", 2015. (Resampling clips with product weights counts
    it more than once and covers too much: Owen, "The pigeonhole bootstrap", 2007.) Residuals from an
    estimated mean are too small, the more so the fewer the clips. So the two sums, of squares and of shared
    products, are solved for the two variances of score = mean + effect of each clip + noise, for which the
    result is then unbiased. With many clips it is the dyadic-robust variance, which needs no such form.
    Student's t has Satterthwaite's degrees of freedom, as Bell and McCaffrey, "Bias reduction in
    standard errors for linear regression with multi-stage samples", 2002, propose for clusters.

    There is no interval for a single mixture, nor if all mixtures share a clip: its effect is then unknown.
    """
    design = _memberships(clips)
    num_mixtures = len(design)
    if num_mixtures < 2 or ((design > 0).sum(axis=0) == num_mixtures).any():
        return None, None
    mean = values.mean(axis=-1)
    residuals = values - mean[..., None]
    traces = _traces(design)
    equations = np.array([[traces[2], traces[1]], [traces[1], traces[0]]])
    solution = np.linalg.pinv(equations, rcond=SINGULAR)
    sums = np.stack([np.square(residuals @ design).sum(axis=-1), np.square(residuals).sum(axis=-1)])
    of_clips, of_noise = variances = np.tensordot(solution, sums, 1)  # [2, ...]
    weights = np.array([np.square(design.sum(axis=0)).sum(), num_mixtures]) / num_mixtures**2
    least = LEAST_SHARE * sums[1] / (num_mixtures - 1) / num_mixtures
    variance = np.tensordot(weights, variances, 1)
    freedom = _freedom(weights @ solution, of_clips.clip(0), of_noise.clip(0), traces)
    freedom = np.where(variance > least, freedom, num_mixtures - 1).clip(1)
    width = stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(np.maximum(variance, least))
    return mean - width, mean + width


def _memberships(clips):
    """[M, C]: how often each clip is in each mixture."""
    numbers = {}
    for label in (label for labels in clips for label in labels):
        numbers.setdefault(label, len(numbers))
    design = np.zeros((len(clips), len(numbers)))
    for m, labels in enumerate(clips):
        for label in labels:
            design[m, numbers[label]] += 1
    return design


def _traces(design):
    """Traces of the powers 0 to 4 of S [M, M], the numbers of shared clips of two mixtures, centred."""
    centred = design - design.mean(axis=0)
    gram = centred @ centred.T if len(design) < design.shape[1] else centred.T @ centred
    square = gram @ gram
    return len(design) - 1, np.trace(gram), np.trace(square), (square * gram).sum(), np.square(square).sum()


def _freedom(weights, of_clips, of_noise, traces):
    """Satterthwaite's degrees of freedom of the variance a r'Sr + b r'r, weights (a, b), of residuals r.

    of_clips, of_noise [...]: the variances of the effects of clips and of noise.
    """
    (a, b), (_, first, second, third, fourth) = weights, traces
    # The matrix of this form and the covariance of r have the eigenvectors of S. For its eigenvalue s, their
    # product has the eigenvalue (a s + b) (of_clips s + of_noise) = u s² + v s + w.
    u, v, w = a * of_clips, a * of_noise + b * of_clips, b * of_noise
    mean = u * second + v * first + w * traces[0]
    square = u**2 * fourth + 2 * u * v * third + (v**2 + 2 * u * w) * second
    square = square + 2 * v * w * first + w**2 * traces[0]
    return np.divide(mean**2, square, out=np.full(np.shape(square), traces[0], float), where=square > 0)


def describe(scores, clips):
    """{score: mean, median, interval and counts} of {score: [M] dB of mixtures}.

    clips: as for `interval`. Values that are not finite are left out, and scores of which none is finite.
    """
    groups = {}  # {which mixtures: scores that are finite in these}, to look at their clips once
    for key, values in scores.items():
        kept = np.flatnonzero(np.isfinite(values))
        if len(kept):
            groups.setdefault(tuple(kept.tolist()), []).append(key)
    found = {}
    for kept, keys in groups.items():
        own = [clips[m] for m in kept]
        values = np.array([np.asarray(scores[key], float)[list(kept)] for key in keys])
        low, high = interval(values, own)
        counts = {"num_mixtures": len(kept), "num_clips": len({label for labels in own for label in labels})}
        for k, key in enumerate(keys):
            ends = (None, None) if low is None else (float(low[k]), float(high[k]))
            middle = float(values[k].mean()), float(np.median(values[k]))
            found[key] = dict(zip(("mean", "median", "low", "high"), middle + ends, strict=True)) | counts
    return {key: found[key] for key in scores if key in found}


def with_gains(scores):
    """{score: [N]} with the gains over the mixture, as far as the scores that they need are known."""
    known = {gain: pair for gain, pair in GAINS.items() if scores.keys() >= set(pair)}
    return scores | {gain: np.subtract(scores[one], scores[other]) for gain, (one, other) in known.items()}


def score_statistics(mixtures):
    """Statistics of the scores, as metrics.json has them, of all mixtures and of parts of them.

    mixtures: M of (clips, scores): N of (category, name), {score: [N] dB}. Returns
    statistics: {score: see `describe`}; by_category: {category: the same of the sources of this category};
    by_pair: {category: {other: the same of its sources in mixtures with another source, of `other`}}.
    """
    labels = [[name for _, name in clips] for clips, _ in mixtures]
    known = [with_gains(scores) for _, scores in mixtures]
    keys = [key for key in DESCRIBED if known and key in known[0]]
    tables = [np.array([scores[key] for key in keys], float) for scores in known]  # [scores, N] each
    parts = {}  # {(category or None, other or None): [(mixture, its sources)]}
    for m, (clips, _) in enumerate(mixtures):
        categories = [category for category, _ in clips]
        parts.setdefault((None, None), []).append((m, list(range(len(clips)))))
        for category in filter(None, dict.fromkeys(categories)):  # trees without categories have none
            own = [n for n, each in enumerate(categories) if each == category]
            parts.setdefault((category, None), []).append((m, own))
            others = categories[: own[0]] + categories[own[0] + 1 :]
            for other in filter(None, dict.fromkeys(others)):
                parts.setdefault((category, other), []).append((m, own))
    found = {}
    for part, own in sorted(parts.items(), key=str):
        values = np.stack([tables[m][:, numbers].mean(axis=1) for m, numbers in own], axis=1)
        found[part] = describe(dict(zip(keys, values, strict=True)), [labels[m] for m, _ in own])
    return _nest(found)


def _nest(parts):
    """{(category, other): statistics} as `score_statistics` returns them."""
    nested = {"statistics": parts.pop((None, None), {}), "by_category": {}, "by_pair": {}}
    for (category, other), found in parts.items():
        if other is None:
            nested["by_category"][category] = found
        else:
            nested["by_pair"].setdefault(category, {})[other] = found
    return nested
