"""A frozen backbone: its features are computed once per view, within limits; it may be trained later."""

import os

import numpy as np
import pytest
import torch

import main
from arguments import parse_args
from engine.build import build_separator
from engine.options import run_folder
from engine.training import views
from engine.training.checkpoint import NETS
from engine.training.views import keep_views
from models.separator import Separator
from tests.engine.test_train import flags, make_trainer, read, stop_after
from tests.helpers import Pool
from utils import UserError

BACKBONE = "--arch_frame timm:resnet10t --num_views 3 --img_norm batch --img_pool avgpool".split()
FROZEN = [*BACKBONE, "--lr_frame", "0"]
LATER = [*BACKBONE, "--lr_frame", "0.01", "--freeze_epochs", "2"]  # of 4


def changed(state, first):
    """Names in a state dict whose values are no longer those in `first`."""
    return {key for key, value in state.items() if not torch.equal(value, first[key])}


def frame_state(argv):
    return torch.load(os.path.join(run_folder(parse_args(argv)), "frame_latest.pth"))


def check_same_runs(*argvs):
    """Two runs have the same weights and learning curves, to the bit."""
    folders = [run_folder(parse_args(argv)) for argv in argvs]
    for name in NETS:
        assert not changed(*(torch.load(os.path.join(folder, f"{name}_latest.pth")) for folder in folders))
    histories = [read(folder, "history.json") for folder in folders]
    assert histories[0] == histories[1]


def test_each_view_is_seen_once_and_a_resumed_run_ends_as_one_that_never_stopped(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())  # scores are computed in this process
    seen, backbone_features = [], Separator.backbone_features
    monkeypatch.setattr(
        Separator, "backbone_features", lambda self, x: seen.append(x.shape[:2]) or backbone_features(self, x)
    )
    whole, parts = (flags(tree, tmp_path / name, *FROZEN) for name in ("whole", "parts"))
    main.main(whole)
    assert seen == [(1, 3)] * 9
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(SystemExit):
            main.main(parts)
    main.main(parts)
    check_same_runs(whole, parts)
    first = build_separator(parse_args(whole)).net_frame.state_dict()
    learned = changed(frame_state(whole), first)
    assert "fc.weight" in learned
    assert not any(key.startswith("features.") for key in learned)


def test_a_backbone_is_trained_after_its_frozen_epochs_wherever_the_run_is_resumed(
    tree, tmp_path, monkeypatch
):
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())
    whole, parts = (flags(tree, tmp_path / name, *LATER) for name in ("whole", "parts"))
    main.main(whole)
    first = build_separator(parse_args(whole)).net_frame.state_dict()
    for stopped in (1, 2, 3):  # before, at and after the epoch in which the backbone is unfrozen
        with monkeypatch.context() as patch:
            stop_after(patch, stopped)
            with pytest.raises(SystemExit):
                main.main(parts)
        learned = changed(frame_state(parts), first)
        assert any(key.startswith("features.") for key in learned) == (stopped > 2)
    main.main(parts)
    check_same_runs(whole, parts)
    learned = {key for key in changed(frame_state(whole), first) if key.startswith("features.")}
    backbone = build_separator(parse_args(whole)).net_frame.features
    assert learned == {f"features.{name}" for name, _ in backbone.named_parameters()}  # no statistics


def test_views_that_take_too_much_memory_or_cannot_be_read(tree, tmp_path, monkeypatch):
    trainer = make_trainer(tree, tmp_path, *FROZEN)
    dataset = trainer.loader.dataset
    dataset.clips = [dataset.clips[0]._replace(path_frames="nowhere"), *dataset.clips[1:]]
    kept = keep_views(trainer.separator, dataset, trainer.device)
    assert kept.shape == (27, 512, 1, 1, 1)
    assert list(dataset.unreadable) == [0]
    assert kept[3:].std() > 0
    monkeypatch.setattr(views, "MAX_BYTES", kept.nbytes * 2 // 3)
    with pytest.raises(UserError, match=r"--num_views 3: features of 9 clips .* choose 2 or fewer"):
        keep_views(trainer.separator, dataset, trainer.device)
    dataset.clips = dataset.clips[:1]
    with pytest.raises(UserError, match=r"the frames of all clips are unreadable, e\.g\. nowhere"):
        keep_views(trainer.separator, dataset, trainer.device)


def test_features_in_a_file_are_those_in_memory_and_computed_once(tree, tmp_path, monkeypatch):
    trainer = make_trainer(tree, tmp_path, *FROZEN, "--views_dir", str(tmp_path / "views"))
    dataset = trainer.loader.dataset
    dataset.clips = [
        clip._replace(path_frames="nowhere") if k in (0, 5, 8) else clip
        for k, clip in enumerate(dataset.clips)
    ]
    wanted = keep_views(trainer.separator, dataset, trainer.device)
    monkeypatch.setattr(views, "MAX_BYTES", 0)  # of memory
    for _ in range(2):  # the second time they are read
        dataset.unreadable.clear()
        kept = trainer._keep_views()
        assert list(dataset.unreadable) == [0, 5, 8]
        assert kept.isnan().flatten(1).all(1).tolist() == [k // 3 in (0, 5, 8) for k in range(27)]
        assert torch.equal(kept.nan_to_num(), wanted)
        monkeypatch.setattr(Separator, "backbone_features", None)
    assert "unreadable when" in dataset.unreadable[0]


def test_features_in_a_file_are_only_for_runs_that_need_the_same(tree, tmp_path):
    folder = tmp_path / "views"
    trainer = make_trainer(tree, tmp_path, *FROZEN, "--views_dir", str(folder))
    first = trainer._keep_views().clone()
    for changes in (["--seed", "5"], ["--num_views", "2"], ["--imgSize", "64"], ["--img_pool", "maxpool"]):
        make_trainer(tree, tmp_path, *FROZEN, "--views_dir", str(folder), *changes)._keep_views()
    assert len(os.listdir(folder)) == 5
    again = make_trainer(tree, tmp_path, *FROZEN, "--views_dir", str(folder), "--lr_sound", "0.5")
    assert torch.equal(again._keep_views(), first)
    assert len(os.listdir(folder)) == 5
    with torch.no_grad():
        next(again.separator.net_frame.features.parameters()).mul_(2)
    assert not torch.equal(again._keep_views(), first)
    assert len(os.listdir(folder)) == 6


def test_a_damaged_file_of_features_is_written_again(tree, tmp_path, caplog):
    trainer = make_trainer(tree, tmp_path, *FROZEN, "--views_dir", str(tmp_path / "views"))
    first = trainer._keep_views().clone()
    path = next((tmp_path / "views").iterdir())
    whole = path.read_bytes()
    np.save(tmp_path / "foreign.npy", np.zeros(3))
    foreign = (tmp_path / "foreign.npy").read_bytes()
    for content, words in (
        (whole[:-1], "is damaged"),
        (b"", "is damaged"),
        (b"<html>", "is damaged"),
        (foreign, "has no features of 9 clips and 3 views"),
    ):
        path.unlink()
        path.write_bytes(content)
        caplog.clear()
        assert torch.equal(trainer._keep_views(), first)
        assert words in caplog.text
        assert path.read_bytes() == whole
    assert len(list((tmp_path / "views").iterdir())) == 1


def test_a_run_with_features_in_a_file_learns_what_one_with_features_in_memory_learns(
    tree, tmp_path, monkeypatch
):
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())
    runs = [flags(tree, tmp_path / name, *FROZEN, "--num_epoch", "1") for name in ("memory", "file")]
    runs[1] += ["--views_dir", str(tmp_path / "views")]
    for argv in runs:
        main.main(argv)
    check_same_runs(*runs)
