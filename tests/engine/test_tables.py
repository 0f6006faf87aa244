"""The tables: their runs can be started, steps run once, and the text has what was measured."""

import csv
import os
import sys

import pytest

from arguments import parse_args
from dataset.index import Clip, read_mixtures, write_index
from engine.baselines.__main__ import parse as parse_baselines
from engine.tables import write
from engine.tables.rows import BASELINES, ORACLES, TABLES, VARIANTS
from engine.tables.steps import Plan, Step, list_steps, path_mixtures, run_steps, write_lists
from utils import UserError


def make_plan(folder, seeds=(1,)):
    return Plan("train.csv", str(folder / "val.csv"), str(folder), seeds, 4, ())


def write_val(folder, categories=5):
    clips = [Clip(f"audio/c{n % categories}/v{n}.wav", f"frames/v{n}", 80) for n in range(20)]
    write_index(folder / "val.csv", clips)


def test_every_command_is_one_that_main_and_the_baselines_accept(tmp_path):
    for step in list_steps(make_plan(tmp_path, seeds=(1, 2))):
        if step.command[1] == "main.py":
            if "--mode" not in step.command:
                assert parse_args(step.command[2:]).seed in (1, 2), step.name
        else:
            assert parse_baselines(step.command[3:]).names, step.name


def test_every_run_of_a_table_is_trained_or_a_baseline():
    assert {name for table in TABLES for name in table.runs} == {*VARIANTS, *BASELINES, *ORACLES}
    for table in TABLES:
        for name in VARIANTS.keys() & set(table.runs):
            assert parse_args(VARIANTS[name].flags.split()).num_mix == table.num_mix


def test_lists_have_mixtures_of_two_three_and_four(tmp_path):
    write_val(tmp_path)
    plan = make_plan(tmp_path)
    write_lists(plan)
    for num_mix in (2, 3, 4):
        mixtures = read_mixtures(path_mixtures(plan, num_mix))
        assert [len(mixture) for mixture in mixtures] == [num_mix] * plan.num_val
    write_val(tmp_path, categories=3)
    with pytest.raises(UserError, match="mixtures of 4 need clips of 4 categories"):
        write_lists(plan)


def test_steps_run_once_and_go_on_after_a_failure(tmp_path):
    plan, log = make_plan(tmp_path), tmp_path / "log"
    code = "import sys; open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit(int(sys.argv[3]))"

    def step(name, status=0):
        return Step(name, [sys.executable, "-c", code, str(log), name, str(status)])

    with pytest.raises(UserError, match="b failed with status 3"):
        run_steps(plan, [step("a"), step("b", 3), step("c")])
    seconds = run_steps(plan, [step("a"), step("b"), step("c")])
    assert log.read_text() == "abbc"
    assert seconds.keys() == {"a", "b", "c"}
    assert min(seconds.values()) > 0
    assert run_steps(plan, [step("a"), step("b"), step("c")]) == seconds
    assert log.read_text() == "abbc"


def test_a_step_whose_command_changed_runs_again(tmp_path):
    plan, log = make_plan(tmp_path), tmp_path / "log"
    for text in "xy":
        run_steps(plan, [Step("a", [sys.executable, "-c", f"open({str(log)!r}, 'a').write({text!r})"])])
    assert log.read_text() == "xy"


def test_other_bytes_instead_of_the_steps_are_a_clear_error(tmp_path):
    (tmp_path / "steps.json").write_text("{")
    with pytest.raises(UserError, match=r"steps\.json: not the steps of the tables"):
        run_steps(make_plan(tmp_path), [])


def write_scores(folder, sdr):
    """The files of an evaluation of four mixtures of two clips."""
    os.makedirs(folder, exist_ok=True)
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow("mixture source clip category status loss sdr sir sar si_sdr sdr_mixture".split())
        for mixture in range(4):
            for source in range(2):
                clip = f"c/v{(mixture + source) % 5}"
                scores = [sdr + mixture / 10, 1, 2, 3, 0.5]
                writer.writerow([mixture, source, clip, "c", "scored", 0.1, *scores])


def test_tables_have_scores_differences_times_and_flags_and_keep_the_text_above(tmp_path):
    plan = make_plan(tmp_path, seeds=(1, 2))
    for table in TABLES:
        for n, name in enumerate(table.runs):
            runs = [f"{name}-seed{seed}" for seed in plan.seeds]
            folders = [tmp_path / run / ("same" if table.same else "") for run in runs]
            if name not in VARIANTS:
                folders = [tmp_path / "baselines" / f"mix{table.num_mix}" / name]
            for folder in folders:
                write_scores(folder, 5.0 + n)
    out = tmp_path / "tables.md"
    out.write_text(f"# Mine\n\nWhat I think.\n{write.MARK}\nold\n")
    seconds = {f"train binary-log-seed{seed}": 60.0 for seed in plan.seeds}
    write.write_tables(out, plan, seconds, ["--seeds", "1", "2"])
    text = out.read_text()
    assert text.startswith(f"# Mine\n\nWhat I think.\n\n{write.MARK}\n")
    assert "old" not in text
    assert "`./scripts/reproduce_tables.sh --seeds 1 2`" in text
    for table in TABLES:
        part = text.partition(f"## {table.title}\n")[2].partition("\n## ")[0]
        rows = [line for line in part.splitlines() if line.startswith("|")]
        assert len(rows) == len(table.runs) + 2
        assert "+1.00" in rows[3]  # the second run is 1 dB better than the first
    assert " 2.0 min |" in text
    assert all(variant.flags in text for variant in VARIANTS.values())


def test_a_run_without_scores_is_named(tmp_path):
    with pytest.raises(UserError, match=r"binary-log: no metrics\.csv"):
        write.write_tables(tmp_path / "tables.md", make_plan(tmp_path), {}, [])
    assert not (tmp_path / "tables.md").exists()
