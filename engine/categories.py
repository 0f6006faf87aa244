"""Names of sources: how close their image features are to those of the training clips of each category.

Features are the frame network's, before their activation. They are compared by the cosine between their
differences from the mean of all categories, in units of the spread within categories, so that a player who
fills a part of the picture points the same way as one who fills it. C channels, N clips or sources.
"""

import json
import os
from typing import NamedTuple

import numpy as np
import torch

from dataset.indexing.partners import group_by
from utils import UserError, progress, save_json

FILE_CATEGORIES = "categories.json"
MAX_CLIPS = 50  # of a category that are looked at
MAX_ALL = 3000  # of all categories; at least two of each
QUANTILE = 0.05  # of a category's clips: a source that is less similar gets no name
SHRINKAGE = 0.1  # of the covariance towards its mean variance, for categories of few clips


class Categories(NamedTuple):
    """K categories of a run's training clips."""

    names: list  # [K]
    clips: list  # [K] number of clips
    centre: np.ndarray  # [C] mean of the categories' means
    whitening: np.ndarray  # [C, C] differences from the centre @ whitening have unit spread within categories
    directions: np.ndarray  # [K, C] of the categories' means, whitened, of unit length
    nearest: np.ndarray  # [K] cosine that all but QUANTILE of the category's own clips exceed


def summarise(features, names):
    """The `Categories` of clips: features [N, C] and the name of each one's category.

    None if there are fewer than two categories, or no more clips than categories.
    """
    kinds, labels = np.unique(names, return_inverse=True)
    if len(kinds) < 2 or len(names) <= len(kinds):
        return None
    counts = np.bincount(labels)
    means = np.stack([features[labels == k].mean(axis=0) for k in range(len(kinds))])
    centre = means.mean(axis=0)
    inner = features - means[labels]
    covariance = inner.T @ inner / (len(names) - len(kinds))
    even = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    covariance = (1 - SHRINKAGE) * covariance + (SHRINKAGE + 1e-6) * even + 1e-12 * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(values)
    directions = _directions(means, centre, whitening)
    # Compared with the mean of the category's other clips, as a source is compared with clips not its own.
    others = (counts[labels, None] * means[labels] - features) / np.maximum(counts[labels, None] - 1, 1)
    own = (_directions(features, centre, whitening) * _directions(others, centre, whitening)).sum(axis=1)
    own[counts[labels] == 1] = 1
    nearest = np.array([np.quantile(own[labels == k], QUANTILE) for k in range(len(kinds))])
    return Categories(kinds.tolist(), counts.tolist(), centre, whitening, directions, nearest)


def name_sources(features, categories):
    """[(name, cosine) or None] of features [N, C]: the most similar category, if it is near enough."""
    cosines = _directions(features, categories.centre, categories.whitening) @ categories.directions.T
    found = []
    for row in cosines:
        k = int(row.argmax())
        near = row[k] >= categories.nearest[k]
        found.append((categories.names[k], float(row[k])) if near else None)
    return found


def _directions(features, centre, whitening):
    differences = (features - centre) @ whitening
    return differences / np.maximum(np.linalg.norm(differences, axis=1, keepdims=True), 1e-12)


def pick_clips(clips):
    """The numbers of the clips to look at: the first of each category, equally many.

    Empty if categories say nothing: if there are fewer than two, or fewer than two clips in each, on average.
    """
    groups = group_by(clips, "category")
    if len(groups) < 2 or len(clips) < 2 * len(groups):
        return []
    most = min(MAX_CLIPS, max(2, MAX_ALL // len(groups)))
    return sorted(number for group in groups for number in group[:most].tolist())


@torch.inference_mode()
def clip_features(separator, dataset, device, views=None):
    """(features [N, C], names [N]) of the readable clips of a `MUSICMixDataset`, see `pick_clips`.

    views: the features that `training.views.keep_views` returns, of which each clip's mean is used; without
    them, the frames in the middle of each clip are read.
    """
    separator.eval()
    features, names = [], []
    for number in progress(pick_clips(dataset.clips), desc="categories", unit="clip", leave=False):
        try:
            pooled = _features(separator, dataset, device, views, number)
        except UserError:  # training logs unreadable clips
            continue
        features.append(pooled.float().mean(dim=0).cpu().numpy())
        names.append(dataset.clips[number].category)
    return np.array(features, np.float64), names


def _features(separator, dataset, device, views, number):
    """[V, C] of the views of a clip, or [1, C] of its middle."""
    if views is not None and number not in dataset.unreadable:
        with separator.autocast(device):
            return separator.net_frame.head(views.unflatten(0, (len(dataset.clips), -1))[number].float())
    frames = torch.from_numpy(dataset.middle_clip(number))[None, None].to(device)
    with separator.autocast(device):
        return separator.net_frame.forward_multiframe(separator.normalise(frames))


def write_categories(folder, categories):
    """Write `Categories` into a run's folder, or remove the file for None."""
    path = os.path.join(folder, FILE_CATEGORIES)
    if categories is None:
        if os.path.isfile(path):
            os.remove(path)
        return
    values = {key: np.asarray(value).tolist() for key, value in categories._asdict().items()}
    save_json(path, values)


def read_categories(folder):
    """The `Categories` of the run in `folder`, None if it has none. Raises UserError for a malformed file."""
    path = os.path.join(folder, FILE_CATEGORIES)
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
        arrays = {key: np.array(values[key], np.float64) for key in Categories._fields[2:]}
        found = Categories([str(name) for name in values["names"]], values["clips"], **arrays)
        count, channels = len(found.names), len(found.centre)
        shapes = (channels, channels), (count, channels), (count,)
        if tuple(array.shape for array in found[3:]) != shapes:
            raise ValueError("shapes that do not fit")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the categories of a run: {error!r}") from None
    return found
