"""Masks by factorising the mixture's magnitude: NMF with and without learned bases, and HPSS.

N sources, F frequencies, T columns, K components. Functions of numpy arrays, for worker processes.
"""

import contextlib
import warnings

import librosa
import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF, non_negative_factorization
from sklearn.exceptions import ConvergenceWarning

COMPONENTS = 20  # of a mixture
COMPONENTS_CATEGORY = 40  # of a category
NUM_MELS = 40
NUM_MFCC = 13  # with the first, the loudness, which is left out
# The better distances, of the Frobenius norm, Kullback-Leibler and Itakura-Saito, on the demo's mixtures.
SOLVER = {"solver": "cd", "max_iter": 200, "tol": 1e-4}  # of mixtures: Frobenius norm
SOLVER_CATEGORY = {"solver": "mu", "beta_loss": "kullback-leibler", "max_iter": 200, "tol": 1e-4}
SEED = 0
TINY = 1e-10


@contextlib.contextmanager
def _quiet():
    """Without the warning that an algorithm stopped at its last iteration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@_quiet()
def nmf_masks(magnitude, num_sources, rate):
    """Masks [N, F, T] of a mixture's magnitude [F, T], of components whose bases sound alike.

    Source: Spiertz and Gnann, "Source-filter based clustering for monaural blind source separation", 2009;
    the baseline of the paper.
    """
    model = NMF(COMPONENTS, init="nndsvda", random_state=SEED, **SOLVER)
    bases = model.fit_transform(magnitude + TINY)
    groups = _cluster(bases, num_sources, rate)
    parts = [bases[:, groups == n] @ model.components_[groups == n] for n in range(num_sources)]
    return _shares(np.stack(parts))


@_quiet()
def learn_bases(magnitude):
    """Bases [K, F] of a category, of unit sum, from its magnitudes [F, T]."""
    model = NMF(COMPONENTS_CATEGORY, init="random", random_state=SEED, **SOLVER_CATEGORY)
    model.fit(magnitude.T + TINY)
    return model.components_ / model.components_.sum(axis=1, keepdims=True).clip(TINY)


@_quiet()
def supervised_masks(magnitude, bases, owners):
    """Masks [N, F, T] of a mixture's magnitude [F, T], explained by the bases of the sources' categories.

    bases: [K, F] of each category; owners: [N], the category of each source. Sources of one category share
    its mask evenly.
    """
    known = {"H": np.concatenate(bases), "n_components": sum(map(len, bases)), "update_H": False}
    gains, *_ = non_negative_factorization(magnitude.T + TINY, **known, **SOLVER_CATEGORY)
    ends = np.cumsum([len(each) for each in bases])[:-1]
    parts = [(own @ each).T for own, each in zip(np.split(gains, ends, axis=1), bases, strict=True)]
    masks = _shares(np.stack(parts))
    return np.stack([masks[owner] / owners.count(owner) for owner in owners])


def hpss_masks(magnitude):
    """Masks [2, F, T] of the harmonic and the percussive part of a magnitude [F, T]."""
    return np.stack(librosa.decompose.hpss(magnitude, mask=True)).astype(np.float32)


def _cluster(bases, num_sources, rate):
    """[K] group 0 … N - 1 of each basis, of [F, K]: k-means of the MFCC of their spectra."""
    mels = librosa.filters.mel(sr=rate, n_fft=2 * (len(bases) - 1), n_mels=NUM_MELS)
    power = mels @ (bases / bases.max(axis=0).clip(TINY)) ** 2
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(power), n_mfcc=NUM_MFCC)[1:]
    return KMeans(num_sources, n_init=10, random_state=SEED).fit_predict(mfcc.T)


def _shares(parts):
    """Wiener masks [N, F, T] of the magnitudes of the parts [N, F, T]: each part's share of the power."""
    power = parts**2 + TINY**2  # what no part explains is shared evenly
    return (power / power.sum(axis=0)).astype(np.float32)
