"""The benchmark: that both paths do the same work, and that it writes what it promises."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from arguments import parse_args
from benchmark import __main__, measure, presets, reference, scaling, step
from benchmark.clock import alone, in_turn, ratio, stopwatch
from benchmark.data import FPS, HEIGHT, WIDTH, Trees, make_trees
from benchmark.step import KINDS, make_batches, make_step
from dataset.audio import read_window
from dataset.frames import read_clip
from dataset.music import MUSICMixDataset, Sampling
from dataset.preprocess.convert import SHORT_SIDE
from engine.build import build_sampling, build_separator
from engine.evaluation.metrics import score_batch
from models.spectral import Spectral

SAMPLING = Sampling(num_frames=3, stride_frames=4, img_size=64, aud_len=16383)
FLAGS = [*measure.RECIPE, *measure.SMALL, "--num_gpus", "0", "--init_sound", "kaiming"]


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    return make_trees(str(tmp_path_factory.mktemp("trees")), num_clips=2, seconds=20, video_seconds=2)


def levels(frames):
    """Normalised pictures [..., 3, T, H, W] of the reference as levels 0..255."""
    mean, std = (
        torch.tensor(values)[:, None, None, None] for values in (reference.MEAN_RGB, reference.STD_RGB)
    )
    return (frames * std + mean) * 255


def test_trees_are_of_the_same_clips(trees):
    for old, own in zip(trees.old, trees.own, strict=True):
        assert (old.name, old.path_audio, old.num_frames) == (own.name, own.path_audio, 20 * FPS)
        pictures = [
            reference.open_picture(os.path.join(clip.path_frames, f"{20 * FPS:06d}.jpg"))
            for clip in (old, own)
        ]
        assert pictures[0].size == (WIDTH, HEIGHT)
        assert min(pictures[1].size) == SHORT_SIDE


def test_a_sample_is_the_same(trees):
    old = reference.ReferenceDataset(trees.old, SAMPLING, train=False)[0]
    new = MUSICMixDataset(trees.old, SAMPLING, train=False, mixtures=[(0, 1)])[0]
    torch.testing.assert_close(old["waves"], new["sources"])
    spectral = Spectral()
    torch.testing.assert_close(old["mags"][:, 0], spectral.stft(new["sources"]).abs(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(old["mag_mix"], spectral.stft(new["mix"][None]).abs(), atol=1e-3, rtol=1e-3)
    assert (levels(old["frames"]) - new["frames"]).abs().mean() < 1


def test_a_training_sample_is_of_the_same_kind(trees):
    old = reference.ReferenceDataset(trees.old, SAMPLING, train=True)[1]
    new = MUSICMixDataset(trees.old, SAMPLING, train=True)[1]
    assert old["frames"].shape == new["frames"].shape
    assert old["waves"].shape == new["sources"].shape
    assert torch.isfinite(old["mag_mix"]).all()
    assert 0 < old["waves"].abs().max() <= 0.5


@pytest.mark.parametrize("centre", [0.3, 10.0, 19.9])
def test_windows_are_the_same(trees, centre):
    path = trees.old[0].path_audio
    old = reference.load_sound(path, centre, SAMPLING, train=False)
    np.testing.assert_allclose(read_window(path, centre, 16383, 11025), old, atol=1e-6)


def test_pictures_are_the_same_for_much_larger_frames(tmp_path, trees):
    picture = reference.open_picture(os.path.join(trees.old[0].path_frames, "000001.jpg"))
    for size in ((640, 360), (1280, 720), (1920, 1080)):
        picture.resize(size).save(tmp_path / "000001.jpg", quality=92)
        old = levels(reference.load_clip(str(tmp_path), [1], 224, train=False))
        new = torch.from_numpy(read_clip(str(tmp_path), [1], 224))
        assert (old - new).abs().mean() < 1


def test_warps_are_the_same():
    spectral, mag = Spectral(), torch.rand(2, 512, 64)
    for module, to_log, height in ((spectral.warp, True, 256), (spectral.unwarp, False, 512)):
        x = mag if to_log else mag[:, :256]
        grid = reference.warp_grid(2, height, 64, to_log)
        old = F.grid_sample(x[:, None], grid, align_corners=True)[:, 0]
        torch.testing.assert_close(module(x), old, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def outputs():
    """What both networks make of the same batch in float32: (loss, masks [B, N, F, T], waves, batches)."""
    args = parse_args([*FLAGS, "--amp", "off"])
    old_batch, new_batch = make_batches(build_sampling(args), 2)
    separator = build_separator(args)
    nets = reference.ReferenceNets(args.arch_sound, args.num_channels, args.ngf).load(separator)
    with torch.no_grad():
        loss, masks = nets.eval()(old_batch)
        out = separator.eval()(new_batch["mix"], new_batch["sources"], new_batch["frames"], separate=True)
    waves = torch.from_numpy(np.stack(reference.separate(masks, old_batch)))
    return (
        (loss, torch.cat(masks, dim=1), waves),
        (out["loss"].mean(), out["masks"], out["estimates"]),
        new_batch,
    )


def test_networks_give_the_same(outputs):
    (loss, masks, waves), (new_loss, new_masks, new_waves), _ = outputs
    torch.testing.assert_close(new_masks, masks, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(new_loss, loss, atol=1e-4, rtol=1e-4)
    # A bin at the threshold may fall on either side.
    assert (new_waves - waves).square().sum() < 1e-3 * waves.square().sum()


def test_scores_are_the_same(outputs):
    (_, _, waves), _, batch = outputs
    sources, mix = (batch[key][..., : waves.shape[-1]] for key in ("sources", "mix"))
    new = score_batch(sources, waves, mix, waves)[0]
    old = reference.score(sources[0].numpy(), waves[0].numpy(), sources[0].sum(dim=0).numpy())
    for key, values in zip(("sdr", "sir", "sar", "sdr_mixture"), old, strict=True):
        np.testing.assert_allclose(new[key], values, atol=0.01)


def test_steps_learn_the_same():
    args = parse_args([*FLAGS, "--amp", "off"])
    batches = make_batches(build_sampling(args), 2)
    losses = []
    for kind, batch in zip(KINDS, batches, strict=True):
        learn = make_step(kind, args, batch, "cpu")
        losses.append([learn() for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)


def test_measuring():
    seconds = in_turn({"reference": lambda: None, "project": lambda: None}, 5)
    assert [len(values) for values in seconds.values()] == [5, 5]
    found = ratio({"reference": [4.0, 6.0, 8.0], "project": [1.0, 2.0, 8.0]})
    assert found == {"value": 3.0, "low": 1.0, "high": 4.0}
    original = reference.spectrogram
    with stopwatch({"stft": (reference, "spectrogram")}) as stages:
        reference.spectrogram(np.zeros(4096, np.float32))
    assert stages["stft"] > 0
    assert reference.spectrogram is original


@pytest.fixture
def cheap(monkeypatch):
    """Measure memory in this process, and the machine's peak with small matrices."""

    def here(function, *args):
        function, args = pickle.loads(pickle.dumps((function, args)))  # as for another process
        return function(*args)

    for module in (presets, scaling, step):
        monkeypatch.setattr(module, "alone", here)
    monkeypatch.setitem(step.MATMUL, "cpu", 64)


def test_a_function_that_is_called_alone_is_in_another_process():
    assert alone(os.getppid) == os.getpid()


@pytest.mark.usefixtures("cheap")
def test_a_quick_run_writes_all_ratios(tmp_path, capsys):
    __main__.main(["--quick", "--out", str(tmp_path / "b.json")])
    result = json.loads((tmp_path / "b.json").read_text())
    assert result["ratios"].keys() >= {"input_old_tree", "input_own_tree", "step_cpu", "evaluation", "metric"}
    assert all(found["value"] > 0 for found in result["ratios"].values())
    assert result.keys() >= {"machine", "versions", "settings", "input", "step", "separation"}
    assert "| step, samples/s |" in capsys.readouterr().out


def gpu_of(monkeypatch, fits):
    """Pretend that there is a GPU in whose memory steps of up to `fits` mixtures fit; the sizes asked for."""
    asked = []

    def fit(flags, size, *_):
        asked.append(size)
        if size > fits:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return {kind: 2**30 for kind in KINDS}

    figures = {"samples_per_s": 1.0, "gflop_per_s": 1.0}
    figures |= {f"share_of_{dtype}_peak": 0.5 for dtype in ("float32", "bfloat16")}
    found = {kind: figures for kind in KINDS} | {"gflop_per_sample": 1.0}
    found["peak_gflop_per_s"] = {"float32": 2.0, "bfloat16": 2.0}
    monkeypatch.setattr(step, "measure_memory", fit)
    monkeypatch.setattr(step, "measure_step", lambda *_: (found, {"value": 1, "low": 1, "high": 1}))
    return asked


def test_a_batch_is_halved_until_it_fits_on_the_gpu(monkeypatch):
    asked = gpu_of(monkeypatch, fits=20)
    figures, found = step.measure_fitting(FLAGS, 80, 1)
    assert asked == [80, 40, 20]
    assert figures["batch"] == 20
    assert figures["peak_bytes"]["project"] == 2**30
    assert found["value"] == 1
    gpu_of(monkeypatch, fits=0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        step.measure_fitting(FLAGS, 80, 1)


def test_what_is_measured_is_saved_before_a_later_part_fails(tmp_path, monkeypatch):
    """The GPU comes last."""
    gpu_of(monkeypatch, fits=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "none")
    monkeypatch.setattr(measure, "make_trees", lambda *_: Trees([], [], ""))
    ratio = {"value": 2.0}
    for name, found in {
        "memory": {"project": 1},
        "step": ({"gflop_per_sample": 1.0}, ratio),
        "input": ({"project_own": {}}, {"input_own_tree": ratio}),
        "evaluation": ({"project_page": 1.0}, {"metric": ratio}),
        "separation": {"x_real_time": 1.0},
    }.items():
        monkeypatch.setattr(measure, f"measure_{name}", lambda *_, found=found: found)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        __main__.main(["--quick", "--out", str(tmp_path / "b.json")])
    result = json.loads((tmp_path / "b.json").read_text())
    assert result["ratios"].keys() == {"input_own_tree", "step_cpu", "metric"}
    assert result["step"] == {"peak_bytes": {"project": 1}, "gflop_per_sample": 1.0}
    assert result.keys() >= {"machine", "input", "evaluation_s_per_mixture", "separation"}


@pytest.mark.usefixtures("cheap")
def test_a_quick_scaling_run_writes_its_tables(tmp_path, capsys):
    __main__.main(["--quick", "--scaling", "--out", str(tmp_path / "b.json")])
    result = json.loads((tmp_path / "b.json").read_text())
    assert result.keys() >= {"batch", "workers", "minutes", "rows"}
    assert "| rows of an index |" in capsys.readouterr().out


@pytest.mark.usefixtures("cheap")
def test_a_quick_run_of_the_presets_writes_what_each_costs(tmp_path, capsys):
    __main__.main(["--quick", "--presets", "--out", str(tmp_path / "b.json")])
    rows = json.loads((tmp_path / "b.json").read_text())["presets"]
    assert "| modern --num_views 0 | computed |" in capsys.readouterr().out
    assert rows["published"]["speed"] == {"value": 1, "low": 1, "high": 1}
    assert rows["published"]["trained"] == rows["published"]["parameters"]
    for name in ("small", "modern"):
        kept, computed = rows[name], rows[f"{name} --num_views 0"]
        assert (kept["kept"], computed["kept"]) == (True, False)
        assert kept["trained"] == computed["trained"] < kept["parameters"] - 3e6  # a frozen EfficientNet
        # Computed features cost the backbone's forward pass, and no backward pass.
        more = [computed[key] - kept[key] for key in ("gflop_forward", "gflop_step")]
        assert more[0] == pytest.approx(more[1], rel=0.01)
        assert more[0] > 0.05
        assert kept["gflop_step"] > 2 * kept["gflop_forward"]
        assert kept["peak_bytes"] > 0


@pytest.mark.parametrize(("out", "words"), [(".", "a folder, expected a file"), ("no/b.json", "no folder")])
def test_a_bad_out_is_one_clear_error_at_once(tmp_path, monkeypatch, capsys, out, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        __main__.main(["--out", out])
    error = capsys.readouterr().err
    assert error.startswith(f"error: --out {out}: ")
    assert words in error
    assert error.count("\n") == 1
