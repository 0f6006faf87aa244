"""What a run leaves on disk, and how it goes on from there.

`state_latest.pth` is all that a run needs to go on, in one file so that it is always of one moment;
`{sound,frame,synthesizer}_{latest,best}.pth` are plain state dicts, for everybody else.
"""

import json
import os
import shutil

import torch

from arguments import FILE_OPTIONS, training_options
from utils import UserError, replacing, save_json

FILE_STATE = "state_latest.pth"
FILE_HISTORY = "history.json"
NETS = ("sound", "frame", "synthesizer")


def weight_files(folder, suffix="best"):
    """{"sound": file, …} of a run's folder. Raises UserError, with what is missing, if not all are there."""
    files = {name: os.path.join(folder, f"{name}_{suffix}.pth") for name in NETS}
    missing = [path for path in files.values() if not os.path.isfile(path)]
    if missing:
        raise UserError(f"no trained networks in {folder}: missing {', '.join(missing)}")
    return files


def open_run(folder, args):
    """Make the run's folder ready; returns the state to go on from, or None for a new run.

    Raises UserError, and changes nothing, if another run lies there and --overwrite is not given.
    """
    if args.overwrite and os.path.isdir(folder):
        shutil.rmtree(folder)
    path = os.path.join(folder, FILE_STATE)
    if os.path.isfile(path):
        return _load_state(path, folder, args)
    weights = [
        name for name in (os.listdir(folder) if os.path.isdir(folder) else []) if name.endswith(".pth")
    ]
    if weights:
        raise UserError(
            f"{folder} holds weights ({', '.join(sorted(weights)[:3])}) but no {FILE_STATE} to go on from: "
            "use another --id, or --overwrite to delete them, or --weights_* to start from them"
        )
    os.makedirs(folder, exist_ok=True)
    save_json(os.path.join(folder, FILE_OPTIONS), training_options(args))
    return None


def _load_state(path, folder, args):
    if not args.resume:
        raise UserError(f"{folder} holds a run already (--no-resume): --overwrite deletes it")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["options"]
    except Exception as error:  # torch.load raises many kinds for files that are no checkpoints
        raise UserError(
            f"{path}: not the state of a run ({type(error).__name__}); --overwrite deletes it"
        ) from None
    wanted = training_options(args)
    keys = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    if keys:
        lines = [f"  --{key}: {found.get(key)!r} there, {wanted.get(key)!r} here" for key in keys]
        raise UserError(
            f"{folder} holds a run with other options:\n" + "\n".join(lines) + "\n"
            "Use its options to go on, another --id for a new run, or --overwrite to delete it"
        )
    return state


def save_run(trainer, is_best):
    """Write all that an epoch leaves behind; `state_latest.pth` comes last."""
    folder = trainer.folder
    nets = {name: getattr(trainer.separator, f"net_{name}").state_dict() for name in NETS}
    for name, state in nets.items():
        for suffix in ("latest", "best") if is_best else ("latest",):
            _save(os.path.join(folder, f"{name}_{suffix}.pth"), state)
    _save(os.path.join(folder, "history_latest.pth"), trainer.history)
    save_json(os.path.join(folder, FILE_HISTORY), trainer.history)
    state = {
        "nets": nets,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "epoch": trainer.epoch,
        "best": trainer.best,
        "history": trainer.history,
        "options": training_options(trainer.args),
    }
    _save(os.path.join(folder, FILE_STATE), state)


def restore(state, trainer):
    """Put the state of a run, as `open_run` gives it, into a new trainer of the same options."""
    for name in NETS:
        getattr(trainer.separator, f"net_{name}").load_state_dict(state["nets"][name])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.epoch, trainer.best, trainer.history = (state[key] for key in ("epoch", "best", "history"))


def read_history(folder):
    """The curves of the run in `folder`, {} where it has none: networks that came without their run."""
    try:
        with open(os.path.join(folder, FILE_HISTORY), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def _save(path, value):
    with replacing(path) as temporary:
        torch.save(value, temporary)
