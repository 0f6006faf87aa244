"""Finish separated mixtures in worker processes: mir_eval's scores if asked for, and the page's row."""

from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
import threadpoolctl
import torch

import viz
from dataset.frames import read_clip
from engine.evaluation.metrics import SCORES, score_reference
from engine.processes.pool import Pool
from utils import UserError

MAX_WORKERS = 16  # each takes some hundred MB


class Mixture(NamedTuple):
    """A separated mixture of N clips, as a worker receives it.

    status: "" or why it has no scores, see `metrics.find_silence`; scores: {score: [N]} that are known.
    """

    index: int
    clips: list  # N of (category, name)
    loss: float | None  # None: of a method without a loss
    status: str
    scores: dict
    unscored: dict | None  # arguments of `metrics.score_reference` for the scores that are missing, if any
    view: viz.MixtureView | None  # its row on the page, without frames and scores; None: it has no row
    frames: list  # N of (folder, numbers of the frames in the sound's window), for the row

    @property
    def is_finished(self):
        """Whether there is nothing left to compute."""
        return self.unscored is None and self.view is None


class Result(NamedTuple):
    """A finished mixture: status "" or why it has no scores, {score: [N]}, and its page row or None."""

    index: int
    clips: list
    loss: float | None
    status: str
    scores: dict
    row: dict | None
    complaint: str = ""  # why its row could not be written


def make_pool(num_workers):
    """A pool of 1 to 16 worker processes, one thread each."""
    return Pool(min(max(num_workers, 1), MAX_WORKERS), _start_worker)


def _start_worker():
    threadpoolctl.threadpool_limits(1)
    torch.set_num_threads(1)


def submit(pool, mixture, folder):
    """A future of the mixture's `Result`; only work that takes time goes to the pool."""
    if not mixture.is_finished:
        return pool.submit(finish_mixture, mixture, folder)
    future = Future()
    future.set_result(finish_mixture(mixture, folder))
    return future


def finish_mixture(mixture, folder):
    """Compute missing scores and write the page row, if it has one, into `folder`; returns a `Result`."""
    scores = mixture.scores
    if mixture.unscored is not None:
        scores = scores | score_reference(**mixture.unscored)
    row, complaint = None, ""
    if mixture.view:
        try:
            row = viz.write_row(folder, _complete(mixture.view, mixture.frames, scores))
        except UserError as error:  # e.g. a missing frame that only the page needs: keep the scores
            complaint = str(error)
    return Result(mixture.index, mixture.clips, mixture.loss, mixture.status, scores, row, complaint)


def _complete(view, frames, scores):
    """The view with frames read from disk and scores filled in."""
    sources = []
    for n, (source, (folder, numbers)) in enumerate(zip(view.sources, frames, strict=True)):
        clip = read_clip(folder, numbers, source.still.shape[0])
        own = {key: _finite(scores[key][n]) if scores else None for key in SCORES}
        sources.append(source._replace(frames=clip.transpose(1, 2, 3, 0), scores=own))
    means = {key: _finite(np.mean(scores[key])) if scores else None for key in SCORES}
    return view._replace(sources=sources, scores=means)


def _finite(value):
    return float(value) if np.isfinite(value) else None
