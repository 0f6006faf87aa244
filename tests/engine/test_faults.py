"""Faults made for real: one line, a status above 0, and the same command goes on."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

import main
from arguments import parse_args
from dataset.music import MUSICMixDataset
from engine.machine.faults import explain
from engine.options import run_folder
from tests.engine.test_train import flags, read
from tests.helpers import PROJECT, Pool, make_checkpoint
from utils import Fault, UserError

SECONDS = 300  # after which a hanging process fails its test
# Runs main.py with flags; what comes before the flags is run first.
RUN = "import sys, main\n{}\nmain.main(sys.argv[1:])\n"
SMALL_MEMORY = """
import resource
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), resource.RLIM_INFINITY))
"""
READ_ONLY = """
import subprocess
from engine.training.train import Trainer
evaluate = Trainer._evaluate
def closed(self):
    subprocess.run(["mount", "-o", "remount,ro", {!r}], check=True)
    return evaluate(self)
Trainer._evaluate = closed
"""
SLEEPING_LOADER = """
import os, time
from dataset.music import MUSICMixDataset
def sleep(self, index):
    print(os.getpid(), flush=True)
    time.sleep(600)
MUSICMixDataset.__getitem__ = sleep
"""


@pytest.fixture
def no_pool(monkeypatch):
    """Scores are computed in this process, which spares each run two processes."""
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())


def error_of(argv, capsys):
    """(exit status, the one line of the error) of main.py in this process."""
    with pytest.raises(SystemExit) as stop:
        main.main(argv)
    return stop.value.code, only_line(capsys.readouterr().err)


def only_line(err):
    """The line of the error; what is logged before it begins with the time of day.

    Older versions of torch write a line, and a null character, of their own when shared memory is too small.
    """
    lines = [line.lstrip("\0 ") for line in err.splitlines() if not line[:2].isdigit()]
    lines = [line for line in lines if not line.startswith("ERROR: Unexpected bus error")]
    assert len(lines) == 1, err
    return lines[0]


def start(before, argv, *prefix, **options):
    command = [*prefix, sys.executable, "-c", RUN.format(before), *argv]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    if options.get("start_new_session"):  # the tests may run in the background, which ignores Ctrl-C
        options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=PROJECT, env=env, **pipes, **options)


def ends(before, argv, *prefix):
    """(exit status, the one line of the error) of main.py in a process of its own."""
    with start(before, argv, *prefix) as process:
        try:
            err = process.communicate(timeout=SECONDS)[1]
        finally:
            process.kill()
    return process.returncode, only_line(err)


def mounting(path, size):
    """The start of a command that sees a new memory disk at `path`; skips the test if it is forbidden."""
    shell = f'mount -t tmpfs -o size={size} tmpfs "{path}" && exec "$@"'
    prefix = ["unshare", "-rm", "sh", "-c", shell, "sh"]
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a memory disk")
    return prefix


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def wait_for_end(pids):
    deadline = time.monotonic() + SECONDS
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_loader_is_one_line_and_the_same_command_goes_on(
    tree, tmp_path, no_pool, monkeypatch, capsys
):
    argv = flags(tree, tmp_path, "--num_epoch", "1", "--workers", "1")
    with monkeypatch.context() as patch:
        patch.setattr(MUSICMixDataset, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        status, line = error_of(argv, capsys)
    assert status == 1
    assert line.startswith(
        "error: a data loading process was killed (Killed); out of memory? Then lower --work"
    )
    main.main(argv)
    assert read(run_folder(parse_args(argv)), "metrics.json")["epoch"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm")
@pytest.mark.parametrize("more", ["", "--lr_frame 0 --num_views 64"])
def test_a_small_shared_memory_is_one_line_that_names_it(tree, tmp_path, more):
    argv = flags(tree, tmp_path, "--workers", "1", "--num_gpus", "0", *more.split())
    status, line = ends("", argv, *mounting("/dev/shm", "200k"))
    assert status == 1
    assert line.startswith("error: shared memory is too small for data loading processes: /dev/shm has ")
    assert "--workers 0" in line


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_too_little_memory_is_one_line_that_names_the_flag(tree, tmp_path):
    argv = flags(tree, tmp_path, "--ngf", "64", "--dup_trainset", "8", "--batch_size_per_gpu", "64")
    status, line = ends(SMALL_MEMORY, [*argv, "--num_gpus", "0"])
    assert status == 1
    assert line.startswith("error: not enough memory: lower --batch_size_per_gpu or --workers")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "GPU memory: lower --batch_size",
        ),
        (MemoryError(), "not enough memory"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "process ended unexpectedly"),
        (RuntimeError("worker (pid 7) is killed by signal: Bus error. It is possible"), "--workers 0"),
        (
            OSError(28, "No space left on device", "a.wav"),
            "a.wav: cannot be written: No space",
        ),
        (OSError(28, "No space left on device"), "ckpt: cannot be written: No space"),
        (OSError(30, "Read-only file system", "a.json"), "a.json: cannot be written: Read-only file system"),
    ],
)
def test_what_an_error_means(error, words):
    assert words in explain(error, "ckpt")
    outer = RuntimeError("while saving")
    outer.__context__ = error
    assert words in explain(outer, "ckpt")


def test_a_fault_stays_what_it_is_if_closing_files_fails_as_well():
    error = FileNotFoundError(2, "No such file or directory", "events")
    error.__context__ = Fault("the folder is gone")
    assert explain(error, "ckpt") == "the folder is gone"


@pytest.mark.parametrize("error", [UserError("bad_alloc"), RuntimeError("a bug"), OSError(2, "none")])
def test_other_errors_stay_what_they_are(error):
    assert explain(error, "ckpt") is None


@pytest.mark.parametrize(("size", "name"), [(100, "options.json"), (40_000, "state_latest.pth")])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tree, tmp_path, no_pool, capsys, size, name):
    """A limit on the size of files stands for the disk."""
    argv = flags(tree, tmp_path, "--num_epoch", "1")
    folder = run_folder(parse_args(argv))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        status, line = error_of(argv, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 1
    assert line.startswith(f"error: {tmp_path}")
    assert "cannot be written: " in line
    assert not os.path.exists(os.path.join(folder, name))
    main.main(argv)
    assert read(folder, "metrics.json")["epoch"] == 1
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.skipif(sys.platform != "linux", reason="mount")
def test_a_folder_that_becomes_read_only_is_one_line(tree, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    prefix = mounting(disk, "200m")
    argv = [*flags(tree, disk, "--num_epoch", "1"), "--num_gpus", "0"]
    status, line = ends(READ_ONLY.format(str(disk)), argv, *prefix)
    assert status == 1
    assert line.startswith(f"error: {disk}")
    assert "cannot be written: Read-only file system" in line


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_loaders_end_with_their_parent(tree, tmp_path, number):
    """This one would load for ten minutes more."""
    make_checkpoint(tmp_path / "x")
    argv = ["--mode", "eval", "--id", "x", "--ckpt", str(tmp_path), "--list_val", f"{tree[0]}/val.csv"]
    with start(SLEEPING_LOADER, [*argv, "--workers", "1", "--num_gpus", "0"]) as process:
        loader = int(process.stdout.readline())
        assert is_alive(loader)
        os.kill(process.pid, number)
        assert process.wait(timeout=SECONDS) == -number
        wait_for_end([loader])


@pytest.mark.skipif(sys.platform != "linux", reason="process groups of a terminal")
def test_ctrl_c_in_evaluation_is_one_line(tree, tmp_path):
    """It reaches all processes of the terminal."""
    make_checkpoint(tmp_path / "x")
    argv = ["--mode", "eval", "--id", "x", "--ckpt", str(tmp_path), "--list_val", f"{tree[0]}/val.csv"]
    with start(
        SLEEPING_LOADER, [*argv, "--workers", "1", "--num_gpus", "0"], start_new_session=True
    ) as process:
        loader = int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGINT)
        err = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 130
    assert only_line(err) == "interrupted"
    assert not is_alive(loader)


def test_ffmpeg_ends_with_a_command_that_gets_sigterm(tmp_path):
    script = (
        "import subprocess, sys, time, utils\n"
        "@utils.command\n"
        "def main():\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        "    print(child.pid, flush=True)\n"
        "    child.wait()\n"
        "main()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        process.terminate()
        assert process.wait() == -signal.SIGTERM
    wait_for_end([child])
