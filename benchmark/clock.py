"""How `benchmark` measures: alternating rounds and medians; memory in separate processes."""

import contextlib
import multiprocessing
import os
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from engine.machine.memory import keep_memory

PATH_STATUS = "/proc/self/status"  # Linux


def in_turn(actions, rounds):
    """{name: [seconds per round]} of callables {name: action}, which alternate in every round.

    So other load on the machine affects all of them alike. A first round, to warm up caches and memory, is
    not counted. Actions named "reference…" use the C library's default memory settings, the others those of
    `main.py` and `separate.py` without a GPU.
    """
    seconds = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            keep_memory(not str(name).startswith("reference"))
            began = time.perf_counter()
            action()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds, reference="reference", project="project"):
    """{value, low, high}: the project's speed-up by medians, and in the slowest and fastest rounds."""
    each = [old / new for old, new in zip(seconds[reference], seconds[project], strict=True)]
    value = statistics.median(seconds[reference]) / statistics.median(seconds[project])
    return {"value": value, "low": min(each), "high": max(each)}


@contextlib.contextmanager
def stopwatch(functions):
    """Time calls of functions {stage: (module, name)} inside the block; yields {stage: seconds}."""
    seconds = dict.fromkeys(functions, 0.0)
    originals = {stage: getattr(module, name) for stage, (module, name) in functions.items()}

    def timed(stage):
        def call(*args, **kwargs):
            began = time.perf_counter()
            try:
                return originals[stage](*args, **kwargs)
            finally:
                seconds[stage] += time.perf_counter() - began

        return call

    try:
        for stage, (module, name) in functions.items():
            setattr(module, name, timed(stage))
        yield seconds
    finally:
        for stage, (module, name) in functions.items():
            setattr(module, name, originals[stage])


def peak_memory():
    """Peak memory of this process in bytes."""
    if os.path.exists(PATH_STATUS):  # ru_maxrss includes the parent's memory, from before `exec`
        with open(PATH_STATUS, encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def alone(function, *args):
    """Run function(*args) in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()
