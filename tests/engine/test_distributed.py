"""Several processes: they learn and score as one does, outlive each other, and end together."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

import main
from arguments import parse_args
from dataset.fixed import read_protocol
from engine.evaluation.protocol import compare
from engine.failures import Failures
from engine.loaders import build_train_loader, build_val_loader, start_epoch
from engine.machine import distributed
from engine.options import batch_size, run_folder, training_options
from engine.training import train
from engine.training.checkpoint import NETS, find_run, start_run
from tests.helpers import PROJECT, SMALL, Pool, flat, make_separator, small_args
from utils import UserError

LIMIT = 1800  # seconds for a run of two processes on a very busy machine; else it takes ten
# What torchrun starts: main.py, where the second process meets a fault in the second epoch of its first life.
FAULTY = """
import os
import signal

import torch

import main
from engine.training.train import Trainer

FAULT = os.environ["FAULT"]
step = Trainer._step


def faulty_step(self, batch, *parts):
    loss = step(self, batch, *parts)
    if self.epoch == 1 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        if FAULT == "kill":
            with open(f"/proc/{os.getppid()}/task/{os.getppid()}/children") as file:
                others = {int(child) for child in file.read().split()} - {os.getpid()}
            for other in others:  # torchrun does it next; here it comes before the connection is lost
                os.kill(other, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGKILL)
        if FAULT == "terminate":
            if batch["info"] and parts[0] == 1 and parts[1] == 3:  # once, in the first step
                os.kill(os.getppid(), signal.SIGTERM)  # torchrun, which passes it on
            return loss
        return loss * float("nan")
    return loss


if __name__ == "__main__":
    Trainer._step = faulty_step
    main.main()
"""

# What torchrun starts: main.py several times, so that it starts and imports once. Its argument has the flags
# of each, and whether the second process cannot read its last batch.
SEVERAL = """
import json
import sys

from tests.engine.test_distributed import run_main

if __name__ == "__main__":
    for argv, is_cut_short in json.loads(sys.argv[1]):
        run_main(argv, is_cut_short)
"""


def cut_short(device, loader):
    """The batches of an epoch; the last process cannot read the last one."""
    for step, batch in enumerate(loader, 1):
        lost = step == len(loader) and distributed.rank() == distributed.world_size() - 1
        yield {"info": [], "dropped": batch["info"]} if lost else batch


def torchrun(script, argv, restarts=0, **variables):
    """(exit status, stdout, stderr) of two processes."""
    launch = f"-m torch.distributed.run --standalone --nproc-per-node 2 --max-restarts {restarts}".split()
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)} | variables
    command = [sys.executable, *launch, str(script), *argv]
    with subprocess.Popen(
        command, env=env, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, err = process.communicate(timeout=LIMIT)
        except BaseException:
            process.terminate()  # it ends its processes, too
            raise
    return process.returncode, out, err


def training_flags(tree, folder, size, *more):
    """Flags of a run of two epochs of four batches, in groups of three and of one."""
    lists = ["--list_train", f"{tree[0]}/train.csv", "--list_val", f"{tree[0]}/val.csv"]
    run = "--id t --num_epoch 2 --dup_trainset 2 --accumulate 3 --sync_bn --num_vis 0 --disp_iter 1".split()
    run += f"--amp off --num_val 3 --mask_thres 0.4 --batch_size_per_gpu {size}".split()
    return [*SMALL, *lists, *run, "--ckpt", str(folder), *more]


def run_main(argv, is_cut_short=False):
    """main.py in this process; is_cut_short: it cannot read its last batch."""
    with mock.patch.object(train, "batches_on", cut_short if is_cut_short else train.batches_on):
        main.main(argv)


def run_alone(argv, is_cut_short=False):
    """The same, without processes that finish mixtures."""
    with mock.patch.object(main, "make_pool", return_value=Pool()):
        run_main(argv, is_cut_short)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    path = tmp_path_factory.mktemp("faulty") / "faulty.py"
    path.write_text(FAULTY)
    return path


@pytest.fixture(scope="module")
def runs(tree, tmp_path_factory, faulty):
    """(folder of a run of one process, that of a run of two of which one was killed, its stderr)."""
    root = tmp_path_factory.mktemp("runs")
    alone = training_flags(tree, root / "alone", 4)
    run_alone(alone)
    together = training_flags(tree, root / "together", 2, "--overwrite")
    status, out, err = torchrun(faulty, together, restarts=1, FAULT="kill")
    assert status == 0, err
    assert out.count("done: ") == 1
    folder = run_folder(parse_args(alone))
    return folder, folder.replace(str(root / "alone"), str(root / "together")), err


@pytest.fixture(scope="module")
def several(tree, tmp_path_factory):
    """({run: (folder of one process, folder of two)}, stdout of the two), of runs that one torchrun makes."""
    root, folders, jobs = tmp_path_factory.mktemp("several"), {}, []
    later = "--arch_frame timm:resnet10t --lr_frame 0.1 --freeze_epochs 1 --num_views 2 --img_norm batch"
    for name, flags in {"frozen": later, "cut short": "--accumulate 2 --num_epoch 1"}.items():
        alone, together = (
            training_flags(tree, root / name / who, size, *flags.split())
            for who, size in (("alone", 4), ("together", 2))
        )
        folders[name] = [run_folder(parse_args(argv)) for argv in (alone, together)]
        run_alone(alone, name == "cut short")
        jobs.append((together, name == "cut short"))
    folders["scored"] = [root / "scored" / who / "x" for who in ("alone", "together")]
    alone, together = (scoring_flags(tree, folder) for folder in folders["scored"])
    run_alone(alone)
    script = root / "several.py"
    script.write_text(SEVERAL)
    status, out, err = torchrun(script, [json.dumps([*jobs, (together, False)])])
    assert status == 0, err
    return folders, out


def scoring_flags(tree, folder):
    """Flags of an evaluation of networks, which are written into the folder."""
    separator = make_separator(small_args("--num_mix", "2"))
    folder.mkdir(parents=True)
    for net in NETS:
        torch.save(getattr(separator, f"net_{net}").state_dict(), folder / f"{net}_best.pth")
    flags = ["--mode", "eval", "--id", folder.name, *SMALL, "--list_val", f"{tree[0]}/val.csv"]
    flags += "--amp off --num_val 5 --num_vis 2 --batch_size_per_gpu 2".split()
    return [*flags, "--ckpt", str(folder.parent)]


def read(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return json.load(file)


def check_same_weights(*folders):
    """The networks that two runs have learned."""
    for name in NETS:
        paths = [os.path.join(folder, f"{name}_latest.pth") for folder in folders]
        alone, together = (torch.load(path, weights_only=True) for path in paths)
        assert list(alone) == list(together)
        for key in alone:
            torch.testing.assert_close(together[key], alone[key], atol=1e-5, rtol=1e-5, msg=key)


def test_two_processes_learn_what_one_learns(runs):
    check_same_weights(*runs[:2])


@pytest.mark.parametrize("run", ["frozen", "cut short"])
def test_two_processes_learn_what_one_learns_where_a_backbone_or_an_epoch_is_special(several, run):
    """A backbone that is frozen at first; an epoch that ends within a group and with half a batch."""
    check_same_weights(*several[0][run])


def test_a_killed_process_is_started_again_and_the_run_goes_on(runs):
    alone, together, err = runs
    assert "resuming after epoch 1 of 2" in err
    histories = [read(folder, "history.json") for folder in (alone, together)]
    assert histories[1]["train"]["epoch"] == histories[0]["train"]["epoch"]
    assert histories[1]["train"]["err"] == pytest.approx(histories[0]["train"]["err"], abs=1e-5)
    assert histories[1]["val"]["epoch"] == [1, 2]
    for key, values in histories[0]["val"].items():
        assert histories[1]["val"][key] == pytest.approx(values, abs=1e-3)


def test_processes_that_a_signal_stopped_go_on_within_the_epoch(runs, tree, tmp_path, faulty):
    """They end bit for bit like those that were not stopped, although all their processes got the signal."""
    argv = training_flags(tree, tmp_path, 2, "--workers", "1")
    status, _, err = torchrun(faulty, argv, FAULT="terminate")
    assert status
    assert err.count("stopped by SIGTERM: ") == 1
    assert "up to step 3/4 of epoch 2; the same command continues it" in err
    status, _, err = torchrun(PROJECT / "main.py", argv)
    assert status == 0, err
    assert "resuming after epoch 1 of 2, step 3 of the next" in err
    folders = runs[1], run_folder(parse_args(argv))
    assert read(folders[0], "history.json") == read(folders[1], "history.json")
    for name in NETS:
        one, other = (torch.load(os.path.join(folder, f"{name}_latest.pth")) for folder in folders)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_may_go_on_in_another_number_of_processes(runs, tree, capfd):
    root = str(Path(runs[1]).parent)
    run_alone(training_flags(tree, root, 4))
    assert "all 2 epochs are trained" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        run_alone(training_flags(tree, root, 2))
    assert "batch_size: 4 there, 2 here" in capfd.readouterr().err


def test_a_mistake_that_one_process_meets_ends_all_and_is_told_once(tree, tmp_path, faulty):
    argv = training_flags(tree, tmp_path, 2)
    status, _, err = torchrun(faulty, argv, restarts=1, FAULT="nan")
    assert status != 0
    assert err.count("the loss is nan in epoch 2, for the clips ") == 1
    assert err.count("Traceback") == 1  # torchrun's own, in the end
    folder = run_folder(parse_args(argv))
    assert read(folder, "history.json")["val"]["epoch"] == [1]


def test_two_processes_score_what_one_scores(several):
    folders, out = several
    folders = folders["scored"]
    assert out.count("[Eval Summary]") == 1
    alone, together = (read(folder, "metrics.json") for folder in folders)
    assert alone["num_mixtures"] == 5
    assert flat(together) == pytest.approx(flat(alone), abs=1e-3)
    protocols = [read_protocol(folder / "protocol.json") for folder in folders]
    assert compare("alone", *protocols)[0]
    assert len(protocols[0]["clips"]) > 2
    assert protocols[0]["clips"] == protocols[1]["clips"]
    rows = [list(csv.reader((folder / "metrics.csv").read_text().splitlines())) for folder in folders]
    assert [row[:5] for row in rows[1]] == [row[:5] for row in rows[0]]
    names = [sorted(os.listdir(folder / "visualization")) for folder in folders]
    assert names[0] == names[1]


@pytest.fixture
def process(monkeypatch):
    """A function that makes this process one of several, as far as who it is goes."""

    def become(rank, size):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: size)
        return {"processes": (size, size)}

    return become


def test_every_example_is_drawn_once_and_joint_batches_are_those_of_one_process(tree, tmp_path, process):
    def batches(rank, count, size):
        flags = training_flags(tree, tmp_path, size, "--dup_trainset", "3")  # 27, of which batches use 24
        loader = build_train_loader(parse_args(flags, **process(rank, count)))
        start_epoch(loader, 7)
        assert len(list(loader.batch_sampler)) == len(loader) == 4
        start_epoch(loader, 7)
        return list(loader.batch_sampler)

    alone = batches(0, 1, 6)
    parts = [batches(rank, 3, 2) for rank in range(3)]
    for step, batch in enumerate(alone):
        assert sorted(batch) == sorted(index for part in parts for index in part[step])


def test_every_mixture_is_evaluated_by_one_process(tree, process):
    flags = [*SMALL, "--list_val", f"{tree[0]}/val.csv", "--num_val", "5"]
    parts = []
    for rank in range(2):
        loader = build_val_loader(parse_args(flags, **process(rank, 2)))
        parts.append(list(loader.sampler))
    assert parts == [[0, 2, 4], [1, 3]]


def test_the_batch_of_a_run_is_that_of_all_processes():
    args = parse_args(["--batch_size_per_gpu", "8"], processes=(4, 2))
    assert batch_size(args) == 32
    one = parse_args(["--batch_size_per_gpu", "32"])
    assert training_options(args) == training_options(one)
    assert args.workers == max(1, one.workers // 2)


def test_each_process_has_one_gpu(capsys):
    with pytest.raises(SystemExit):
        parse_args(["--num_gpus", "4"], gpus_present=1, processes=(4, 4))
    assert "4 requested, 1 found; each torchrun process uses one" in capsys.readouterr().err


def test_processes_that_would_not_do_the_same_are_refused(monkeypatch):
    mine = {"seed": 1, "clips": [1, 2]}
    distributed.check_same(mine)
    monkeypatch.setattr(distributed, "gather", lambda value: [value, {"seed": 1, "clips": [1], "x": 0}])
    with pytest.raises(UserError, match="processes 0 and 1 differ in clips, x"):
        distributed.check_same(mine)


def test_failures_of_all_processes_count(monkeypatch, caplog):
    failures = Failures(40, "train.csv")
    failures.add({"info": [{"failures": [("a", "gone")]}], "dropped": []})
    others = {"a": "gone", "b": "gone"}
    monkeypatch.setattr(distributed, "gather", lambda value: [value, others])
    failures.join()
    assert sorted(failures.reasons) == ["a", "b"]
    assert caplog.text.count("left out: clip a") == caplog.text.count("left out: clip b") == 1
    others["c"] = "gone"
    with pytest.raises(UserError, match="3 of 40 clips"):
        failures.join()


def test_a_restarted_process_goes_on_with_what_its_own_command_began(tree, tmp_path):
    argv = training_flags(tree, tmp_path, 4, "--num_epoch", "1")
    run_alone(argv)
    for flag in ("--overwrite", "--no-resume"):
        args = parse_args([*argv, flag])
        assert find_run(run_folder(args), args, begun=True)["epoch"] == 1
    assert find_run(run_folder(args), parse_args([*argv, "--overwrite"])) is None


def test_only_the_first_process_writes(tree, tmp_path, process):
    args = parse_args(training_flags(tree, tmp_path, 4), **process(1, 2))
    start_run(str(tmp_path / "run"), args)
    assert not (tmp_path / "run").exists()
