"""The training loop."""

import contextlib
import logging
import math
import os
import time

import torch
from torch.utils.tensorboard import SummaryWriter

from engine.categories import clip_features, summarise, write_categories
from engine.evaluation.report import summary_line, write_metrics, write_page
from engine.failures import Failures
from engine.loaders import start_epoch
from engine.machine import distributed
from engine.machine.prefetch import TENSORS, Arriving, batches_on
from engine.options import batch_size, model_id, training_options
from engine.training.checkpoint import save_state, save_weights
from engine.training.schedule import rate_factor
from engine.training.views import keep_views
from pages.curves import plot_history
from utils import UserError, progress

VAL_KEYS = ("loss", "sdr", "sir", "sar", "si_sdr", "sdr_mixture", "sdr_oracle")
FOLDER_PAGE = "visualization"

logger = logging.getLogger(__name__)


def new_history():
    """Empty learning curves: the training loss by fractional epoch, and the scores of each evaluation."""
    return {
        "train": {"epoch": [], "err": []},
        "val": {"epoch": [], "err": [], **{key: [] for key in VAL_KEYS if key != "loss"}},
    }


class Trainer:
    """A run: networks, optimiser, loader, evaluator and progress.

    model: the module to call in training, `separator` or a wrapper for several processes or GPUs. All
    processes hold identical state; rank 0 saves it.
    """

    def __init__(self, args, folder, model, separator, device, optimizer, loader, evaluator):
        self.args = args
        self.folder = folder
        self.model = model
        self.separator = separator
        self.device = device
        self.optimizer = optimizer
        self.loader = loader
        self.evaluator = evaluator
        self.scaler = torch.amp.GradScaler(device.type, enabled=args.amp == "fp16")
        self.failures = Failures(len(loader.dataset.clips), args.list_train)
        self.epoch = 0  # epochs trained so far
        self.finished = True  # whether the last one has also been evaluated and saved
        self.best = math.inf  # lowest validation loss
        self.history = new_history()
        self.views = None  # with a frozen backbone: features of the training clips, see `keep_views`
        self.board = None  # TensorBoard's writer, in rank 0 during `run`

    def run(self):
        """Train the remaining epochs and evaluate those that are due.

        The state is saved before each evaluation, so that a run that stops there resumes with it.
        """
        if self.finished and self.epoch >= self.args.num_epoch:
            logger.info("all %d epochs are trained", self.epoch)
            return
        with self._open_board() as self.board:
            if not self.finished:
                self._finish_epoch()
            if self.epoch < self.args.num_epoch and self.loader.dataset.views:
                self.views = keep_views(self.separator, self.loader.dataset, self.device, self.args.workers)
            for epoch in range(self.epoch + 1, self.args.num_epoch + 1):
                self._train_epoch(epoch)
                self.epoch, self.finished = epoch, False
                save_state(self)
                self._finish_epoch()

    def _open_board(self):
        if not distributed.is_main():
            return contextlib.nullcontext()
        first_step = self.epoch * len(self.loader) + 1
        return SummaryWriter(os.path.join(self.folder, "tensorboard"), purge_step=first_step)

    def _finish_epoch(self):
        """Evaluate if it is due, and save the epoch's results."""
        due = self.epoch % self.args.eval_epoch == 0 or self.epoch == self.args.num_epoch
        is_best = due and self._evaluate()
        self.finished = True
        save_weights(self, is_best)
        if is_best:
            self._describe_categories()
        save_state(self)
        if distributed.is_main():
            plot_history(self.folder, self.history)

    @distributed.main_only
    def _describe_categories(self):
        """Save what the categories of the training clips look like to the networks that were just saved."""
        found = clip_features(self.separator, self.loader.dataset, self.device, self.views)
        write_categories(self.folder, summarise(*found))

    def _train_epoch(self, epoch):
        self.model.train()
        start_epoch(self.loader, epoch)
        total, size = len(self.loader), batch_size(self.args)
        with progress(total=total * size, desc=f"epoch {epoch}/{self.args.num_epoch}", unit="sample") as bar:
            began = time.perf_counter()
            losses = []  # since the last log line
            pending = None  # loss and clips of the previous step, read while the next one computes
            part = parts = 0  # position in a group of batches that share an optimiser step, and its size
            for step, batch in enumerate(batches_on(self.device, self.loader), 1):
                self.failures.add(batch)
                if distributed.everywhere(bool(batch["info"])):
                    if part == parts:  # the next group; the last one of an epoch may be smaller
                        part, parts = 0, min(self.args.accumulate, total - step + 1)
                        self._set_rates(epoch - 1 + (step - 1) / total)
                    part += 1
                    losses.append(self._step(batch, part, parts))
                    self._check(pending)
                    pending = Arriving(losses[-1]), batch["info"]
                bar.update(size)
                if losses and (step % self.args.disp_iter == 0 or step == total):
                    loss = distributed.mean(torch.stack(losses).mean().item())
                    bar.set_postfix(loss=f"{loss:.4f}")
                    speed = step * size / (time.perf_counter() - began)
                    self._record(epoch - 1 + step / total, loss, speed)
                    losses.clear()
            self._check(pending)
        if part < parts:
            self._end_group(part, parts)
        self.failures.join()
        distributed.average_norms(self.separator)

    def _step(self, batch, part=1, parts=1):
        """Train on a batch, number `part` of the `parts` of an optimiser step; returns the loss, a scalar."""
        if part == 1:
            self.optimizer.zero_grad(set_to_none=True)
        mix, sources, frames = (batch[key] for key in TENSORS)
        if self.views is not None:
            frames = self.views[frames]
        with distributed.sharing(self.model, due=part == parts):
            loss = self.model(mix, sources, frames)["loss"].mean()
            self.scaler.scale(loss / parts).backward()
        if part == parts:
            self._update()
        return loss.detach()

    def _update(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _end_group(self, part, parts):
        """Step with the first `part` of `parts` batches: the epoch ended, since the others were unreadable.

        Their losses were divided by `parts`, and their gradients have not been shared among processes.
        """
        distributed.average_gradients(self.separator)
        for parameter in self.separator.parameters():
            if parameter.grad is not None:
                parameter.grad *= parts / part
        self._update()

    def _check(self, pending):
        """Raise UserError if the loss of a step was not finite."""
        if pending is None or math.isfinite(pending[0].item()):
            return
        clips = self.loader.dataset.clips
        names = sorted({clips[number].name for info in pending[1] for number in info["clips"]})
        raise UserError(
            f"the loss is {pending[0].item()} in epoch {self.epoch + 1}, for the clips {', '.join(names)}: "
            "check their sound, or lower the learning rates; the previous epoch's checkpoint is kept"
        )

    def _record(self, epoch, loss, speed):
        """Log, plot and store the training loss at a fractional epoch; speed: samples/s."""
        self.history["train"]["epoch"].append(epoch)
        self.history["train"]["err"].append(loss)
        rates = ", ".join(f"{group['lr']:.1e}" for group in self.optimizer.param_groups)
        logger.info("epoch %.2f, loss %.4f, %.1f samples/s, learning rates %s", epoch, loss, speed, rates)
        if self.board:
            self.board.add_scalar("train/loss", loss, round(epoch * len(self.loader)))

    def _set_rates(self, done):
        factor = rate_factor(self.args, done)
        for group in self.optimizer.param_groups:
            group["lr"] = group["first_lr"] * factor

    def _evaluate(self):
        """Evaluate, and write scores and page; True if the loss is the lowest so far."""
        page = os.path.join(self.folder, FOLDER_PAGE)
        summary, results = self.evaluator.run(page, self.args.num_vis)
        summary = {"epoch": self.epoch, **summary, "num_clips_replaced": len(self.failures)}
        logger.info("%s", summary_line(summary))
        curves = self.history["val"]
        for key, value in {"epoch": self.epoch, "err": summary["loss"], **summary}.items():
            if key in curves:
                curves[key].append(value)
        if distributed.is_main():
            self._board_scores(summary)
            write_metrics(self.folder, summary, results)
            options = training_options(self.args)
            write_page(page, summary, results, options, self.history, model_id(self.args))
        is_best = summary["loss"] is not None and summary["loss"] < self.best
        self.best = summary["loss"] if is_best else self.best
        return is_best

    def _board_scores(self, summary):
        for key in VAL_KEYS:
            if summary[key] is not None:
                self.board.add_scalar(f"val/{key}", summary[key], self.epoch * len(self.loader))
