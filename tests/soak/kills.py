"""Training that is killed and stopped at random moments ends as if it had not been."""

import glob
import os
import random
import signal
import time
from collections import Counter

from tests.soak import runs

REPEATS, STEPS_PER_EPOCH = 4, 24
LONG_SHARE, SHORT_SECONDS, LONG_SECONDS = 0.3, 3, 12  # of what is left alone before a signal
MAX_SECONDS = 300  # for a run that is left alone
TORCHRUN_SECONDS = 2  # that the other process may go on after one was killed
STOPPED = {75, -signal.SIGTERM, 0}  # by SIGTERM: saved; before training begins; just finished


def soak(folder, size, seed):
    """(lines to print, problems): runs in one process or several, as `size["processes"]` says."""
    clips = os.path.join(folder, "kills")
    runs.make_clips(clips)
    lines, problems = [], []
    for processes in size["processes"]:
        counts, found = _soak_one(clips, size, random.Random(f"{seed}/{processes}"), processes)
        steps, runs_ended = size["epochs"] * STEPS_PER_EPOCH, counts["runs"]
        lines.append(f"training with {processes} process(es), {runs_ended} run(s) of {steps} steps:")
        killed, stopped = counts["kill"], counts["term"]
        lines.append(f"  {killed} SIGKILLs, {stopped} SIGTERMs; saved by these: {counts['saved']}")
        lines.append(f"  bit for bit like the undisturbed run: {counts['equal']} of {runs_ended}")
        problems += found
    return lines, problems


def _soak_one(clips, size, rng, processes):
    epochs = size["epochs"]
    steps = f"--num_epoch {epochs} --eval_epoch {epochs // 2} --dup_trainset {REPEATS}".split()
    argv = runs.flags(clips, f"whole{processes}", *steps, f"--batch_size_per_gpu={2 // processes}")
    whole, log = runs.folder_of(argv), os.path.join(clips, "log")
    counts, problems = Counter(), []
    if _finish(argv, log, processes):
        return counts, [f"the undisturbed run failed:\n{runs.tail(log)}"]
    while counts["kill"] < size["kills"] or counts["term"] < size["terms"]:
        counts["runs"] += 1
        parts = [*argv, f"--id=parts{processes}-{counts['runs']}"]
        problems += _disturb(parts, log, processes, size, rng, counts)
        if _finish(parts, log, processes):
            return counts, [*problems, f"a run could not be continued:\n{runs.tail(log)}"]
        folder = runs.folder_of(parts)
        found = [f"{folder}: {each}" for each in runs.differences(whole, folder)]
        found += [f"left behind: {path}" for path in _remains(folder)]
        counts["equal"] += not found
        problems += found
    return counts, problems


def _disturb(argv, log, processes, size, rng, counts):
    """Start the run again and again, and stop it, until it is done or was disturbed often enough."""
    problems = []
    while counts["kill"] < size["kills"] or counts["term"] < size["terms"]:
        pids = runs.start(argv, log, processes)
        is_long = rng.random() < LONG_SHARE
        time.sleep(rng.uniform(SHORT_SECONDS, LONG_SECONDS) if is_long else rng.uniform(0, SHORT_SECONDS))
        terminates = counts["term"] < size["terms"] and rng.random() < 0.4
        if terminates or counts["kill"] >= size["kills"]:
            delivered = [_send(pid, signal.SIGTERM) for pid in pids]
            statuses = [_wait(pid, MAX_SECONDS) for pid in pids]
            counts["term"] += any(delivered)
            counts["saved"] += 75 in statuses
            if not set(statuses) <= STOPPED:
                problems.append(f"SIGTERM ended in {statuses}:\n{runs.tail(log)}")
        else:
            counts["kill"] += _send(pids.pop(rng.randrange(processes)), signal.SIGKILL)
            for pid in pids:  # as torchrun does
                _wait(pid, TORCHRUN_SECONDS)
            statuses = []
        if statuses and not any(statuses):
            break
    return problems


def _send(pid, number):
    """True if the process was there to get the signal; a killed one is waited for."""
    ended, _ = os.waitpid(pid, os.WNOHANG)
    if ended:
        return False
    os.kill(pid, number)
    if number == signal.SIGKILL:
        os.waitpid(pid, 0)
    return True


def _wait(pid, seconds):
    """The exit status of a process, minus a signal's number; it is killed after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # waited for already
            return 0
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _finish(argv, log, processes):
    """Leave a run alone until it is done; True if it failed."""
    return any(_wait(pid, MAX_SECONDS) for pid in runs.start(argv, log, processes))


def _remains(folder):
    """Files that a finished run should not leave; half-written plots are deleted ten minutes later."""
    names = [".*.pth", ".copying-*", "*.lock"]
    return [path for name in names for path in glob.glob(os.path.join(folder, name))]
