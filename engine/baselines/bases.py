"""Bases of each category's sound, learned from training clips, and kept beside the scores."""

import hashlib
import logging
import os

import numpy as np
import torch

from dataset.audio import read_window
from dataset.index import read_index
from engine.baselines.factorise import COMPONENTS_CATEGORY, SOLVER_CATEGORY, learn_bases
from engine.options import path_val
from models.spectral import Spectral
from utils import UserError, progress, replacing

MAX_WINDOWS = 30  # of a category that are learned from
FILE_BASES = "bases.npz"

logger = logging.getLogger(__name__)


def find_bases(args, categories, folder, pool):
    """({category: [K, F]}, their key), learned from --list_train, or as kept in `folder` for the same sounds.

    Raises UserError if a category has no readable training clips.
    """
    categories = sorted(set(categories))
    windows = _read_windows(args, categories)
    constants = (MAX_WINDOWS, COMPONENTS_CATEGORY, SOLVER_CATEGORY, [waves.shape for waves in windows])
    state = hashlib.sha256(repr(constants).encode())
    for waves in windows:
        state.update(waves.tobytes())
    key = state.hexdigest()
    path = os.path.join(folder, FILE_BASES)
    bases = _kept(path, key)
    if bases is None:
        bases = _learn(windows, pool)
        with replacing(path) as temporary:
            np.savez(temporary, key=key, bases=bases)
    return dict(zip(categories, bases, strict=True)), key


def _read_windows(args, categories):
    """[C] arrays [W, L]: windows of the training clips of each category.

    Of many clips the middle of each, of few clips several moments, spread evenly.
    """
    clips = read_index(args.list_train)
    windows = []
    for category in progress(categories, desc="training clips", unit="category", leave=False):
        own = [clip for clip in clips if clip.category == category][:MAX_WINDOWS]
        count = -(-MAX_WINDOWS // max(len(own), 1))
        shares = (np.arange(count) + 0.5) / count
        waves = [wave for clip in own for wave in _read_clip(args, clip, shares)]
        if not waves:
            raise UserError(
                f"{args.list_train}: no readable clips of {category}, which is in {path_val(args)}: "
                "nmf-supervised needs some of each category"
            )
        windows.append(np.stack(waves))
    return windows


def _read_clip(args, clip, shares):
    """Windows [L] at these shares of a clip's length; [] if it cannot be read."""
    seconds = clip.num_frames / args.frameRate
    try:
        return [read_window(clip.path_audio, share * seconds, args.audLen, args.audRate) for share in shares]
    except UserError as error:
        logger.warning("left out: clip %s: %s", clip.name, error)
        return []


def _kept(path, key):
    if not os.path.isfile(path):
        return None
    with np.load(path) as kept:
        return kept["bases"] if str(kept["key"]) == key else None


def _learn(windows, pool):
    """Bases [C, K, F] of each category's windows [W, L]."""
    spectral = Spectral(log_freq=False)
    magnitudes = [spectral.stft(torch.from_numpy(waves)).abs().numpy() for waves in windows]
    futures = [pool.submit(learn_bases, np.concatenate(each, axis=1)) for each in magnitudes]
    logger.info("learning the bases of %d categories", len(futures))
    bases = [future.result() for future in progress(futures, desc="bases", unit="category", leave=False)]
    return np.stack(bases).astype(np.float32)
