"""heartbeat.json in a run's folder: how far it is, for schedulers and dashboards."""

import contextlib
import datetime
import logging
import os
import socket
import threading

from engine.machine import distributed
from engine.options import batch_size
from engine.training.checkpoint import FILE_STATE
from utils import save_json

FILE = "heartbeat.json"
SECONDS = 30  # between two reports

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def heartbeat(trainer):
    """While the block runs, report every `SECONDS`, and once more at its end; in rank 0."""
    if not distributed.is_main():
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_keep_reporting, args=(trainer, ended), daemon=True)
    thread.start()
    phase = "stopped"
    try:
        yield
        phase = "finished"
    finally:
        ended.set()
        thread.join()
        _report(trainer, phase)


def _keep_reporting(trainer, ended):
    while not ended.is_set():
        _report(trainer)
        ended.wait(SECONDS)


def _report(trainer, phase=None):
    try:
        if os.path.isdir(trainer.folder):  # not to make one that was deleted
            save_json(os.path.join(trainer.folder, FILE), describe(trainer, phase))
    except OSError as error:
        logger.warning("%s: not written: %s", FILE, error)


def describe(trainer, phase=None):
    """The report of a trainer; phase: None while it trains or evaluates."""
    is_training = phase is None and trainer.finished
    return {
        "phase": phase or ("training" if is_training else "evaluating"),
        "epoch": trainer.epoch + 1 if is_training else trainer.epoch,
        "num_epoch": trainer.args.num_epoch,
        "step": trainer.pace.steps(),
        "steps_per_epoch": len(trainer.loader),
        "loss": trainer.loss,
        "mixtures_per_second": trainer.pace.speed() * batch_size(trainer.args),
        "skipped_steps": trainer.guard.skipped,
        "last_save": _changed(os.path.join(trainer.folder, FILE_STATE)),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "time": _text(datetime.datetime.now()),
    }


def _changed(path):
    """When a file was last written, as text; None if there is none."""
    try:
        return _text(datetime.datetime.fromtimestamp(os.path.getmtime(path)))
    except FileNotFoundError:
        return None


def _text(time):
    return time.astimezone().isoformat(timespec="seconds")
