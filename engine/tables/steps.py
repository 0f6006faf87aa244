"""The commands behind the tables: each runs once, and its time is kept."""

import json
import os
import subprocess
import sys
import time
from typing import NamedTuple

from dataset.index import read_index, write_mixtures
from dataset.indexing.mixtures import draw_mixtures
from engine.tables.rows import BASELINES, ORACLES, TABLES, VARIANTS
from utils import UserError, save_json

FILE_STEPS = "steps.json"
SEED_MIXTURES = 1234  # of the mixtures that are scored


class Plan(NamedTuple):
    """What the tables are made from."""

    list_train: str
    list_val: str
    ckpt: str  # folder of all runs and baselines
    seeds: tuple
    num_val: int  # mixtures that are scored
    extra: tuple  # flags of main.py for all runs


class Step(NamedTuple):
    """A command, and the name under which its time is kept."""

    name: str
    command: list


def run_name(name, seed, seeds):
    """The folder's name of a variant's run with a seed."""
    return name if len(seeds) == 1 else f"{name}-seed{seed}"


def path_mixtures(plan, num_mix):
    """The mixture list that is scored."""
    return os.path.join(plan.ckpt, f"val_mix{num_mix}.csv")


def write_lists(plan):
    """Write the mixture lists of two, three and four clips. Raises UserError if categories are too few."""
    clips = read_index(plan.list_val)
    for num_mix in sorted({table.num_mix for table in TABLES}):
        mixtures = draw_mixtures(clips, num_mix, plan.num_val, SEED_MIXTURES)
        if not mixtures:
            raise UserError(f"{plan.list_val}: mixtures of {num_mix} need clips of {num_mix} categories")
        write_mixtures(path_mixtures(plan, num_mix), mixtures)


def list_steps(plan):
    """All steps, in an order in which the first tables are ready first."""
    steps = [step for name in VARIANTS for seed in plan.seeds for step in _of_variant(plan, name, seed)]
    return steps + [_of_baselines(plan, num_mix) for num_mix in (2, 3, 4)]


def _of_variant(plan, name, seed):
    """Training and evaluation of a variant with a seed."""
    variant, run = VARIANTS[name], run_name(name, seed, plan.seeds)
    lists = ["--list_train", plan.list_train, "--list_val", plan.list_val, "--ckpt", plan.ckpt]
    common = [*variant.flags.split(), "--id", run, "--seed", str(seed), *lists, *plan.extra]
    main = [sys.executable, "main.py"]
    num_mix = next(table.num_mix for table in TABLES if name in table.runs)
    score = [*common, "--mode", "eval"]
    yield Step(f"train {run}", [*main, *common])
    yield Step(f"score {run}", [*main, *score, "--list_val_mix", path_mixtures(plan, num_mix)])
    if any(table.same and name in table.runs for table in TABLES):
        yield Step(f"score {run}, same category", [*main, *score, "--val_pairs", "same"])


def _of_baselines(plan, num_mix):
    """All baselines and ceilings on the mixtures of `num_mix`."""
    names = [name for table in TABLES if table.num_mix == num_mix for name in table.runs]
    names = [name for name in dict.fromkeys(names) if name in BASELINES | ORACLES]
    lists = ["--list_val_mix", path_mixtures(plan, num_mix), "--list_train", plan.list_train]
    options = ["--preset", "reduced", "--num_mix", str(num_mix), "--ckpt", plan.ckpt]
    command = [sys.executable, "-m", "engine.baselines", *names, *lists, *options, "--id", f"mix{num_mix}"]
    return Step(f"baselines of {num_mix}", command)


def run_steps(plan, steps):
    """Run the steps that are not done; returns {step's name: seconds}.

    The time of a step that was interrupted before is added. Raises UserError if a command fails.
    """
    path = os.path.join(plan.ckpt, FILE_STEPS)
    done = _read(path)
    for step in steps:
        known = done.get(step.name, {})
        if known.get("command") != step.command:
            known = {"command": step.command, "seconds": 0.0, "finished": False}
        done[step.name] = known
        if known["finished"]:
            continue
        print(f"== {step.name}", file=sys.stderr, flush=True)
        start = time.monotonic()
        try:
            status = subprocess.run(step.command).returncode
        finally:
            known["seconds"] += time.monotonic() - start
            save_json(path, done)
        if status:
            raise UserError(f"{step.name} failed with status {status}; the same command goes on from here")
        known["finished"] = True
        save_json(path, done)
    return {step.name: done[step.name]["seconds"] for step in steps}


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path}: not the steps of the tables: {error}; delete it to run all again") from None
