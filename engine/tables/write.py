"""Write the tables as Markdown, from the evaluations of all runs and baselines."""

import os
import platform
import shlex

from engine.card import code_version
from engine.evaluation.compare.read import Entry, read_run
from engine.evaluation.compare.table import compare, format_table, table_cells
from engine.tables.rows import BASELINES, ORACLES, TABLES, VARIANTS
from engine.tables.steps import run_name
from utils import duration, replacing

MARK = "<!-- What follows is written by engine.tables; what is above stays. -->"
FOLDER_SAME = "same"  # of a run's scores with --val_pairs same
FLAGS_HEAD = ["| run | flags of `main.py` |", "| --- | --- |"]


def write_tables(path, plan, seconds, typed):
    """Write the tables to `path`; text above MARK in the file that is there stays.

    seconds: {step's name: seconds}; typed: the command's arguments. Raises UserError if a run has no scores.
    """
    parts = [_lead(plan, seconds, typed)]
    for table in TABLES:
        comparison = compare([_entry(plan, table, name) for name in table.runs])
        cells = _with_minutes(plan, table, table_cells(comparison), seconds)
        parts += [f"## {table.title}\n", format_table(cells, comparison.notes, "markdown")]
    parts += ["## Flags\n", "\n".join([*FLAGS_HEAD, *map(_flags, VARIANTS.values())]) + "\n"]
    text = "\n".join([_kept(path), MARK, "", *parts])
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


def _entry(plan, table, name):
    """The line of a table: a variant with all its seeds, or a baseline."""
    if name in VARIANTS:
        runs = [run_name(name, seed, plan.seeds) for seed in plan.seeds]
        folders = [os.path.join(plan.ckpt, run, *[FOLDER_SAME] * table.same) for run in runs]
        return Entry(VARIANTS[name].text, [read_run(folder) for folder in folders])
    folder = os.path.join(plan.ckpt, "baselines", f"mix{table.num_mix}", name)
    return Entry((BASELINES | ORACLES)[name], [read_run(folder)])


def _with_minutes(plan, table, cells, seconds):
    """The cells with a column of the minutes that training took."""
    rows = [[*cells[0], "training"]]
    for name, row in zip(table.runs, cells[1:], strict=True):
        taken = [seconds.get(f"train {run_name(name, seed, plan.seeds)}") for seed in plan.seeds]
        rows.append([*row, "" if None in taken else f"{sum(taken) / 60:.1f} min"])
    return rows


def _lead(plan, seconds, typed):
    command = shlex.join(["./scripts/reproduce_tables.sh", *typed])
    taken, seeds = duration(sum(seconds.values())), ", ".join(map(str, plan.seeds))
    return (
        f"`{command}`: {plan.num_val} mixtures of clips in `{plan.list_val}`, networks trained on "
        f"`{plan.list_train}`, seed {seeds}; {taken} in all "
        f"on {_machine()}. Code: {code_version() or 'not a git clone'}.\n"
    )


def _machine():
    threads = os.environ.get("OMP_NUM_THREADS")
    used = f", {threads} of them used" if threads else ""
    return f"{os.cpu_count()} CPU cores ({platform.machine()}{used})"


def _flags(variant):
    return f"| {variant.text} | `{variant.flags}` |"


def _kept(path):
    """The text above MARK in the file, or a title."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().partition(MARK)[0].rstrip() + "\n"
    except FileNotFoundError:
        return "# Tables\n"
