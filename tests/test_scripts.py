"""The scripts, run with a stand-in for Python and its environment."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from arguments import parse_args
from engine.options import model_id
from engine.presets import PRESETS
from models.download_weights import RELEASED_ID
from tests.helpers import PROJECT

SCRIPTS = PROJECT / "scripts"


@pytest.fixture
def environment(tmp_path):
    return make_environment(tmp_path / "env")


def make_environment(folder):
    """Environment variables that make the scripts use this Python as an environment with all requirements."""
    write_python(folder / "bin/python", f'exec {shlex.quote(sys.executable)} "$@"')
    files = [f"requirements{part}.txt" for part in ("", "-data", "-serve", "-remote", "-dev")]
    checksum = subprocess.run(f"cat {' '.join(files)} | cksum", shell=True, cwd=PROJECT, capture_output=True)
    for name in files:
        (folder / f".stamp-{name}").write_bytes(checksum.stdout)
    return bare_environment() | {"VIRTUAL_ENV": str(folder)}


def bare_environment():
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


def write_python(path, line):
    """A stand-in for python: a shell script with one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{line}\n")
    path.chmod(0o755)


def run(script, *arguments, env, cwd="/"):
    return subprocess.run(["bash", script, *arguments], env=env, cwd=cwd, capture_output=True, text=True)


LIGHT = {  # scripts that need no torch, and what they pass their arguments to
    "download_trained_model.sh": "models/download_weights.py",
    "download_MUSIC.sh": "-m|dataset.download",
    "preprocess_videos.sh": "-m|dataset.preprocess",
    "create_index_files.sh": "create_index_files.py",
}
OTHERS = {
    "serve.sh": "-m|pages.serve",
    "compare.sh": "-m|engine.evaluation.compare",
    "soak.sh": "-m|tests.soak",
}


@pytest.mark.parametrize(("script", "called"), [*LIGHT.items(), *OTHERS.items()])
def test_scripts_of_one_command_pass_their_arguments_on(environment, script, called):
    write_python(Path(environment["VIRTUAL_ENV"]) / "bin/python", 'printf "%s|" "$@"')
    result = run(SCRIPTS / script, "a b", "--url", "http://x", env=environment)
    assert f"{called}|a b|--url|http://x|" in result.stdout


@pytest.mark.parametrize("script", LIGHT)
def test_scripts_for_data_install_no_torch(project, script):
    env = bare_environment() | {"PYTHON": str(project.parent / "python")}
    assert run(project / "scripts" / script, env=env).returncode == 0
    asked = (project.parent / "log").read_text().splitlines()
    (installed,) = [line for line in asked if "pip install" in line]
    assert installed.endswith("-r requirements-data.txt")
    assert "pip install" in set_up(project)[1], "the others are still missing"


def test_install_makes_the_environment_and_says_where(project):
    env = bare_environment() | {"PYTHON": str(project.parent / "python")}
    result = run(project / "scripts/install.sh", env=env)
    assert "source " in result.stdout
    assert str(project).replace(" ", "\\ ") + "/.venv/bin/activate" in result.stdout
    assert "-r requirements.txt" in (project.parent / "log").read_text()


def test_an_environment_that_the_user_made_is_used_and_nothing_in_it_is_replaced(project):
    write_python(project / ".venv/bin/python", (project.parent / "python").read_text().splitlines()[1])
    _, asked = set_up(project)
    assert "venv" not in asked
    (installed,) = [line for line in asked.splitlines() if "pip install" in line]
    assert installed == "-m pip install --disable-pip-version-check -r requirements.txt"


def flags_of(script, *arguments, environment, **variables):
    """The arguments that a script passes to main.py, parsed."""
    python = Path(environment["VIRTUAL_ENV"]) / "bin/python"
    write_python(python, '[[ $1 == main.py ]] || exit 0; printf "%s\\n" "${@:2}"')
    result = run(SCRIPTS / script, *arguments, env=environment | variables)
    assert result.returncode == 0, result.stderr
    return parse_args(result.stdout.splitlines())


def test_training_is_the_recipe_of_the_released_model(environment):
    args = flags_of("train_MUSIC.sh", "--list_train", "my list.csv", environment=environment)
    assert model_id(args) == RELEASED_ID
    assert (args.mode, args.list_train, args.list_val) == ("train", "my list.csv", "data/val.csv")
    assert (args.loss, args.batch_size_per_gpu, args.num_val, args.dup_trainset) == ("bce", 20, 256, 100)
    assert (args.lr_frame, args.lr_sound, args.lr_synthesizer) == (1e-4, 1e-3, 1e-3)
    assert args.pretrained == "imagenet"


def test_flags_of_the_user_win_in_training(environment):
    arguments = ["--list_train=x.csv", "--num_epoch", "3", "--lr_steps", "1", "2", "--id", "mine"]
    args = flags_of("train_MUSIC.sh", *arguments, environment=environment)
    assert (args.num_epoch, args.lr_steps, args.id) == (3, [1, 2], "mine")


def test_modern_training_is_its_preset(environment):
    args = flags_of("train_modern.sh", "--list_train", "x.csv", "--num_epoch", "3", environment=environment)
    assert (args.preset, args.list_train, args.num_epoch) == ("modern", "x.csv", 3)
    assert args.arch_frame == PRESETS["modern"]["arch_frame"]


def test_small_training_is_its_preset(environment):
    args = flags_of("train_small.sh", "--list_train", "x.csv", "--num_epoch", "3", environment=environment)
    assert (args.preset, args.list_train, args.num_epoch) == ("small", "x.csv", 3)
    assert args.ngf == PRESETS["small"]["ngf"]


def launch_of(script, *arguments, environment, **variables):
    """(torchrun's arguments, main.py's, parsed) of a script on a machine with two GPUs."""
    python = Path(environment["VIRTUAL_ENV"]) / "bin/python"
    write_python(
        python,
        "[[ $2 != *device_count* ]] || echo 2; [[ $2 == torch.distributed.run ]] || exit 0; "
        'printf "%s\\n" "${@:3}"',
    )
    result = run(SCRIPTS / script, *arguments, env=environment | variables)
    assert result.returncode == 0, result.stderr
    words = result.stdout.splitlines()
    at = words.index("main.py")
    launch = dict(zip(words[:at:2], words[1:at:2], strict=True))
    return launch, parse_args(words[at + 1 :])


def test_torchrun_trains_the_same_recipe_on_all_gpus_of_a_machine(environment):
    lists = ["--list_train", "my list.csv"]
    launch, args = launch_of("train_MUSIC_multinode.sh", *lists, "--lr_steps", "1", environment=environment)
    assert launch == {
        "--rdzv-backend": "c10d",
        "--rdzv-endpoint": "localhost:0",
        "--rdzv-id": "MUSIC",
        "--nnodes": "1",
        "--nproc-per-node": "2",
        "--max-restarts": "3",
    }
    assert args == flags_of("train_MUSIC.sh", *lists, "--lr_steps", "1", environment=environment)


def test_several_machines_meet_at_one(environment):
    flags = "--nnodes 2 --rdzv-endpoint=a:1 --nproc-per-node 8 --max-restarts=0 --rdzv-id x --list_train=y"
    launch, args = launch_of("train_MUSIC_multinode.sh", *flags.split(), environment=environment)
    assert list(launch.values()) == ["c10d", "a:1", "x", "2", "8", "0"]
    assert (args.list_train, args.id) == ("y", "MUSIC")
    for wrong in (["--nnodes", "2"], ["--list_train", "y", "--rdzv-id"]):
        result = run(SCRIPTS / "train_MUSIC_multinode.sh", *wrong, env=environment)
        assert result.returncode == 2
        assert "error: --" in result.stderr


def test_evaluation_is_of_the_released_model_or_another(environment, tmp_path):
    for name in (RELEASED_ID, "mine", "theirs"):
        (tmp_path / name).mkdir()
    flags = "eval_MUSIC.sh", "--ckpt", str(tmp_path)
    args = flags_of(*flags, environment=environment)
    assert (args.mode, args.id, args.num_frames, args.stride_frames) == ("eval", RELEASED_ID, 3, 24)
    assert flags_of(*flags, "--id", "mine", environment=environment, ID="theirs").id == "mine"
    assert flags_of(*flags, environment=environment, ID="theirs").id == "theirs"


def test_the_demo_evaluates_the_run_that_it_trained(environment):
    python = Path(environment["VIRTUAL_ENV"]) / "bin/python"
    write_python(
        python,
        'printf "%s\\n" "$*" >&2; [[ $* != *--mode* ]] || exit 0; '
        '[[ $1 != main.py ]] || echo "done: my runs/demo-2; look at my runs/demo-2/visualization/index.html"',
    )
    result = run(SCRIPTS / "demo.sh", "--ckpt", "my runs", env=environment)
    assert result.returncode == 0, result.stderr
    assert "done: my runs/demo-2; look at" in result.stdout
    asked = result.stderr.splitlines()[-1]
    assert "--ckpt my runs --mode eval --id demo-2 --num_vis 24" in asked


def copy_project(folder):
    """A copy of the scripts and requirements in another folder."""
    for path in [*SCRIPTS.rglob("*.sh"), *PROJECT.glob("requirements*.txt")]:
        copy = folder / path.relative_to(PROJECT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("recipe", ["MUSIC", "MUSIC_multinode", "modern", "small"])
def test_training_without_data_says_how_to_get_it(tmp_path, recipe):
    project = copy_project(tmp_path / "a project")
    result = run(project / f"scripts/train_{recipe}.sh", env=bare_environment())
    assert result.returncode == 2
    scripts = "preprocess_videos.sh", "create_index_files.sh", "demo.sh"
    for step in ("data/videos/<category>/<id>.mp4", *scripts):
        assert step in result.stderr


@pytest.fixture
def project(tmp_path):
    """A copy of the scripts, and a python that logs its arguments and copies itself into environments."""
    project = copy_project(tmp_path / "a project")
    log = shlex.quote(str(tmp_path / "log"))
    body = (
        f'echo "$*" >>{log}; [[ $* != *"pip install"* ]] || [[ ! -e {log}.offline ]] || exit 1; '
        f"[[ ! -e {log}.old || $1 != -c ]] || exit 1; [[ $1 != --version ]] || echo Python 3.8.1; "
        '[[ "$1 $2" != "-m venv" ]] || { mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; }'
    )
    write_python(tmp_path / "python", body)
    return project


def set_up(project, **variables):
    """Source setup.sh from elsewhere; returns (the result, the log of python's arguments)."""
    env = bare_environment() | {"PYTHON": str(project.parent / "python")} | variables
    log = project.parent / "log"
    log.write_text("")
    result = run("-c", f"source {shlex.quote(str(project / 'scripts/lib/setup.sh'))}; pwd", env=env)
    return result, log.read_text()


def test_setup_makes_an_environment_once(project):
    result, asked = set_up(project)
    assert result.stdout.splitlines()[-1] == str(project)
    assert f"-m venv {project}/.venv" in asked
    assert "install --disable-pip-version-check -r requirements.txt" in asked
    result, asked = set_up(project)
    assert result.returncode == 0
    assert "venv" not in asked
    assert "pip" not in asked


def test_setup_installs_again_when_requirements_change(project):
    set_up(project)
    with open(project / "requirements.txt", "a") as file:
        file.write("another\n")
    assert "pip" in set_up(project)[1]
    assert "pip" not in set_up(project)[1]


def test_setup_repeats_what_was_interrupted(project):
    offline = project.parent / "log.offline"
    offline.touch()
    result, _ = set_up(project)
    assert result.returncode == 1
    assert "error: cannot install requirements.txt" in result.stderr
    offline.unlink()
    assert "pip install" in set_up(project)[1]
    assert "pip" not in set_up(project)[1]


def test_requirements_of_developers_include_those_of_users(project):
    assert "-r requirements-dev.txt" in set_up(project, REQUIREMENTS="requirements-dev.txt")[1]
    assert "pip" not in set_up(project)[1]
    assert "pip" not in set_up(project, REQUIREMENTS="requirements-data.txt")[1]


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_setup_uses_the_environment_that_is_active(project, variable):
    active = project.parent / "active"
    write_python(active / "bin/python", (project.parent / "python").read_text().splitlines()[1])
    _, asked = set_up(project, **{variable: str(active)})
    assert "venv" not in asked
    assert "pip install" in asked
    assert not (project / ".venv").exists()
    assert "pip" not in set_up(project, **{variable: str(active)})[1]


def test_setup_refuses_an_old_python(project):
    (project.parent / "log.old").touch()
    result, _ = set_up(project)
    assert result.returncode == 1
    assert "error: Python 3.10 or later is needed" in result.stderr
    assert "is Python 3.8.1" in result.stderr
    assert not (project / ".venv").exists()


def test_setup_names_a_python_that_is_missing(project):
    result, _ = set_up(project, PYTHON="no-such-python")
    assert result.returncode == 1
    assert "error: no no-such-python" in result.stderr


def test_preprocessing_goes_on_to_the_index_when_some_videos_failed(project):
    set_up(project)
    python = project / ".venv/bin/python"
    for status, goes_on in ((0, True), (1, True), (2, False)):
        write_python(python, f'echo "$*"; [[ $* != *preprocess* ]] || exit {status}')
        result = run(project / "scripts/preprocess_videos.sh", "--fps", "4", env=bare_environment())
        assert result.returncode == status
        assert "-m dataset.preprocess --fps 4" in result.stdout
        assert ("create_index_files.py" in result.stdout) == goes_on


def test_preprocessing_passes_flags_on_to_both_steps(project):
    set_up(project)
    write_python(project / ".venv/bin/python", 'echo "$*"')
    script = project / "scripts/preprocess_videos.sh"
    for flags in ("--out a --fps 4 --min_seconds 6 --jobs 2", "--jobs 2 --min_seconds=6 --fps=4 --out=a"):
        *_, converted, indexed = run(script, *flags.split(), env=bare_environment()).stdout.splitlines()
        assert set(converted.split()[2:]) == set(flags.split()) - {"--min_seconds", "6", "--min_seconds=6"}
        assert "--root_audio a/audio --root_frame a/frames --path_output a" in indexed
        assert (
            indexed.replace("=", " ").count("--fps 4")
            == indexed.replace("=", " ").count("--min_seconds 6")
            == 1
        )
    for flag in ("--shard=1/2", "--shard 1/2", "--help", "--benchmark"):
        assert "create_index" not in run(script, *flag.split(), env=bare_environment()).stdout


def test_tests_are_run_with_style(project):
    set_up(project, REQUIREMENTS="requirements-dev.txt")
    write_python(project / ".venv/bin/python", 'echo "$*"')
    result = run(project / "scripts/test.sh", "-k", "a or b", env=bare_environment())
    assert result.stdout.splitlines()[-3:] == [
        "-m ruff check .",
        "-m ruff format --check .",
        "-m pytest -k a or b",
    ]


def run_oldest(project, *arguments, **variables):
    """Run test_oldest.sh with the stand-in; returns what python was asked."""
    env = bare_environment() | {"PYTHON": str(project.parent / "python")} | variables
    log = project.parent / "log"
    log.write_text("")
    result = run(project / "scripts/test_oldest.sh", *arguments, env=env, cwd=project.parent)
    assert result.returncode == 0, result.stderr
    return log.read_text()


def test_oldest_versions_have_an_environment_of_their_own(project):
    asked = run_oldest(project, "-k", "a or b", VIRTUAL_ENV="/elsewhere")
    assert "install --disable-pip-version-check -r requirements-oldest.txt" in asked
    assert asked.splitlines()[-1] == "-m pytest -k a or b"
    assert (project / ".venv-oldest/bin/python").exists()
    assert not (project / ".venv").exists()
    asked = run_oldest(project)
    assert "venv" not in asked
    assert "pip" not in asked
    run_oldest(project, VENV="another one")
    assert (project.parent / "another one/bin/python").exists()


def requirements_of(path):
    """{name: its Requirement} of a requirements file, less the files that it includes."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    found = (Requirement(line) for line in lines if line and not line.startswith("-r "))
    return {requirement.name: requirement for requirement in found}


def test_oldest_versions_are_the_lower_bounds(project):
    run_oldest(project)
    parts = [requirements_of(project / f"requirements{part}.txt") for part in ("", "-data", "-serve")]
    ranges = parts[0] | parts[1] | parts[2]
    pins = requirements_of(project / "requirements-oldest.txt")
    assert pins.keys() == ranges.keys()
    for name, pin in pins.items():
        (oldest,) = [bound.version for bound in ranges[name].specifier if bound.operator == ">="]
        assert str(pin.specifier) == f"=={oldest}"
        assert pin.extras == ranges[name].extras


@pytest.mark.parametrize(
    "script", [*sorted(SCRIPTS.rglob("*.s*")), PROJECT / ".ci/run"], ids=lambda path: path.name
)
def test_scripts_are_strict_and_can_be_run(script):
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert os.access(script, os.X_OK) != (script.parent.name == "lib"), (
        "what lies in scripts/ can be run, in scripts/lib/ it is sourced"
    )
    subprocess.run(["bash", "-n", script], check=True)
