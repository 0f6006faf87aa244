"""What the cells of a picture sound like: groups of similar cells, their energy, and a basis of streams.

Everything is computed from the Gram matrix [P, P] of the cells' sounds: the inner products of their masked
spectrograms over the whole video. P = h * w cells; W windows.
"""

import warnings
from typing import NamedTuple

import numpy as np

from utils import UserError

MAX_STREAMS = 12  # size of the basis
MIN_CAPTURED = 0.99  # streams are added until each cell's sound and its reconstruction correlate so well
LOUD = 0.02  # of the loudest cell's energy: quieter cells need not reach MIN_CAPTURED
NUM_DIMENSIONS = 8  # of the embedding that is clustered
MIN_SPREAD = 0.01  # of the embedding of unit-length sounds: below it, differences are rounding errors
MIN_VARIANCE = 0.2  # of the embedding, by energy: below it, all cells sound alike
MIN_APART = 0.25  # squared distance of two groups' centres in the picture, relative to their extent
LOUD_PART = 0.5  # of a source's loudest cell: louder cells show the player
CORE = 0.5  # share of a group's cells that represent it: those least like the other groups


class Analysis(NamedTuple):
    """What the first pass found out about a video's cells."""

    maps: np.ndarray  # [W, C, h, w] image features of each window, before their activation
    energy: np.ndarray  # [W, h, w]
    gram: np.ndarray  # [P, P]

    @property
    def shape(self):
        """(h, w)."""
        return self.energy.shape[1:]


def analyse(windows):
    """windows: an iterable of (maps [B, C, h, w], magnitude [B, F, T], masks [B, P, F, T]) tensors."""
    all_maps, energies, gram = [], [], 0.0
    for maps, magnitude, masks in windows:
        for one, mask in zip(magnitude, masks, strict=True):
            sounds = (mask * one).flatten(1)
            product = (sounds @ sounds.T).double().cpu().numpy()
            gram = gram + product
            energies.append(np.diag(product).reshape(maps.shape[2:]).copy())  # a view would keep the matrix
        all_maps.append(maps.cpu().numpy())
    return Analysis(np.concatenate(all_maps), np.stack(energies), gram)


def embed(gram):
    """[P, D] an embedding of the cells by their sounds, independent of loudness, with zero mean."""
    norms = np.sqrt(np.maximum(np.diag(gram), 1e-12 * np.diag(gram).max() + 1e-30))
    values, vectors = np.linalg.eigh(gram / norms / norms[:, None])
    points = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))
    weights = np.diag(gram) / max(np.trace(gram), 1e-30)
    points = points - weights @ points
    left, scale, _ = np.linalg.svd(points, full_matrices=False)
    return (left * scale)[:, :NUM_DIMENSIONS]


def group(gram, num_groups, seed=0):
    """Group the cells by sound: (bool [K, P] cells that represent each group, [P] every cell's group).

    k-means on the cells' embedding, weighted by energy. If there are fewer distinct sounds than `num_groups`,
    the loudest cells become groups of their own.
    """
    from sklearn.cluster import KMeans  # here: it takes a second, and training does not need it
    from sklearn.exceptions import ConvergenceWarning

    points, weights = embed(gram), np.diag(gram)
    weights = weights / max(weights.max(), 1e-30) + 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct sounds than groups
        model = KMeans(num_groups, n_init=10, random_state=seed).fit(points, sample_weight=weights)
    distances = model.transform(points)
    labels = distances.argmin(axis=1)
    for k in set(range(num_groups)) - set(labels):
        spare = np.bincount(labels)[labels] > 1
        labels[np.argmax(spare * weights)] = k
    cores = []
    for k in range(num_groups):
        others = np.delete(distances, k, axis=1)
        margin = (others.min(axis=1) if others.size else 0.0) - distances[:, k]
        mine = labels == k
        cores.append(mine & (margin >= np.quantile(margin[mine], 1 - CORE)))
    return np.stack(cores), labels


def are_two(gram, shape, labels):
    """Whether two groups are two sources: their cells sound different, and lie in different places.

    labels [P]: the group of each cell, 0 or 1; shape: (h, w). The thresholds were set on duets and solos.
    """
    weights = np.diag(gram) / max(np.trace(gram), 1e-30)
    variance = weights @ np.square(embed(gram)).sum(axis=1)
    position = np.stack(np.indices(shape), axis=-1).reshape(-1, 2)
    shares = np.stack([weights * (labels == k) for k in (0, 1)])
    centres = shares @ position / np.maximum(shares.sum(axis=1, keepdims=True), 1e-30)
    apart = np.square(centres[0] - centres[1]).sum()
    extent = weights @ np.square(position - centres[labels]).sum(axis=1)
    return bool(variance > MIN_VARIANCE and apart > MIN_APART * extent)


def loud_cells(regions, labels, energy):
    """bool [K, h, w]: the loud cells of each source, of its region and of those that were grouped with it.

    regions bool [K, h, w], labels [P]: see `group`; energy [W, h, w].
    """
    energy = energy.sum(axis=0)
    cells = regions | (labels.reshape(energy.shape) == np.arange(len(regions))[:, None, None])
    loudest = np.where(cells, energy, 0).max(axis=(1, 2), keepdims=True)
    return cells & (energy >= LOUD_PART * loudest)


def colours(gram):
    """uint8 [P, 3]: the first three principal components of the sounds as RGB."""
    points = np.pad(embed(gram), ((0, 0), (0, 3)))[:, :3]
    spread = max(np.abs(points).max(), MIN_SPREAD)
    return np.round((points / spread + 1) / 2 * 255).astype(np.uint8)


def basis(gram):
    """A basis of R streams for the page: (parts [P, R], gains [P, R]).

    Stream r is the sum over cells p of parts[p, r] times the sound of p, and never louder than the mixture.
    The sound of p is approximately the sum over r of gains[p, r] times stream r.
    """
    energy = np.diag(gram)
    norms = np.sqrt(np.maximum(energy, LOUD * energy.max()) + 1e-30)
    scaled = gram / norms / norms[:, None]
    vectors = np.linalg.eigh(scaled)[1][:, ::-1]
    for size in range(1, min(MAX_STREAMS, len(gram)) + 1):
        one = vectors[:, :size]
        lost = np.diag(scaled) - ((one @ one.T) * scaled).sum(axis=1)
        if lost.max() <= 1 - MIN_CAPTURED**2:
            break
    parts = one / norms[:, None]
    scale = np.abs(parts).sum(axis=0)
    return parts / scale, one * norms[:, None] * scale


def cells_of(rectangle, size, shape):
    """bool [h, w]: cells with their centre in a rectangle (x, y, width, height), or else the nearest one.

    size: (width, height) of the video. Raises UserError if the rectangle begins outside of it.
    """
    x, y, width, height = rectangle
    if x >= size[0] or y >= size[1]:
        raise UserError(f"({x:g}, {y:g}) lies outside of the video, which is {size[0]} × {size[1]} pixels")
    rows, columns = shape
    centres_y = (np.arange(rows) + 0.5) * size[1] / rows
    centres_x = (np.arange(columns) + 0.5) * size[0] / columns
    inside = (
        ((centres_y >= y) & (centres_y <= y + height))[:, None] & (centres_x >= x) & (centres_x <= x + width)
    )
    if not inside.any():
        inside[np.abs(centres_y - y - height / 2).argmin(), np.abs(centres_x - x - width / 2).argmin()] = True
    return inside
