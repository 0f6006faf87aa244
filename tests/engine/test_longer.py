"""A finished run goes on when --num_epoch grows."""

import os

import pytest
import torch

import main
from arguments import parse_args
from engine.options import run_folder, training_options
from engine.training.checkpoint import FILE_STATE, KINDS, find_run
from tests.engine.test_train import flags, read
from tests.helpers import Pool
from utils import save_json

SHORT = (
    "--preset small --arch_sound unet5 --loss bce --binary_mask 1 --mask_target magnitude --schedule step "
    "--eval_epoch 1"
)


@pytest.fixture
def no_pool(monkeypatch):
    """Scores are computed in this process, which spares each run two processes."""
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())


@pytest.mark.parametrize("more", ["", SHORT])
def test_a_finished_run_goes_on_for_more_epochs_as_if_it_had_had_them(tree, tmp_path, no_pool, more):
    """A short name stays; a published one says how many epochs there are, so that its run is copied."""
    whole, parts = (flags(tree, tmp_path / name, *more.split()) for name in ("whole", "parts"))
    main.main([*whole, "--num_epoch", "2"])
    main.main([*parts, "--num_epoch", "1"])
    first = run_folder(parse_args([*parts, "--num_epoch", "1"]))
    before = read(first, "history.json")
    main.main([*parts, "--num_epoch", "2"])
    folders = [run_folder(parse_args([*argv, "--num_epoch", "2"])) for argv in (whole, parts)]
    assert (folders[1] == first) == bool(more)
    if not more:
        assert read(first, "history.json") == before
        assert read(first, "options.json")["num_epoch"] == 1
    for name in ("history.json", "options.json"):
        assert read(folders[0], name) == read(folders[1], name)
    for name in os.listdir(folders[0]):
        assert os.path.exists(os.path.join(folders[1], name))
        if name.startswith(("sound_", "frame_", "synthesizer_")):
            states = [torch.load(os.path.join(folder, name)) for folder in folders]
            assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not [name for name in os.listdir(tmp_path / "parts") if name.startswith(".")]


def leave_run(tmp_path, *more):
    """Leave the files from which a run with these flags resumes; returns its folder."""
    args = parse_args([*more, "--ckpt", str(tmp_path)])
    options = training_options(args)
    folder = run_folder(args)
    save_json(os.path.join(folder, "options.json"), options)
    state = {key: kind() for key, kind in KINDS.items()} | {"options": options}
    torch.save(state, os.path.join(folder, FILE_STATE))
    return folder


def found_run(tmp_path, *more):
    """The folder whose state a run with these flags resumes; None for a new run."""
    args = parse_args([*more, "--ckpt", str(tmp_path)])
    state = find_run(run_folder(args), args)
    return state and state["folder"]


def test_the_longest_run_of_the_same_options_goes_on(tmp_path):
    folders = {count: leave_run(tmp_path, "--num_epoch", str(count)) for count in (9, 10, 30)}
    leave_run(tmp_path, "--num_epoch", "15", "--seed", "9")
    leave_run(tmp_path, "--num_epoch", "16", "--id", "other")
    for count, wanted in ((20, 10), (10, 10), (9, 9), (40, 30)):
        assert found_run(tmp_path, "--num_epoch", str(count)) == folders[wanted]
    assert found_run(tmp_path, "--num_epoch", "8") is None
    assert found_run(tmp_path, "--num_epoch", "20", "--no-resume") is None
    assert found_run(tmp_path, "--num_epoch", "20", "--overwrite") is None
    assert found_run(tmp_path / "gone", "--num_epoch", "20") is None


@pytest.mark.parametrize("preset", ["published", "small"])
def test_what_a_longer_cosine_changes_is_said(tmp_path, caplog, preset):
    caplog.set_level("INFO")
    argv = ["--preset", preset, "--schedule", "cosine", "--num_epoch"]
    folder = leave_run(tmp_path, *argv, "4")
    assert found_run(tmp_path, *argv, "4") == folder
    assert "cosine" not in caplog.text
    assert found_run(tmp_path, *argv, "8") == folder
    assert "a cosine that ends after 4 epochs, the others follow one that ends after 8" in caplog.text
