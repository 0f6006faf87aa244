"""Training: it learns, goes on where it stopped, and guards what lies in ckpt."""

import json
import os
from unittest import mock

import numpy as np
import pytest
import torch

import main
from arguments import parse_args
from dataset.index import read_index
from engine.build import build_optimizer, build_separator
from engine.categories import read_categories
from engine.loaders import build_train_loader, start_epoch
from engine.options import run_folder
from engine.training import checkpoint, storage, train
from engine.training.checkpoint import FILE_STATE, NETS, restore, save_state, save_weights
from engine.training.storage import on_cpu
from engine.training.train import Trainer
from tests.helpers import SMALL, Pool
from utils import UserError


def flags(tree, tmp_path, *more):
    lists = ["--list_train", f"{tree[0]}/train.csv", "--list_val", f"{tree[0]}/val.csv"]
    run = "--id t --num_epoch 4 --dup_trainset 1 --num_vis 0 --disp_iter 1 --lr_steps 3 --num_val 2".split()
    run += ["--mask_thres", "0.4"]  # so that the masks of networks that know nothing yet are not empty
    return [*SMALL, *lists, *run, "--ckpt", str(tmp_path), *more]


@pytest.fixture
def no_pool(monkeypatch):
    """Scores are computed in this process, which spares each run two processes."""
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())


def read(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return json.load(file)


def stop_after(monkeypatch, epoch):
    """Interrupt training in the middle of the epoch after `epoch`."""
    step = Trainer._step

    def stopping(self, batch, *parts):
        if self.epoch == epoch and len(self.history["train"]["epoch"]) % 2:
            raise KeyboardInterrupt
        return step(self, batch, *parts)

    monkeypatch.setattr(Trainer, "_step", stopping)


MODERN = "--schedule cosine --warmup 0.5 --augment_speed 3 --arch_sound tfc_tdf"


@pytest.mark.parametrize("more", ["", MODERN])
def test_a_run_that_was_stopped_and_one_that_was_not_end_the_same(tree, tmp_path, no_pool, monkeypatch, more):
    whole, parts = (flags(tree, tmp_path / name, *more.split()) for name in ("whole", "parts"))
    main.main(whole)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(SystemExit) as stop:
            main.main(parts)
        assert stop.value.code == 130
    folders = [run_folder(parse_args(argv)) for argv in (whole, parts)]
    assert len(read(folders[1], "history.json")["val"]["epoch"]) == 2
    main.main(parts)
    histories = [read(folder, "history.json") for folder in folders]
    assert histories[0]["val"]["epoch"] == [1, 2, 3, 4]
    assert histories[0] == histories[1]
    for name in ("sound", "frame", "synthesizer"):
        for suffix in ("latest", "best"):
            states = [torch.load(os.path.join(folder, f"{name}_{suffix}.pth")) for folder in folders]
            assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_run_leaves_its_files_and_evaluation_needs_three_of_them(
    tree, tmp_path, no_pool, monkeypatch, capsys
):
    argv = flags(tree, tmp_path, "--num_epoch", "1", "--num_vis", "1")
    main.main(argv)
    folder = run_folder(parse_args(argv))
    expected = (
        "options.json history.json history_latest.pth metrics.json metrics.csv statistics.csv "
        "loss.png metrics.png".split()
    )
    assert set(expected) <= set(os.listdir(folder))
    assert os.path.isfile(os.path.join(folder, "visualization", "index.html"))
    categories = {clip.category for clip in read_index(parse_args(argv).list_train)}
    assert read_categories(folder).names == sorted(categories)
    trained = read(folder, "metrics.json")
    assert trained["epoch"] == 1
    released = tmp_path / "released"
    released.mkdir()
    for name in ("sound", "frame", "synthesizer"):
        os.rename(os.path.join(folder, f"{name}_best.pth"), released / f"{name}_best.pth")
    monkeypatch.chdir(tree[0])
    small = [*SMALL, "--num_val", "2", "--list_val", "val.csv", "--num_vis", "1", "--mask_thres", "0.4"]
    main.main(["--mode", "eval", "--id", "released", "--ckpt", str(tmp_path), *small])
    scores = read(released, "metrics.json")
    for key in ("loss", "sdr", "sir", "sar", "si_sdr", "sdr_mixture", "sdr_oracle"):
        assert scores[key] == pytest.approx(trained[key], abs=1e-3)
    assert {"sdr_swapped", "sdr_average"} <= scores.keys()
    assert scores["epoch"] is None
    line = capsys.readouterr().out
    assert "[Eval Summary] Epoch: unknown, Loss: " in line
    assert ", SDR_swapped: " in line
    assert ", SDR_average: " in line


def test_the_best_epoch_is_the_first_one_with_the_lowest_loss():
    losses = [0.3, None, 0.2, float("nan"), 0.2, 0.25]
    assert checkpoint.best_epoch({"val": {"epoch": [1, 2, 3, 4, 5, 6], "err": losses}}) == 3
    for history in ({}, {"val": {"epoch": [], "err": []}}, {"val": {"epoch": [1], "err": [None]}}):
        assert checkpoint.best_epoch(history) is None


def test_other_options_are_refused_and_nothing_is_touched(tree, tmp_path, no_pool, capsys):
    argv = flags(tree, tmp_path, "--num_epoch", "1")
    main.main(argv)
    folder = run_folder(parse_args(argv))
    before = {name: os.path.getmtime(os.path.join(folder, name)) for name in os.listdir(folder)}
    for more, message in [
        (
            ["--seed", "9", "--lr_sound", "0.5"],
            "lr_sound: 0.001 there, 0.5 here\n  seed: 1234 there, 9 here",
        ),
        (["--no-resume"], "--overwrite"),
    ]:
        with pytest.raises(SystemExit) as stop:
            main.main([*argv, *more])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    main.main(argv)  # complete: nothing is left to do
    assert {name: os.path.getmtime(os.path.join(folder, name)) for name in os.listdir(folder)} == before
    main.main([*argv, "--seed", "9", "--overwrite"])
    assert read(folder, "options.json")["seed"] == 9


def test_a_run_goes_on_without_the_files_that_it_started_from(tree, tmp_path, no_pool, capfd):
    """Its own state replaces them."""
    separator = make_trainer(tree, tmp_path).separator
    paths = {name: tmp_path / f"{name}.pth" for name in NETS}
    for name, path in paths.items():
        torch.save(getattr(separator, f"net_{name}").state_dict(), path)
    start = [word for name, path in paths.items() for word in (f"--weights_{name}", str(path))]
    argv = flags(tree, tmp_path, "--num_epoch", "1", *start)
    main.main(argv)
    for path in paths.values():
        path.unlink()
    main.main(argv)
    assert "all 1 epochs are trained" in capfd.readouterr().err


def test_overwriting_deletes_nothing_until_the_new_run_can_start(tree, tmp_path, no_pool, capsys):
    argv = flags(tree, tmp_path, "--num_epoch", "1")
    main.main(argv)
    with pytest.raises(SystemExit):
        main.main([*argv, "--overwrite", "--weights_sound", str(tmp_path / "missing.pth")])
    assert "missing.pth" in capsys.readouterr().err
    assert os.path.isfile(os.path.join(run_folder(parse_args(argv)), "sound_best.pth"))


def test_an_epoch_whose_evaluation_failed_is_not_trained_again(tree, tmp_path, no_pool, monkeypatch):
    argv = flags(tree, tmp_path, "--num_epoch", "1")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_evaluate", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main.main(argv)
    monkeypatch.setattr(Trainer, "_train_epoch", lambda self, epoch: 1 / 0)
    main.main(argv)
    assert read(run_folder(parse_args(argv)), "history.json")["val"]["epoch"] == [1]


def test_other_files_in_the_folder_of_a_new_run_stay(tree, tmp_path, no_pool, monkeypatch):
    argv = flags(tree, tmp_path, "--num_epoch", "1")
    notes = os.path.join(run_folder(parse_args(argv)), "notes.txt")
    os.makedirs(os.path.dirname(notes))
    with open(notes, "w", encoding="utf-8") as file:
        file.write("mine")
    monkeypatch.setattr(Trainer, "run", lambda self: None)
    main.main(argv)
    assert os.path.isfile(notes)


def test_weights_without_their_run_are_not_overwritten(tree, tmp_path, no_pool, capsys):
    argv = flags(tree, tmp_path)
    folder = run_folder(parse_args(argv))
    os.makedirs(folder)
    with open(os.path.join(folder, "sound_best.pth"), "wb") as file:
        file.write(b"precious")
    with pytest.raises(SystemExit):
        main.main(argv)
    assert "sound_best.pth" in capsys.readouterr().err
    with open(os.path.join(folder, "state_latest.pth"), "wb") as file:
        file.write(b"broken")
    with pytest.raises(SystemExit):
        main.main(argv)
    assert "not the state of a run" in capsys.readouterr().err


def test_evaluation_without_networks_says_what_is_missing(tree, tmp_path, capsys):
    (tmp_path / "x").mkdir()
    with pytest.raises(SystemExit):
        main.main(
            [
                "--mode",
                "eval",
                "--id",
                "x",
                "--ckpt",
                str(tmp_path),
                *SMALL,
                "--list_val",
                f"{tree[0]}/val.csv",
            ]
        )
    assert "sound_best.pth" in capsys.readouterr().err


def make_trainer(tree, tmp_path, *more):
    args = parse_args(flags(tree, tmp_path, *more))
    separator = build_separator(args)
    loader = build_train_loader(args)
    device = torch.device("cpu")
    optimizer = build_optimizer(args, separator)
    return Trainer(args, str(tmp_path), separator, separator, device, optimizer, loader, evaluator=None)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_lowers_the_loss(tree, tmp_path, optimizer):
    rates = "--lr_sound 0.1 --lr_frame 0.01" if optimizer == "sgd" else "--lr_sound 0.005 --lr_frame 0.001"
    # kaiming: the published weights start on a plateau, and rounding decides when the loss leaves it.
    more = f"--optimizer {optimizer} --init_sound kaiming --img_norm batch --weighted_loss 1 {rates}"
    trainer = make_trainer(tree, tmp_path, *more.split())
    batch = next(iter(trainer.loader))
    losses = [trainer._step(batch).item() for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


@pytest.mark.parametrize(("capability", "precision"), [("avx512_bf16", "bf16"), ("avx2", "off")])
def test_processes_must_agree_on_what_amp_auto_is(tree, tmp_path, monkeypatch, capability, precision):
    values = []
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True}, raising=False)
    monkeypatch.setattr(main.distributed, "check_same", values.append)
    main.check_processes(parse_args(flags(tree, tmp_path, "--amp", "auto")), None)
    assert values[0]["precision of --amp"] == precision


def test_each_process_takes_its_gpu_before_it_asks_what_the_gpu_can_do(tree, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(main, "train", lambda args: main.check_processes(args, None))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: asked.append(f"take {number}"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: asked.append("ask"))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(main.distributed, "gather", lambda value: [value])
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    main.main(flags(tree, tmp_path, "--num_gpus", "1"))
    assert asked[:2] == ["take 1", "ask"]


def test_averages_are_laid_out_as_the_parameters_they_belong_to(tree, tmp_path):
    """A run may go on where `--amp auto` orders channels otherwise; fused optimisers only see memory."""
    flags = "--optimizer", "adamw", "--amp"
    trainers = [make_trainer(tree, tmp_path, *flags, amp) for amp in ("off", "bf16")]
    for trainer in trainers:
        trainer.optimizer.param_groups[0]["lr"] = 0.1
    gradients = [torch.randn_like(parameter) for parameter in trainers[0].separator.parameters()]

    def step(trainer):
        for parameter, gradient in zip(trainer.separator.parameters(), gradients, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        trainer.optimizer.step()

    step(trainers[0])
    save_state(trainers[0])
    restore(torch.load(os.path.join(trainers[0].folder, FILE_STATE)), trainers[1])
    for trainer in trainers:
        step(trainer)
    for wanted, found in zip(*(trainer.separator.parameters() for trainer in trainers), strict=True):
        torch.testing.assert_close(found, wanted)


def test_checkpoints_are_of_the_cpu():
    """A machine without a GPU loads them with a plain torch.load. The device `meta` stands for a GPU."""
    net = torch.nn.BatchNorm1d(2, device="meta")
    state = {"nets": net.state_dict(), "steps": [(torch.ones(1, device="meta"), 3)], "best": 0.5}
    with mock.patch.object(torch.Tensor, "cpu", lambda self: torch.zeros(self.shape, dtype=self.dtype)):
        moved = on_cpu(state)
    assert all(value.is_cpu for value in moved["nets"].values())
    assert moved["nets"]._metadata == net.state_dict()._metadata
    assert moved["steps"][0][0].is_cpu
    assert (moved["steps"][0][1], moved["best"]) == (3, 0.5)
    assert all(value.is_meta for value in state["nets"].values())


def test_all_that_is_saved_is_on_the_cpu(tree, tmp_path, monkeypatch):
    trainer = make_trainer(tree, tmp_path)
    saved = []
    monkeypatch.setattr(storage, "on_cpu", lambda value: ("on the CPU", value))
    monkeypatch.setattr(torch, "save", lambda value, path: saved.append(value))
    save_weights(trainer, True)
    save_state(trainer)
    assert [value[0] for value in saved] == 8 * ["on the CPU"]


def test_gradients_of_a_group_of_batches_make_one_step(tree, tmp_path):
    """Two halves of a batch that are alike give what the batch gives."""
    whole, parts = (make_trainer(tree, tmp_path, "--amp", "off") for _ in range(2))
    batch = next(iter(whole.loader))
    half = {key: batch[key][:2] for key in ("mix", "sources", "frames")}
    whole._step({key: value.repeat(2, *[1] * (value.dim() - 1)) for key, value in half.items()})
    before = [p.clone() for p in parts.separator.parameters()]
    parts._step(half, 1, 2)
    assert all(torch.equal(p, q) for p, q in zip(parts.separator.parameters(), before, strict=True))
    parts._step(half, 2, 2)
    for one, other in zip(whole.separator.parameters(), parts.separator.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-5)


def test_the_last_group_of_an_epoch_may_be_smaller(tree, tmp_path, monkeypatch):
    trainer = make_trainer(tree, tmp_path, "--accumulate", "3", "--dup_trainset", "2")
    seen = []
    monkeypatch.setattr(Trainer, "_step", lambda self, batch, *parts: seen.append(parts) or torch.tensor(0.0))
    trainer._train_epoch(1)
    assert seen == [(1, 3), (2, 3), (3, 3), (1, 1)]


def batches_of(trainer, monkeypatch, lost):
    """The batches of the first epoch; the trainer is given them too, those in `lost` as unreadable."""
    start_epoch(trainer.loader, 1)
    batches = list(trainer.loader)
    given = [
        {"info": [], "dropped": batch["info"]} if k in lost else batch for k, batch in enumerate(batches)
    ]
    monkeypatch.setattr(train, "batches_on", lambda device, loader: iter(given))
    return batches


@pytest.mark.parametrize(("accumulate", "lost"), [(2, (3,)), (4, (1, 3)), (4, (0, 1, 2))])
def test_a_group_that_ends_early_steps_with_the_mean_of_its_batches(
    tree, tmp_path, monkeypatch, accumulate, lost
):
    flags = "--amp", "off", "--dup_trainset", "2", "--accumulate", str(accumulate)
    wanted, found = (make_trainer(tree, tmp_path, *flags) for _ in range(2))
    batches = batches_of(found, monkeypatch, lost)
    found._train_epoch(1)
    wanted._set_rates(1)
    wanted.model.train()
    for first in range(0, 4, accumulate):
        group = [batches[k] for k in range(first, first + accumulate) if k not in lost]
        for part, batch in enumerate(group, 1):
            wanted._step(batch, part, len(group))
    for one, other in zip(wanted.separator.parameters(), found.separator.parameters(), strict=True):
        torch.testing.assert_close(other, one, atol=1e-7, rtol=1e-5)


def test_every_parameter_is_in_one_group(tree, tmp_path):
    trainer = make_trainer(tree, tmp_path, "--img_norm", "batch")
    grouped = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in trainer.separator.parameters())


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone(tree, tmp_path):
    def order(loader, epoch):
        start_epoch(loader, epoch)
        return list(loader.sampler)

    one, other = (build_train_loader(parse_args(flags(tree, tmp_path))) for _ in range(2))
    order(one, 1)
    assert order(one, 2) == order(other, 2) != order(one, 3)


def test_a_batch_larger_than_an_epoch_is_refused(tree, tmp_path):
    with pytest.raises(UserError, match=r"--dup_trainset"):
        build_train_loader(parse_args(flags(tree, tmp_path, "--batch_size_per_gpu", "10")))
