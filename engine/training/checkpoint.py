"""Checkpoints of a run: saving, finding and restoring them.

`state_latest.pth` has everything that a run needs to resume, in one file so that it is always consistent;
`{sound,frame,synthesizer}_{latest,best}.pth` are plain state dicts for all other uses.
"""

import copy
import json
import logging
import math
import os
import re
import shutil
import tempfile

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
from utils import UserError, replacing, save_json

FILE_STATE = "state_latest.pth"
FILE_HISTORY = "history.json"
NETS = ("sound", "frame", "synthesizer")
PROGRESS = ("epoch", "finished", "best", "history")  # attributes of a trainer
FOLDER = "folder"  # key of a loaded state: where it was found
STATE = ("nets", "optimizer", "scaler", "options", *PROGRESS)

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
    if os.path.isfile(os.path.join(folder, FILE_STATE)):
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
    found = [(count, other) for count, other in found if os.path.isfile(os.path.join(other, FILE_STATE))]
    return max(found)[1] if found else None


@main_only
def start_run(folder, args, state=None):
    """Prepare the folder of a run: `state` is None for a new one, see `find_run`.

    --overwrite deletes an existing run. A run that goes on under another name is copied.
    """
    if state is None:
        if args.overwrite and os.path.isdir(folder):
            shutil.rmtree(folder)
        os.makedirs(folder, exist_ok=True)
    elif state[FOLDER] != folder:
        logger.info("continuing a copy of %s", state[FOLDER])
        _copy_run(state[FOLDER], folder)
    options = training_options(args)
    if read_options(folder) != options:
        save_json(os.path.join(folder, FILE_OPTIONS), options)


def _copy_run(source, folder):
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder), prefix=".copying-") as work:
        shutil.copytree(source, os.path.join(work, "run"))
        for entry in os.scandir(os.path.join(work, "run")):
            os.replace(entry.path, os.path.join(folder, entry.name))


def _load_state(folder, args, resume):
    if not resume:
        raise UserError(f"{folder} already has a run (--no-resume): --overwrite deletes it")
    path = os.path.join(folder, FILE_STATE)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = {key: state[key] for key in STATE}["options"]
    except Exception as error:  # torch.load raises many types for files that are not checkpoints
        raise UserError(f"{path}: not the state of a run ({error!r}); --overwrite deletes it") from None
    wanted = training_options(args)
    keys = differing(found, wanted)
    if keys:
        lines = [f"  {key}: {found.get(key)!r} there, {wanted.get(key)!r} here" for key in keys]
        raise UserError(
            f"{folder} has a run with other options:\n" + "\n".join(lines) + "\n"
            "Use its options to resume it, another --id for a new run, or --overwrite to delete it"
        )
    _tell_of_schedule(found["num_epoch"], args)
    return state | {FOLDER: folder}


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
    folder = trainer.folder
    for name in NETS:
        state = getattr(trainer.separator, f"net_{name}").state_dict()
        for suffix in ("best", "latest") if is_best else ("latest",):
            _save(os.path.join(folder, f"{name}_{suffix}.pth"), state)
    _save(os.path.join(folder, "history_latest.pth"), trainer.history)
    save_json(os.path.join(folder, FILE_HISTORY), trainer.history)


@main_only
def save_state(trainer):
    """Save everything that the run needs to resume from here."""
    state = {
        "nets": {name: getattr(trainer.separator, f"net_{name}").state_dict() for name in NETS},
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "options": training_options(trainer.args),
        **{key: getattr(trainer, key) for key in PROGRESS},
    }
    _save(os.path.join(trainer.folder, FILE_STATE), state)


def restore(state, trainer):
    """Load the state of a run, as `find_run` returns it, into a new trainer with the same options."""
    for name in NETS:
        getattr(trainer.separator, f"net_{name}").load_state_dict(state["nets"][name])
    trainer.optimizer.load_state_dict(state["optimizer"])
    _lay_out(trainer.optimizer)
    trainer.scaler.load_state_dict(state["scaler"])
    for key in PROGRESS:
        setattr(trainer, key, state[key])


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


def _save(path, value):
    with replacing(path) as temporary:
        torch.save(on_cpu(value), temporary)


def on_cpu(value):
    """A copy of `value` with all tensors on the CPU, those in its dicts, lists and tuples as well."""
    if torch.is_tensor(value):
        return value.cpu()
    if isinstance(value, dict):
        moved = copy.copy(value)  # keeps a state dict's attributes
        moved.update({key: on_cpu(inner) for key, inner in value.items()})
        return moved
    if isinstance(value, (list, tuple)):
        return type(value)(on_cpu(inner) for inner in value)
    return value
