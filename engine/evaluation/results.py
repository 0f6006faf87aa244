"""What becomes of one separated mixture: mir_eval's scores if they are asked for, its row on the page."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
import threadpoolctl
import torch

import viz
from dataset.frames import read_clip
from engine.evaluation.metrics import SCORES, score_reference
from utils import UserError

MAX_WORKERS = 16  # each holds some hundred MB


class Drawing(NamedTuple):
    """What a mixture's row on the page needs besides its sounds. F, T: mask; h, w: map of image features."""

    folder: str
    masks: np.ndarray  # [N, F, T]
    true_masks: np.ndarray  # [N, F, T]
    weight: np.ndarray  # [F, T]
    energy: np.ndarray  # [N, h, w]
    stills: np.ndarray  # uint8 [N, H, W, 3]
    pictures: list  # of N (folder of frames, numbers of the frames in the sound's window)
    freqs: np.ndarray  # [F] Hz
    rate: int  # samples/s
    frame_rate: int  # frames/s
    hop: int  # samples


class Mixture(NamedTuple):
    """A separated mixture: sources, estimates and oracle [N, L], mix [L]; clips: N of (category, name).

    status: "" or why it has no scores, see `metrics.find_silence`; scores: {score: [N]} that are known.
    """

    index: int
    clips: list
    loss: float
    mix: np.ndarray
    sources: np.ndarray
    estimates: np.ndarray
    oracle: np.ndarray
    status: str
    scores: dict
    missing: dict | None  # what `metrics.score_reference` is asked for besides; None: nothing
    drawing: Drawing | None

    @property
    def is_finished(self):
        """Whether there is nothing left to compute."""
        return self.missing is None and self.drawing is None


class Result(NamedTuple):
    """Of a mixture: status "" or why it has no scores, {score: [N]} and what the page needs, or None."""

    index: int
    clips: list
    loss: float
    status: str
    scores: dict
    row: dict | None
    complaint: str = ""  # why there is no row where one was asked for


def make_pool(num_workers):
    """Processes that finish mixtures, 1 to 16, each on one thread; none starts before it is needed."""
    context = multiprocessing.get_context("spawn")  # forks of a process with threads may hang
    return ProcessPoolExecutor(min(max(num_workers, 1), MAX_WORKERS), context, initializer=_start_worker)


def _start_worker():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends its workers
    threadpoolctl.threadpool_limits(1)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()  # a parent that is killed ends nobody
    os._exit(1)


def submit(pool, mixture):
    """A future of the `Result` of a `Mixture`; the pool sees only those that take time."""
    if not mixture.is_finished:
        return pool.submit(finish_mixture, mixture)
    future = Future()
    future.set_result(finish_mixture(mixture))
    return future


def finish_mixture(mixture):
    """Compute what is missing of a `Mixture`, and its row of the page, if it has a drawing: a `Result`."""
    scores = mixture.scores
    if mixture.missing is not None:
        sounds = mixture.sources, mixture.estimates, mixture.mix, mixture.oracle
        scores = scores | score_reference(*sounds, **mixture.missing)
    row, complaint = None, ""
    if mixture.drawing:
        try:
            row = viz.write_row(mixture.drawing.folder, _view(mixture, scores))
        except UserError as error:  # a picture that the network did not need, say: the scores stand
            complaint = str(error)
    return Result(mixture.index, mixture.clips, mixture.loss, mixture.status, scores, row, complaint)


def _view(mixture, scores):
    drawing = mixture.drawing
    return viz.MixtureView(
        name=f"{mixture.index:04d}",
        mix=mixture.mix,
        weight=drawing.weight,
        freqs=drawing.freqs,
        rate=drawing.rate,
        fps=drawing.frame_rate,
        hop_seconds=drawing.hop / drawing.rate,
        scores={key: _finite(np.mean(scores[key])) if scores else None for key in SCORES},
        sources=[_source_view(mixture, scores, n) for n in range(len(mixture.clips))],
    )


def _source_view(mixture, scores, n):
    drawing = mixture.drawing
    category, name = mixture.clips[n]
    folder, numbers = drawing.pictures[n]
    clip = read_clip(folder, numbers, drawing.stills.shape[1])
    return viz.SourceView(
        clip=name,
        category=category,
        frames=clip.transpose(1, 2, 3, 0),
        energy=drawing.energy[n],
        still=drawing.stills[n],
        mask_pred=drawing.masks[n],
        mask_true=drawing.true_masks[n],
        wav_pred=mixture.estimates[n],
        wav_true=mixture.sources[n],
        wav_oracle=mixture.oracle[n],
        scores={key: _finite(scores[key][n]) if scores else None for key in SCORES},
    )


def _finite(value):
    return float(value) if np.isfinite(value) else None
