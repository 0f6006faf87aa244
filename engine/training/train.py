"""The training loop."""

import contextlib
import logging
import math
import os
from collections import deque
from statistics import fmean

import torch

from engine.build import RATES
from engine.card import write_card
from engine.categories import clip_features, summarise, write_categories
from engine.evaluation.report import summary_line, write_metrics, write_page
from engine.failures import Failures
from engine.loaders import start_epoch
from engine.machine import distributed
from engine.machine.prefetch import TENSORS, Arriving, batches_on
from engine.options import batch_size, frozen_epochs, path_val, training_options
from engine.runs import title
from engine.training.checkpoint import save_state, save_weights
from engine.training.pace import Pace
from engine.training.schedule import rate_factor
from engine.training.views import keep_views
from pages.curves import plot_history
from utils import UserError, duration, progress

VAL_KEYS = ("loss", "sdr", "sir", "sar", "si_sdr", "sdr_mixture", "sdr_oracle")
FOLDER_PAGE = "visualization"
LOSSES = {
    "bce": "binary cross-entropy",
    "l1": "mean absolute difference",
    "l2": "mean squared difference",
}

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
    processes hold identical state; rank 0 saves it. card: what the run's model card says besides scores.
    """

    def __init__(self, args, folder, model, separator, device, optimizer, loader, evaluator, card=None):
        self.args = args
        self.folder = folder
        self.model = model
        self.separator = separator
        self.device = device
        self.optimizer = optimizer
        self.loader = loader
        self.evaluator = evaluator
        self.card = card
        self.scaler = torch.amp.GradScaler(device.type, enabled=args.amp == "fp16")
        self.failures = Failures(len(loader.dataset.clips), args.list_train, folder)
        self.epoch = 0  # epochs trained so far
        self.finished = True  # whether the last one has also been evaluated and saved
        self.best = math.inf  # lowest validation loss
        self.history = new_history()
        self.views = None  # while the backbone is frozen: features of the training clips, see `keep_views`
        self.board = None  # TensorBoard's writer, in rank 0 during `run`
        self.pace = Pace(args.num_epoch * len(loader))
        self.recent = deque(maxlen=args.disp_iter)  # losses of the last steps, in this process
        self.loss = None  # their mean, for the progress bar

    def run(self):
        """Train the remaining epochs and evaluate those that are due.

        The state is saved before each evaluation, so that a run that stops there resumes with it.
        """
        if self.finished and self.epoch >= self.args.num_epoch:
            logger.info("all %d epochs are trained", self.epoch)
            return
        self._announce()
        with self._open_board() as self.board:
            if not self.finished:
                self._finish_epoch()
            frozen = frozen_epochs(self.args)
            if self.epoch < min(frozen, self.args.num_epoch) and self.loader.dataset.views:
                self.views = self._keep_views()
            self.pace = Pace((self.args.num_epoch - self.epoch) * len(self.loader))
            for epoch in range(self.epoch + 1, self.args.num_epoch + 1):
                if epoch > frozen and self.separator.net_frame.frozen:
                    self._unfreeze()
                self._train_epoch(epoch)
                self.epoch, self.finished = epoch, False
                save_state(self)
                self._finish_epoch()

    def _keep_views(self):
        args = self.args
        return keep_views(self.separator, self.loader.dataset, self.device, args.workers, args.views_dir)

    def _unfreeze(self):
        """Train the backbone from now on, on frames."""
        logger.info("the backbone is trained from here on")
        self.views = None
        self.separator.net_frame.unfreeze()
        self.model = distributed.share_gradients(self.model, self.device)

    def _announce(self):
        """Log how much there is to do, the learning rates, and what the loss is."""
        args = self.args
        epochs, steps = args.num_epoch - self.epoch, len(self.loader)
        text = "epochs left: %d, steps an epoch: %d, steps in all: %d, mixtures a step: %d"
        logger.info(text, epochs, steps, epochs * steps, batch_size(args))
        rates = [group["first_lr"] if group["params"] else 0 for group in self.optimizer.param_groups]
        rates = ", ".join(f"{name} {rate:g}" for name, rate in zip(RATES, rates, strict=True))
        logger.info("learning rates before warm-up and decay (0: frozen): %s", rates)
        weighted = ", weighted by the mixture's energy" if args.weighted_loss else ""
        text = "loss: %s between estimated and true masks%s; 0 is perfect. SDR measures how good it sounds"
        logger.info(text, LOSSES[args.loss], weighted)

    def _open_board(self):
        if not distributed.is_main():
            return contextlib.nullcontext()
        from torch.utils.tensorboard import SummaryWriter  # here: evaluation does not need it

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
        self.pace.begin_epoch()
        total, size = len(self.loader), batch_size(self.args)
        desc = f"epoch {epoch}/{self.args.num_epoch}"
        with progress(total=total * size, desc=desc, unit="mixture", line=lambda: self._line(desc)) as bar:
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
                self._advance(bar, size)
                if losses and (step % self.args.disp_iter == 0 or step == total):
                    self._record(epoch - 1 + step / total, torch.stack(losses).mean(), bar)
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
            frames = self.views[frames.to(self.views.device)].to(self.device)
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

    def _advance(self, bar, size):
        """Count a step of `size` mixtures, and show the loss and the time left."""
        self.pace.step()
        if self.loss is not None:
            bar.set_postfix_str(
                f"loss {self.loss:.4f}, run: {duration(self.pace.left())} left", refresh=False
            )
        bar.update(size)

    def _line(self, epoch):
        """Where the run is, as a line of text; epoch: text too."""
        text = f"{epoch}, step {self.pace.steps()}/{len(self.loader)}"
        if self.loss is None:
            return f"{text}, waiting for the first steps"
        speed = f"{self.pace.speed() * batch_size(self.args):.3g} mixtures/s"
        return f"{text}, loss {self.loss:.4f}, {speed}, {duration(self.pace.left())} left"

    def _check(self, pending):
        """Read the loss of a step. Raises UserError if it is not finite."""
        if pending is None:
            return
        loss = pending[0].item()
        if math.isfinite(loss):
            self.recent.append(loss)
            self.loss = fmean(self.recent)
            return
        clips = self.loader.dataset.clips
        names = sorted({clips[number].name for info in pending[1] for number in info["clips"]})
        raise UserError(
            f"the loss is {loss} in epoch {self.epoch + 1}, for the clips {', '.join(names)}: "
            "check their sound, or lower the learning rates; the previous epoch's checkpoint is kept"
        )

    def _record(self, epoch, loss, bar):
        """Store, plot and log the training loss at a fractional epoch; loss: this process's, a scalar."""
        self.loss = distributed.mean(loss.item())
        self.history["train"]["epoch"].append(epoch)
        self.history["train"]["err"].append(self.loss)
        bar.report()
        if self.board:
            step = round(epoch * len(self.loader))
            self.board.add_scalar("train/loss", self.loss, step)
            for name, group in zip(RATES, self.optimizer.param_groups, strict=True):
                self.board.add_scalar(f"learning rate/{name}", group["lr"], step)

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
            write_page(page, summary, results, options, self.history, title(self.folder))
        is_best = summary["loss"] is not None and summary["loss"] < self.best
        self.best = summary["loss"] if is_best else self.best
        if is_best and self.card and distributed.is_main():
            write_card(self.card, self.epoch, summary, path_val(self.args))
        return is_best

    def _board_scores(self, summary):
        for key in VAL_KEYS:
            if summary[key] is not None:
                self.board.add_scalar(f"val/{key}", summary[key], self.epoch * len(self.loader))
