"""The training loop."""

import contextlib
import logging
import math
import os
import time
from collections import deque
from statistics import fmean

import torch

from engine.build import RATES
from engine.card import write_card
from engine.categories import clip_features, summarise, write_categories
from engine.evaluation.report import FOLDER_PAGE, summary_line, write_metrics, write_page
from engine.failures import Failures
from engine.loaders import start_epoch
from engine.machine import distributed
from engine.machine.prefetch import TENSORS, Arriving, batches_on
from engine.options import batch_size, frozen_epochs, path_val, training_options
from engine.processes.stop import Stop
from engine.runs import title
from engine.training.checkpoint import save_state, save_weights
from engine.training.finite import Guard, check_loss, check_results
from engine.training.heartbeat import heartbeat
from engine.training.pace import Pace
from engine.training.schedule import rate_factor
from engine.training.views import keep_views
from engine.training.within import pack, seed_step, unpack
from pages.curves import plot_history
from utils import Stopped, duration, progress

VAL_KEYS = ("loss", "sdr", "sir", "sar", "si_sdr", "sdr_mixture", "sdr_oracle")
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
    processes hold identical state; rank 0 saves it. card: what the run's model card says besides scores;
    lock: of the folder, in rank 0.
    """

    def __init__(
        self, args, folder, model, separator, device, optimizer, loader, evaluator, card=None, lock=None
    ):
        self.args = args
        self.folder = folder
        self.model = model
        self.separator = separator
        self.device = device
        self.optimizer = optimizer
        self.loader = loader
        self.evaluator = evaluator
        self.card = card
        self.lock = lock
        self.scaler = torch.amp.GradScaler(device.type, enabled=args.amp == "fp16")
        self.failures = Failures(len(loader.dataset.clips), args.list_train, folder)
        self.epoch = 0  # epochs trained so far
        self.finished = True  # whether the last one has also been evaluated and saved
        self.best = math.inf  # lowest validation loss
        self.history = new_history()
        self.within = None  # the position in the next epoch at which the run resumes, see `within.pack`
        self.step = 0  # batches of the current epoch that are done
        self.losses = []  # since the last log line, in this process
        self.stop = Stop()
        self.saved, self.saved_at = "the start", time.monotonic()  # what the last saved state holds
        self.views = None  # while the backbone is frozen: features of the training clips, see `keep_views`
        self.board = None  # TensorBoard's writer, in rank 0 during `run`
        self.pace = Pace(args.num_epoch * len(loader))
        self.guard = Guard(separator, args.skip_nonfinite)
        self.recent = deque(maxlen=args.disp_iter)  # losses of the last steps, in this process
        self.loss = None  # their mean, for the progress bar

    def run(self):
        """Train the remaining epochs and evaluate those that are due.

        The state is saved before each evaluation, so that a run that stops there resumes with it. Raises
        `Stopped` after a signal.
        """
        if self.finished and self.epoch >= self.args.num_epoch:
            logger.info("all %d epochs are trained", self.epoch)
            return
        self._announce()
        try:
            with self.stop, self._open_board() as self.board, heartbeat(self):
                self._train()
        except (Stopped, RuntimeError) as stop:
            # After a signal to all processes, one may end while others are a step ahead and wait for it.
            if not (isinstance(stop, Stopped) or (self.stop.name and distributed.world_size() > 1)):
                raise
            raise Stopped(
                f"stopped by {self.stop.name or stop}: {self.folder} holds the run up to {self.saved}; "
                "the same command continues it"
            ) from None

    def _train(self):
        if not self.finished:
            self._finish_epoch()
        frozen = frozen_epochs(self.args)
        if self.epoch < min(frozen, self.args.num_epoch) and self.loader.dataset.views:
            with self.stop.at_once():
                self.views = self._keep_views()
        self.pace = Pace(self._steps_left())
        for epoch in range(self.epoch + 1, self.args.num_epoch + 1):
            if epoch > frozen and self.separator.net_frame.frozen:
                self._unfreeze()
            self._train_epoch(epoch)
            self.epoch, self.finished = epoch, False
            self._save()
            self._finish_epoch()

    def _steps_left(self):
        done = self.within["step"] if self.within else 0
        return (self.args.num_epoch - self.epoch) * len(self.loader) - done

    def _save(self, within=None):
        """Save the state, within an epoch or after one."""
        save_state(self, within)
        self.saved_at = time.monotonic()
        self.saved = f"epoch {self.epoch}"
        if within:
            self.saved = f"step {self.step}/{len(self.loader)} of epoch {self.epoch + 1}"

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
        logger.info(text, epochs, steps, self._steps_left(), batch_size(args))
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

        first_step = self.args.num_epoch * len(self.loader) - self._steps_left() + 1
        return SummaryWriter(os.path.join(self.folder, "tensorboard"), purge_step=first_step)

    def _finish_epoch(self):
        """Evaluate if it is due, and save the epoch's results."""
        due = self.epoch % self.args.eval_epoch == 0 or self.epoch == self.args.num_epoch
        with self.stop.at_once():
            is_best = due and self._evaluate()
            save_weights(self, is_best)
            if is_best:
                self._describe_categories()
        self.finished = True
        self._save()
        if distributed.is_main():
            plot_history(self.folder, self.history)

    @distributed.main_only
    def _describe_categories(self):
        """Save what the categories of the training clips look like to the networks that were just saved."""
        found = clip_features(self.separator, self.loader.dataset, self.device, self.views)
        write_categories(self.folder, summarise(*found))

    def _train_epoch(self, epoch):
        """Train an epoch, or what is left of it if the run resumes within it."""
        self.model.train()
        within, self.within = self.within, None
        self.step, self.losses = within["step"] if within else 0, []
        start_epoch(self.loader, epoch, self.step)
        self.pace.begin_epoch(self.step, within["seconds"] if within else 0.0)
        if within:
            unpack(within, self)
        total, size = len(self.loader), batch_size(self.args)
        bar = {"total": total * size, "initial": self.step * size, "unit": "mixture"}
        desc = f"epoch {epoch}/{self.args.num_epoch}"
        with progress(desc=desc, line=lambda: self._line(desc), **bar) as bar:
            part, parts = self._train_batches(epoch, bar)
        if part < parts:
            self._end_group(part, parts)
        self.failures.join()
        distributed.average_norms(self.separator)

    def _train_batches(self, epoch, bar):
        """Train on the batches that are left; returns the position in their last group, and its size."""
        total, size = len(self.loader), batch_size(self.args)
        pending = None  # loss and clips of the previous step, read while the next one computes
        part = parts = 0  # position in a group of batches that share an optimiser step, and its size
        for step, batch in enumerate(self._batches(total - self.step), self.step + 1):
            self.failures.add(batch)
            asks = not self.stop.name, not self._is_due()
            whole, goes_on, is_recent = distributed.everywhere(bool(batch["info"]), *asks)
            if part == parts and not (goes_on and is_recent):
                self._check(pending)
                pending = None
                self._save_within(goes_on)
            if whole:
                if part == parts:  # the next group; the last one of an epoch may be smaller
                    part, parts = 0, min(self.args.accumulate, total - step + 1)
                    self._set_rates(epoch - 1 + (step - 1) / total)
                part += 1
                seed_step(self.args.seed, epoch, step)
                loss = self._step(batch, part, parts)
                if loss is not None:
                    self.losses.append(loss)
                    self._check(pending)
                    pending = Arriving(loss), batch["info"]
            self.step = step
            self._advance(bar, size)
            if self.losses and (step % self.args.disp_iter == 0 or step == total):
                self._record(epoch - 1 + step / total, torch.stack(self.losses).mean(), bar)
                self.losses.clear()
        self._check(pending)
        return part, parts

    def _batches(self, count):
        """The batches that are left, `count`; after a signal, one without mixtures instead of a wait.

        It needs a state that may be saved between any two batches: of one process, without --accumulate. And
        it needs loading processes: libraries that read files would swallow the exception.
        """
        batches = batches_on(self.device, self.loader)
        waits = self.args.accumulate > 1 or distributed.world_size() > 1 or not self.loader.num_workers
        for _ in range(0 if waits else count):
            try:
                with self.stop.at_once():
                    batch = next(batches)
            except Stopped:
                batch = {"info": [], "dropped": []}
            yield batch
        yield from batches

    def _is_due(self):
        """Whether it is time to save within the epoch."""
        seconds = 60 * self.args.save_minutes
        return seconds > 0 and time.monotonic() - self.saved_at >= seconds

    def _save_within(self, goes_on):
        """Save between two optimiser steps of an epoch. Raises `Stopped` unless the run goes on."""
        self._save(pack(self))
        if not goes_on:
            distributed.everywhere(True)  # the first one to end ends the others, which may still save
            raise Stopped(self.stop.name or "a signal to another process")

    def _step(self, batch, part=1, parts=1):
        """Train on a batch, number `part` of the `parts` of an optimiser step.

        Returns the loss, a scalar, or None if it is not finite and --skip_nonfinite leaves the step out.
        """
        if part == 1:
            self.optimizer.zero_grad(set_to_none=True)
        self.guard.begin(part)
        mix, sources, frames = (batch[key] for key in TENSORS)
        if self.views is not None:
            frames = self.views[frames.to(self.views.device)].to(self.device)
        with distributed.sharing(self.model, due=part == parts):
            loss = self.model(mix, sources, frames)["loss"].mean()
            self.scaler.scale(loss / parts).backward()
        is_kept = self.guard.keeps(loss, self.epoch + 1, lambda: self._names(batch["info"]))
        if part == parts:
            self._update()
        return loss.detach() if is_kept else None

    def _update(self):
        if self.guard.is_spoilt:
            return
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
        left = self.pace.left()  # None before the first step of a session that resumes within an epoch
        return f"{text}, loss {self.loss:.4f}, {speed}" + (f", {duration(left)} left" if left else "")

    def _check(self, pending):
        """Read the loss of a step. Raises Fault if it is not finite."""
        if pending is None:
            return
        loss = pending[0].item()
        check_loss(loss, self.epoch + 1, self._names(pending[1]))
        self.recent.append(loss)
        self.loss = fmean(self.recent)

    def _names(self, infos):
        """The sorted names of a batch's clips."""
        clips = self.loader.dataset.clips
        return sorted({clips[number].name for info in infos for number in info["clips"]})

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

    def _counts(self):
        """What was warned of in training, for metrics.json."""
        return {
            "num_clips_replaced": len(self.failures),
            "num_clips_damaged": len(self.failures.damaged),
            "num_steps_left_out": self.guard.skipped,
        }

    def _evaluate(self):
        """Evaluate, and write scores and page; True if the loss is the lowest so far."""
        page = os.path.join(self.folder, FOLDER_PAGE)
        summary, results = self.evaluator.run(page, self.args.num_vis)
        check_results(results, self.epoch)
        summary = {"epoch": self.epoch, **summary, **self._counts()}
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
