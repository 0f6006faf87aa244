"""Runs of the soak test: tiny networks on tiny clips, in forked processes that have imported everything."""

import json
import os
import signal
import socket
import sys
import traceback

import numpy as np
import soundfile
import torch
from PIL import Image

import main
from arguments import parse_args
from dataset.index import Clip, write_index
from engine.options import run_folder
from engine.training.checkpoint import FILE_STATE, NETS
from tests.helpers import SMALL

CATEGORIES = {"flute": (880, (40, 200, 40)), "tuba": (110, (40, 40, 200)), "cello": (220, (200, 40, 40))}
PER_CATEGORY, SECONDS, FPS, RATE = 4, 6, 8, 11025


def make_clips(folder):
    """Write 12 clips, and train.csv and val.csv of them."""
    clips = []
    times = np.arange(SECONDS * RATE) / RATE
    for category, (hertz, colour) in CATEGORIES.items():
        for number in range(PER_CATEGORY):
            name = f"{category}{number}"
            path = os.path.join(folder, "audio", category, f"{name}.wav")
            frames = os.path.join(folder, "frames", category, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.makedirs(frames)
            soundfile.write(path, 0.4 * np.sin(2 * np.pi * hertz * (1 + number / 8) * times), RATE)
            for k in range(1, SECONDS * FPS + 1):
                Image.new("RGB", (48, 40), colour).save(os.path.join(frames, f"{k:06d}.jpg"))
            clips.append(Clip(path, frames, SECONDS * FPS))
    write_index(os.path.join(folder, "train.csv"), clips)
    write_index(os.path.join(folder, "val.csv"), clips[::2])


def flags(clips, name, *more):
    """The flags of a run `name` on the clips in a folder; its results are in `<clips>/ckpt`."""
    lists = [f"--list_train={clips}/train.csv", f"--list_val={clips}/val.csv", f"--ckpt={clips}/ckpt"]
    run = f"--id {name} --num_gpus 0 --num_vis 1 --disp_iter 5 --mask_thres 0.4 --save_minutes 0.02".split()
    return [*SMALL, "--workers=1", *lists, *run, *more]


def folder_of(argv):
    """The folder of the run with these flags."""
    return run_folder(parse_args(argv))


def start(argv, log, processes=1):
    """Fork the processes of `main.py` with the flags, as torchrun would start them; returns their pids.

    log: a file to which they append what they print.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [_fork(argv, log, number, processes, port) for number in range(processes)]


def _fork(argv, log, number, processes, port):
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        if processes > 1:
            os.environ |= {
                "RANK": str(number),
                "LOCAL_RANK": str(number),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "TORCHELASTIC_RUN_ID": "soak",
                "TORCHELASTIC_RESTART_COUNT": "0",
            }
        main.main(argv)
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        _leave(status)


def _leave(status):
    """End a forked process as Python ends: with its loaders."""
    import multiprocessing.util

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    multiprocessing.util._exit_function()
    os._exit(status)


def tail(log):
    """The last lines of a log."""
    with open(log, encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-30:])


def differences(one, other):
    """How two runs' curves, scores, weights and optimisers differ, as lines."""
    found = []
    for name in ("history.json", "metrics.json"):
        texts = []
        for folder in (one, other):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                texts.append(json.load(file))
        found += [f"{name} differs"] if texts[0] != texts[1] else []
    files = [FILE_STATE, *(f"{net}_{suffix}.pth" for net in NETS for suffix in ("latest", "best"))]
    for name in files:
        states = [torch.load(os.path.join(folder, name)) for folder in (one, other)]
        if name == FILE_STATE:
            states = [{key: state[key] for key in ("nets", "optimizer", "epoch")} for state in states]
        found += [f"{name} differs"] if not _equal(*states) else []
    return found


def _equal(one, other):
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other
