"""A long run uses no more memory, files, threads and shared memory at its end than near its start."""

import glob
import math
import os
import re
import signal
import time
from statistics import median

from tests.soak import runs

FLAGS = "--num_epoch 1000 --eval_epoch 1000 --dup_trainset 10 --batch_size_per_gpu 1 --save_minutes 1".split()
STEPS_PER_EPOCH = 120
STEP = re.compile(r"epoch (\d+)/\d+, step (\d+)/")
EARLY, LATE = (0.3, 0.6), (0.9, math.inf)  # parts of the steps that are compared
STOPPED = 75  # exit status
SECONDS = 0.2  # between two looks
SLACK_BYTES = 120e6  # that memory may differ by, of some 1.4 GB: it rises and falls by 30 MB
KINDS = "MB of memory", "open files", "threads", "files in shared memory"


def soak(folder, size, seed):
    """(lines to print, problems) of a run that is stopped after `size["steps"]` steps."""
    clips = os.path.join(folder, "flat")
    runs.make_clips(clips)
    log = os.path.join(clips, "log")
    [pid] = runs.start(runs.flags(clips, "flat", *FLAGS, f"--seed={seed % 1000}"), log)
    looks = []
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        step = _step(log)
        if step and (look := _look(pid)):
            looks.append((step / size["steps"], look))
        if step >= size["steps"]:
            os.kill(pid, signal.SIGTERM)
            ended = os.waitpid(pid, 0)
            break
        time.sleep(SECONDS)
    if os.waitstatus_to_exitcode(ended[1]) != STOPPED:
        return [], [f"the long run failed:\n{runs.tail(log)}"]
    return compare(looks, size["steps"])


def _step(log):
    """The number of steps that a run has done, by its log."""
    found = STEP.findall(runs.tail(log)) if os.path.exists(log) else []
    return (int(found[-1][0]) - 1) * STEPS_PER_EPOCH + int(found[-1][1]) if found else 0


def compare(looks, steps):
    """(lines, problems) of [(part of the steps that are done, look)]."""
    early, late = ([look for at, look in looks if low < at <= high] for low, high in (EARLY, LATE))
    if not early or not late:
        return [], [f"{len(looks)} looks at {steps} steps, of which none is early or none is late"]
    lines, problems = [], []
    for number, kind in enumerate(KINDS):
        before, after = (median(look[number] for look in part) for part in (early, late))
        lines.append(f"{kind} {before:.0f} → {after:.0f}")
        slack = SLACK_BYTES / 1e6 if number == 0 else 2
        if after > before + slack:
            problems.append(f"{kind} grew from {before:.0f} to {after:.0f}")
    return [f"{steps} steps: {', '.join(lines)}"], problems


def _look(pid):
    """What a process and its children use, in the order of KINDS; None if it ends."""
    try:
        pids = [pid, *_children(pid)]
        pages = sum(int(_read(f"/proc/{each}/statm").split()[1]) for each in pids)
        files = sum(len(os.listdir(f"/proc/{each}/fd")) for each in pids)
        threads = sum(len(os.listdir(f"/proc/{each}/task")) for each in pids)
    except (OSError, IndexError):
        return None
    shared = len(glob.glob("/dev/shm/*"))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, files, threads, shared


def _children(pid):
    found = [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]
    return [each for child in found for each in (child, *_children(child))]


def _read(path):
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()
