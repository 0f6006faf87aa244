"""Checkpoints of a run: saving, finding and restoring them.

`state_latest.pth` has everything that a run needs to resume, in one file so that it is always consistent;
`state_previous.pth` is the one before, for the case that it is damaged.
`{sound,frame,synthesizer}_{latest,best}.pth` are plain state dicts for all other uses.
"""

import json
import logging
import math
import os
import re
import shutil

import torch

from engine.machine.distributed import main_only
from engine.options import (
    FILE_OPTIONS,
    differing,
    has_short_name,
    read_options,
    training_options,
    weights_in,
)
from engine.processes.lock import FILE_LOCK
from engine.training.finite import check_weights
from engine.training.storage import clear_remains, copy_run, read_checkpoint, write_checkpoint
from utils import UserError, save_json

FILE_STATE = "state_latest.pth"
FILE_PREVIOUS = "state_previous.pth"
FILE_HISTORY = "history.json"
NETS = ("sound", "frame", "synthesizer")
PROGRESS = ("epoch", "finished", "best", "history")  # attributes of a trainer
FOLDER = "folder"  # key of a loaded state: where it was found
KINDS = {  # of what a state holds
    "nets": dict,
    "optimizer": dict,
    "scaler": dict,
    "options": dict,
    "epoch": int,
    "finished": bool,
    "best": float,
    "history": dict,
}

logger = logging.getLogger(__name__)


def weight_files(folder, suffix="best"):
    """{"sound": file, …} in a run's folder. Raises UserError, naming the missing files, unless all exist."""
    files = {name: os.path.join(folder, f"{name}_{suffix}.pth") for name in NETS}
    missing = [path for path in files.values() if not os.path.isfile(path)]
    if missing:
        raise UserError(f"no trained networks in {folder}: missing {', '.join(missing)}")
    return files


def find_run(folder, args, begun=False):
    """The saved state of the run in `folder`, or None for a new run; changes nothing.

    The number of epochs may grow: a published name contains it, so that the state then comes from the run of
    the same name with fewer epochs. begun: this torchrun session created the run and was restarted, so that
    --overwrite and --no-resume do not apply to it. Raises UserError if `folder` has a run with other options,
    or weights without a state, and --overwrite is not given.
    """
    if args.overwrite and not begun:
        return None
    if _has_state(folder):
        return _load_state(folder, args, args.resume or begun)
    weights = weights_in(folder)
    if weights:
        raise UserError(
            f"{folder} has weights ({', '.join(weights[:3])}) but no {FILE_STATE} to resume from: "
            "use another --id, --overwrite to delete them, or --weights_* to start from them"
        )
    shorter = _find_shorter(folder, args) if args.resume else None
    return _load_state(shorter, args, True) if shorter else None


def _find_shorter(folder, args):
    """The folder of the longest run with the published name and the options of `args`, but fewer epochs."""
    root, name = os.path.split(folder)
    if has_short_name(args) or not os.path.isdir(root):
        return None
    epochs = f"-epoch{args.num_epoch}-"
    pattern = re.compile(re.escape(name).replace(re.escape(epochs), "-epoch[0-9]+-"))
    found = []
    for other in (os.path.join(root, other) for other in os.listdir(root) if pattern.fullmatch(other)):
        saved = read_options(other)
        if saved and not differing(saved, training_options(args)):
            found.append((saved["num_epoch"], other))
    found = [(count, other) for count, other in found if _has_state(other)]
    return max(found)[1] if found else None


@main_only
def start_run(folder, args, state=None):
    """Prepare the folder of a run: `state` is None for a new one, see `find_run`.

    --overwrite deletes an existing run. A run that goes on under another name is copied.
    """
    if state is None:
        if args.overwrite and os.path.isdir(folder):
            _empty(folder)
        os.makedirs(folder, exist_ok=True)
    elif state[FOLDER] != folder:
        logger.info("continuing a copy of %s", state[FOLDER])
        copy_run(state[FOLDER], folder)
    clear_remains(folder)
    options = training_options(args)
    if read_options(folder) != options:
        save_json(os.path.join(folder, FILE_OPTIONS), options)


def _empty(folder):
    """Delete all that is in a folder but its lock, which this process holds."""
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name != FILE_LOCK:
            os.remove(entry.path)


def _load_state(folder, args, resume):
    if not resume:
        raise UserError(f"{folder} already has a run (--no-resume): --overwrite deletes it")
    state = _read_state(folder)
    found, wanted = state["options"], training_options(args)
    keys = differing(found, wanted)
    if keys:
        lines = [f"  {key}: {found.get(key)!r} there, {wanted.get(key)!r} here" for key in keys]
        raise UserError(
            f"{folder} has a run with other options:\n" + "\n".join(lines) + "\n"
            "Use its options to resume it, another --id for a new run, or --overwrite to delete it"
        )
    _tell_of_schedule(found["num_epoch"], args)
    return state | {FOLDER: folder}


def _read_state(folder):
    """The newest state in a folder that is whole; logs it if that is not the latest one."""
    complaints = []
    for name in (FILE_STATE, FILE_PREVIOUS):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):  # a process ended while it renamed the two
            continue
        try:
            state = read_checkpoint(path)
            _check_contents(path, state)
        except UserError as error:
            complaints.append(str(error))
            continue
        if complaints:
            text = "%s; continuing from the state before it, after epoch %d"
            logger.warning(text, complaints[0], state["epoch"])
        return state
    raise UserError(f"{'; '.join(complaints)}; --overwrite deletes the run")


def _check_contents(path, state):
    """Raise UserError unless a state has what `restore` needs."""
    found = state if isinstance(state, dict) else {}
    for key, kind in KINDS.items():
        if not isinstance(found.get(key), kind):
            what = f"is a {type(found[key]).__name__}" if key in found else "is missing"
            raise UserError(f"{path}: not the state of a run: {key} {what}, expected a {kind.__name__}")


def _has_state(folder):
    return any(os.path.isfile(os.path.join(folder, name)) for name in (FILE_STATE, FILE_PREVIOUS))


def _tell_of_schedule(num_epoch, args):
    """Log how a run of `num_epoch` epochs differs from one that was started with more, if it goes on."""
    if num_epoch < args.num_epoch and args.schedule == "cosine":
        logger.info(
            "the first epochs followed a cosine that ends after %d epochs, the others follow one that ends "
            "after %d: this run differs from one that was started with --num_epoch %d",
            *(num_epoch, args.num_epoch, args.num_epoch),
        )


@main_only
def save_weights(trainer, is_best):
    """Save plain state dicts of the three networks, and the learning curves."""
    if trainer.lock:
        trainer.lock.check()
    folder = trainer.folder
    for name in NETS:
        state = getattr(trainer.separator, f"net_{name}").state_dict()
        for suffix in ("best", "latest") if is_best else ("latest",):
            write_checkpoint(os.path.join(folder, f"{name}_{suffix}.pth"), state)
    write_checkpoint(os.path.join(folder, "history_latest.pth"), trainer.history)
    save_json(os.path.join(folder, FILE_HISTORY), trainer.history)


@main_only
def save_state(trainer, within=None):
    """Save everything that the run needs to resume from here; within: see `training.within.pack`.

    Raises Fault if weights are not finite, or if the folder is no longer this run's.
    """
    check_weights(trainer.separator, trainer.folder)
    if trainer.lock:
        trainer.lock.check()
    state = {
        "nets": {name: getattr(trainer.separator, f"net_{name}").state_dict() for name in NETS},
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "options": training_options(trainer.args),
        "within": within,
        "unreadable": trainer.failures.reasons,
        **{key: getattr(trainer, key) for key in PROGRESS},
    }
    path, previous = (os.path.join(trainer.folder, name) for name in (FILE_STATE, FILE_PREVIOUS))
    write_checkpoint(path, state, previous)


def restore(state, trainer):
    """Load the state of a run, as `find_run` returns it, into a new trainer with the same options.

    Raises UserError if the state is of other networks.
    """
    try:
        for name in NETS:
            getattr(trainer.separator, f"net_{name}").load_state_dict(state["nets"][name])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.scaler.load_state_dict(state["scaler"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        complaint = " ".join(str(error).split())[:400]
        raise UserError(
            f"{state[FOLDER]}: the state is not of these networks: {complaint}; --overwrite deletes the run"
        ) from None
    _lay_out(trainer.optimizer)
    for key in PROGRESS:
        setattr(trainer, key, state[key])
    # States of older code lack these.
    trainer.within = state.get("within")
    trainer.failures.reasons.update(state.get("unreadable", {}))


def _lay_out(optimizer):
    """Give the optimiser's moving averages the memory layout of their parameters.

    torch's fused optimisers read both in memory order and ignore strides. A run may resume on a machine where
    `--amp auto` gives another precision, and with it another layout (channels last or not).
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def read_history(folder):
    """The learning curves of the run in `folder`; {} if there are none, as for downloaded networks."""
    try:
        with open(os.path.join(folder, FILE_HISTORY), encoding="utf-8") as file:
            history = json.load(file)
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file.name}: not the history of a run: {error}") from None
    if not _holds_curves(history):
        raise UserError(f"{file.name}: not the history of a run: expected {{part: {{curve: [numbers]}}}}")
    return history


def _holds_curves(history):
    if not (isinstance(history, dict) and all(isinstance(part, dict) for part in history.values())):
        return False
    curves = [curve for part in history.values() for curve in part.values()]
    return all(
        isinstance(curve, list) and all(value is None or type(value) in (int, float) for value in curve)
        for curve in curves
    )


def best_epoch(history):
    """The epoch of the weights *_best.pth: the first one with the lowest validation loss; None if unknown."""
    curves = history.get("val", {})
    points = zip(curves.get("err", ()), curves.get("epoch", ()), strict=False)
    scored = [(loss, epoch) for loss, epoch in points if loss is not None and math.isfinite(loss)]
    return min(scored, default=(math.inf, None))[1]
