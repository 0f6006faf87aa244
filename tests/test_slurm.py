"""train_MUSIC.slurm and preprocess.slurm, with stand-ins for Slurm's commands."""

from pathlib import Path

import pytest

from tests.helpers import PROJECT
from tests.test_scripts import SCRIPTS, launch_of, make_environment, run, write_python


@pytest.fixture
def environment(tmp_path):
    return make_environment(tmp_path / "env")


def test_slurm_starts_it_on_each_machine(environment):
    programs = Path(environment["VIRTUAL_ENV"]) / "bin"
    write_python(programs / "scontrol", 'printf "first\\nsecond\\n"')
    write_python(programs / "srun", 'exec "${@:4}"')
    slurm = {"SLURM_SUBMIT_DIR": str(PROJECT), "SLURM_JOB_NODELIST": "[first,second]"}
    slurm |= {"SLURM_JOB_ID": "1234567", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "48"}
    launch, args = launch_of("train_MUSIC.slurm", "--list_train", "x", environment=environment, **slurm)
    assert list(launch.values()) == ["c10d", "first:24567", "1234567", "2", "2", "3"]
    assert args.list_train == "x"


@pytest.mark.parametrize(
    ("srun", "asked"),
    [
        ("exit 0", []),
        ("exit 1", []),
        ("exit 75", ["requeue 1234567"]),
        # The time limit: the batch script gets USR1, and main.py ends with 75, but torchrun with 1.
        ("kill -USR1 $PPID; sleep 1; exit 1", ["--signal=TERM 1234567", "requeue 1234567"]),
        ("kill -USR1 $PPID; sleep 1; exit 0", ["--signal=TERM 1234567"]),
    ],
)
def test_slurm_starts_a_stopped_run_again(environment, tmp_path, srun, asked):
    programs, log = Path(environment["VIRTUAL_ENV"]) / "bin", tmp_path / "log"
    write_python(programs / "srun", srun)
    for name in ("scontrol", "scancel"):
        write_python(programs / name, f'[[ $1 == show ]] && echo first || echo "$@" >>"{log}"')
    slurm = {"SLURM_SUBMIT_DIR": str(PROJECT), "SLURM_JOB_NODELIST": "first", "SLURM_JOB_ID": "1234567"}
    slurm |= {"SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "4"}
    result = run(SCRIPTS / "train_MUSIC.slurm", env=environment | slurm)
    assert str(result.returncode) == srun.split()[-1], result.stderr
    assert (log.read_text().splitlines() if log.exists() else []) == asked


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (1, 0), (2, 2)])
def test_slurm_converts_a_part_of_the_videos_on_each_machine(environment, status, expected):
    python = Path(environment["VIRTUAL_ENV"]) / "bin/python"
    write_python(python, f'[[ $1 != -c ]] || exit 0; echo "$*"; exit {status}')
    slurm = {"SLURM_SUBMIT_DIR": str(PROJECT), "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "4"}
    result = run(SCRIPTS / "preprocess.slurm", "8", "--videos", "a b", env=environment | slurm)
    assert result.returncode == expected, result.stderr
    assert result.stdout == "-m dataset.preprocess --shard 3/8 --jobs 4 --videos a b\n"


@pytest.mark.parametrize("arguments", [[], ["x"], ["--pack", "8"], ["0"], ["08"], ["8 "]])
def test_without_the_number_of_parts_first_it_says_so(environment, arguments):
    slurm = {"SLURM_SUBMIT_DIR": str(PROJECT), "SLURM_ARRAY_TASK_ID": "1"}
    result = run(SCRIPTS / "preprocess.slurm", *arguments, env=environment | slurm)
    assert result.returncode == 2
    found = arguments[0] if arguments else "nothing"
    assert result.stderr == (
        "error: expected the number of parts first, as in `sbatch --array=1-8 scripts/preprocess.slurm 8`, "
        f"found {found}\n"
    )


def test_a_part_that_does_not_exist_is_refused(environment):
    slurm = {"SLURM_SUBMIT_DIR": str(PROJECT), "SLURM_ARRAY_TASK_ID": "9"}
    result = run(SCRIPTS / "preprocess.slurm", "8", env=environment | slurm)
    assert result.returncode == 2
    assert result.stderr == "error: part 9 of 8: expected --array=1-8\n"
