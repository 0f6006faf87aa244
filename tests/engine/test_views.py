"""Features of a frozen backbone: computed once per view, also when a run is resumed, and within limits."""

import os

import pytest
import torch

import main
from arguments import parse_args
from engine.build import build_separator
from engine.options import run_folder
from engine.training import views
from engine.training.views import keep_views
from models.separator import Separator
from tests.engine.test_train import flags, make_trainer, read, stop_after
from tests.helpers import Pool
from utils import UserError

FROZEN = "--arch_frame timm:resnet10t --lr_frame 0 --num_views 3 --img_norm batch --img_pool avgpool".split()


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
    folders = [run_folder(parse_args(argv)) for argv in (whole, parts)]
    histories = [read(folder, "history.json") for folder in folders]
    assert histories[0]["train"]["err"] == histories[1]["train"]["err"]
    assert histories[0]["val"]["sdr"] == histories[1]["val"]["sdr"]
    first = build_separator(parse_args(whole), pretrained="none").net_frame.state_dict()
    states = [torch.load(os.path.join(folder, "frame_latest.pth")) for folder in folders]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key])
        assert key.startswith("features.") <= torch.equal(value, first[key])
    assert not torch.equal(states[0]["fc.weight"], first["fc.weight"])


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
