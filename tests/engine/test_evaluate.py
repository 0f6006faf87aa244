"""Evaluation: counts, means, files, and the scores of the original pairing."""

import csv
import json
import os
import random
import shutil

import mir_eval
import numpy as np
import pytest
import soundfile
import torch

import main
from arguments import parse_args
from dataset.audio import read_window
from dataset.frames import read_clip
from dataset.index import Clip, write_index, write_mixtures
from dataset.indexing import table
from dataset.indexing.mixture_table import MixtureTable
from engine.evaluation.metrics import SCORES
from engine.evaluation.report import summary_line, write_metrics, write_page
from engine.evaluation.results import Result
from engine.failures import Failures
from engine.loaders import build_val_loader
from engine.options import run_folder
from tests.helpers import SMALL, Pool, count_calls, flat, make_evaluator, make_separator, small_args
from utils import UserError


def naive_sdr(sources, estimates):
    """[N], clipped at 100 dB: above it, in mixtures of a clip with itself, there is only rounding."""
    return mir_eval.separation.bss_eval_sources(sources, estimates, False)[0].clip(max=100)


def naive_waves(masks, mix):
    """Estimates of masks [N, 256, T] as published: unwarp by grid_sample, threshold, phase, iSTFT."""
    columns = torch.linspace(-1, 1, masks.shape[-1])
    rows = 2 * torch.log(10 * torch.linspace(-1, 1, 512) + 11) / np.log(21) - 1
    grid = torch.stack([columns.expand(512, -1), rows[:, None].expand(-1, len(columns))], dim=-1)
    linear = torch.nn.functional.grid_sample(masks[:, None], grid.expand(2, -1, -1, -1), align_corners=True)
    window = torch.hann_window(1022)
    spec = torch.stft(torch.from_numpy(mix), 1022, 256, window=window, return_complex=True)
    return torch.istft((linear[:, 0] > 0.5) * spec, 1022, 256, window=window).clamp(-1, 1).numpy()


def test_scores_of_the_original_pairs_are_those_of_the_definition(tree, tmp_path):
    """Recompute everything but the networks naively: draw, cut, mix, transform, mask and score one by one."""
    root, clips = tree
    args = small_args("--list_val", f"{root}/val.csv", "--val_pairs", "original", "--num_val", "5")
    separator = make_separator(args)
    summary, results = make_evaluator(args, separator).run(str(tmp_path))
    sdrs, mixtures = [], []
    for index in range(5):
        random.seed(index)
        pair = [clips[index], clips[random.randint(0, 4)]]
        waves = np.stack([read_window(c.path_audio, 79.5 / 8, 16383, 11025) / 2 for c in pair])
        frames = np.stack([read_clip(c.path_frames, [80], 32) for c in pair])
        with torch.no_grad():
            batch = [torch.from_numpy(x)[None] for x in (waves.sum(0), waves, frames)]
            masks = separator.eval()(*batch, separate=True)["masks"][0]
        estimates = naive_waves(masks, waves.sum(0))
        truth = waves[:, : estimates.shape[-1]]
        sdrs.append(naive_sdr(truth, estimates))
        mixtures.append(naive_sdr(truth, np.stack([truth.sum(0)] * 2)))
    for key, expected in {"sdr": sdrs, "sdr_mixture": mixtures}.items():
        found = np.stack([result.scores[key] for result in results])
        np.testing.assert_allclose(found.clip(max=100), expected, atol=0.01)
        assert summary[key] == pytest.approx(found.mean())
    assert summary["num_mixtures"] == len(results) == 5


def test_means_do_not_depend_on_the_batches(tree, tmp_path):
    root = tree[0]
    separator = None
    summaries = []
    for size in ("1", "4", "6"):
        args = small_args("--list_val", f"{root}/val.csv", "--batch_size_per_gpu", size)
        separator = separator or make_separator(args)
        summaries.append(make_evaluator(args, separator).run(str(tmp_path))[0])
    for summary in summaries[1:]:
        assert flat(summary) == pytest.approx(flat(summaries[0]), abs=1e-3)


def test_each_clip_is_looked_at_once_a_run(tree, tmp_path, monkeypatch):
    args = small_args("--list_val", f"{tree[0]}/val.csv", "--val_pairs", "original", "--num_val", "5")
    evaluator, looks = make_evaluator(args), []
    features = evaluator.separator.image_features

    def counted(frames):
        looks.append(len(frames))
        return features(frames)

    monkeypatch.setattr(evaluator.separator, "image_features", counted)
    scores = []
    for _ in range(2):
        looks.clear()
        _, results = evaluator.run(str(tmp_path))
        assert sum(looks) == len({clip for result in results for clip in result.clips}) < 10
        scores.append(np.stack([result.scores["si_sdr"] for result in results]))
        with torch.no_grad():
            evaluator.separator.net_frame.fc.weight.mul_(-1)  # as if the networks had been trained on
    assert not np.allclose(*scores)


def test_failed_and_silent_mixtures_are_counted_and_not_scored(tree, tmp_path):
    clips = tree[1]
    soundfile.write(tmp_path / "silent.wav", np.zeros(20 * 11025), 11025)
    many = [clips[n % 9] for n in range(24)]
    many[0] = Clip(str(tmp_path / "silent.wav"), clips[0].path_frames, 160)
    many[1] = Clip(str(tmp_path / "gone.wav"), clips[1].path_frames, 160)
    write_index(tmp_path / "val.csv", many)
    args = small_args("--list_val", str(tmp_path / "val.csv"), "--val_pairs", "video", "--num_val", "24")
    summary, results = make_evaluator(args).run(str(tmp_path))
    silent = [result for result in results if result.status == "silent source"]
    scored = [result for result in results if not result.status]
    assert summary["num_mixtures"] == 24
    assert summary["num_failed"] == 24 - len(results) >= 1
    assert summary["num_silent"] == len(results) - len(scored)
    assert len(silent) >= 1
    assert summary["sdr"] == pytest.approx(np.mean([result.scores["sdr"].mean() for result in scored]))
    line = summary_line({"epoch": 0, **summary})
    assert line.startswith(f"[Eval Summary] Epoch: 0, Loss: {summary['loss']:.4f}, SDR_mixture: ")
    assert f"{summary['num_failed']} failed, {summary['num_silent']} silent, 1 clips unreadable" in line


def test_metrics_files(tmp_path):
    scores = {key: np.array([1.0, 2.0]) for key in SCORES}
    clips = [("a", "a/1"), ("b", "b/2")]
    results = [
        Result(1, clips, 0.5, "silent source", {}, None),
        Result(0, clips, 0.25, "", scores, None),
    ]
    write_metrics(str(tmp_path), {"epoch": 3, "sdr": 1.5}, results)
    assert json.loads((tmp_path / "metrics.json").read_text())["sdr"] == 1.5
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["mixture"], row["clip"], row["sdr"]) for row in rows] == [
        ("0", "a/1", "1.0000"),
        ("0", "b/2", "2.0000"),
        ("1", "a/1", ""),
        ("1", "b/2", ""),
    ]
    assert rows[2]["status"] == "silent source"


def test_too_many_failures_stop_the_run(caplog):
    def batch(*names):
        infos = [{"failures": [(name, f"{name}.wav: gone")]} for name in names]
        return {"info": infos[:1], "dropped": infos[1:]}

    failures = Failures(100, "val.csv")
    for _ in range(3):
        failures.add(batch("a", "b", "c", "d", "e"))
    assert len(failures) == 5
    assert sum("clip a" in record.message for record in caplog.records) == 1
    with pytest.raises(UserError, match=r"(?s)val.csv: 6 of 100 clips.*a: a.wav: gone.*f: f.wav: gone"):
        failures.add(batch("f"))
    many = Failures(100, "val.csv")
    with pytest.raises(UserError) as stop:
        many.add(batch(*(f"clip{n:02d}" for n in range(20))))
    assert "clip09" in str(stop.value)
    assert "clip10" not in str(stop.value)


def test_a_row_of_the_page_comes_with_its_scores(tree, tmp_path):
    args = small_args("--list_val", f"{tree[0]}/val.csv", "--num_val", "2")
    evaluator = make_evaluator(args)
    results = evaluator.run(str(tmp_path), num_vis=1)[1]
    assert results[0].row is not None
    assert results[1].row is None
    assert os.listdir(tmp_path) == ["0000"]


def test_a_picture_that_only_the_page_needs_does_not_stop_the_evaluation(tree, tmp_path, caplog):
    shutil.copytree(tree[0], tmp_path / "tree")
    moved = [
        Clip(*(path.replace(tree[0], str(tmp_path / "tree")) for path in clip[:2]), clip[2])
        for clip in tree[1]
    ]
    os.remove(os.path.join(moved[0].path_frames, "000085.jpg"))
    write_index(tmp_path / "val.csv", moved)
    args = small_args("--list_val", str(tmp_path / "val.csv"), "--num_val", "2")
    summary, results = make_evaluator(args).run(str(tmp_path / "page"), num_vis=1)
    assert summary["num_failed"] == 0
    assert results[0].scores
    assert results[0].row is None
    assert "000085.jpg" in caplog.text


@pytest.fixture
def mixtures(tree, tmp_path):
    """(file, clip names of each) of three mixtures, not in the order of the clips."""
    clips = tree[1]
    mixtures = [(clips[4], clips[2]), (clips[0], clips[8]), (clips[2], clips[3])]
    write_mixtures(tmp_path / "mix.csv", mixtures)
    return str(tmp_path / "mix.csv"), [[clip.name for clip in mixture] for mixture in mixtures]


def names_in(folder):
    """[[name of a clip, …], …] of the mixtures in metrics.csv."""
    with open(os.path.join(folder, "metrics.csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [[row["clip"] for row in rows[n : n + 2]] for n in range(0, len(rows), 2)]


def test_fixed_mixtures_are_scored_in_their_order_and_may_be_cut(mixtures, tmp_path):
    path, names = mixtures
    separator = None
    for count, flags in ((2, ["--num_val", "2"]), (3, ["--num_val", "9"])):
        args = small_args("--list_val", "gone.csv", "--list_val_mix", path, *flags)
        separator = separator or make_separator(args)
        evaluator = make_evaluator(args, separator)
        summary, results = evaluator.run(str(tmp_path / "page"), num_vis=1)
        assert [[name for _, name in result.clips] for result in results] == names[:count]
        assert summary["num_mixtures"] == len(results) == count
        assert results[0].row
    assert len(evaluator.loader.dataset.clips) == 5


def test_a_fixed_mixture_whose_clip_is_gone_is_counted(tree, tmp_path):
    clips = tree[1]
    gone = clips[0]._replace(path_audio="violin/gone.wav")
    many = [(clips[n % 9]._replace(num_frames=150 + n), clips[(n + 1) % 9]) for n in range(20)]
    write_mixtures(tmp_path / "mix.csv", [(clips[1], gone), *many])
    args = small_args("--list_val_mix", str(tmp_path / "mix.csv"), "--batch_size_per_gpu", "8")
    evaluator = make_evaluator(args)
    batch = next(iter(evaluator.loader))
    assert [info["index"] for info in batch["dropped"]] == [0]
    evaluator.failures.add(batch)
    assert list(evaluator.failures.reasons) == ["violin/gone"]


def test_a_long_list_of_mixtures_gives_what_a_short_one_gives(mixtures, monkeypatch):
    args = small_args("--list_val_mix", mixtures[0])
    short = list(build_val_loader(args))
    monkeypatch.setattr(table, "MANY", 1)
    loader = build_val_loader(args)
    assert isinstance(loader.dataset.mixtures, MixtureTable)
    long = list(loader)
    assert [batch["info"] for batch in long] == [batch["info"] for batch in short]
    for one, other in zip(long, short, strict=True):
        assert torch.equal(one["mix"], other["mix"])
        assert torch.equal(one["frames"], other["frames"])
    with pytest.raises(UserError, match=r"mix\.csv: expected mixtures of 3 clips \(--num_mix\), found 2"):
        build_val_loader(small_args("--list_val_mix", mixtures[0], "--num_mix", "3"))


def test_mixtures_of_another_number_are_refused(mixtures):
    with pytest.raises(UserError, match=r"mix\.csv: expected mixtures of 3 clips \(--num_mix\), found 2"):
        build_val_loader(small_args("--list_val_mix", mixtures[0], "--num_mix", "3"))


def test_both_modes_evaluate_the_fixed_mixtures(tree, mixtures, tmp_path, monkeypatch, capsys):
    path, names = mixtures
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())
    flags = ["--list_val", "gone.csv", "--list_val_mix", path, "--num_vis", "1", "--ckpt", str(tmp_path)]
    training = ["--list_train", f"{tree[0]}/train.csv", "--dup_trainset", "1", "--num_epoch", "1"]
    argv = [*SMALL, *flags, *training, "--id", "t"]
    main.main(argv)
    folder = run_folder(parse_args(argv))
    assert names_in(folder) == names
    warnings = [line for line in capsys.readouterr().err.splitlines() if "share" in line]
    assert len(warnings) == 1
    assert "mix.csv share 5 videos, e.g. flute0, flute2" in warnings[0]
    scored = count_calls(monkeypatch, "bss_eval_reference")
    main.main([*argv, "--bss", "mir_eval"])  # --bss may change on resume; this run is finished
    evaluation = ["--mode", "eval", "--id", os.path.basename(folder), *SMALL, *flags, "--num_val", "2"]
    evaluation += ["--mask_thres", "0"]  # so that no estimate is silent
    main.main(evaluation)
    assert not scored
    main.main([*evaluation, "--bss", "mir_eval"])
    assert len(scored) == 2 * 5
    assert names_in(folder) == names[:2]
    assert os.path.isfile(os.path.join(folder, "visualization", "index.html"))


@pytest.mark.parametrize("shared", [0, 7])
def test_training_warns_once_of_videos_that_are_evaluated_too(caplog, shared):
    clips = [Clip(f"audio/flute/{n:02d}.wav", f"frames/flute/{n:02d}", 200) for n in range(20)]
    other = [clip._replace(path_audio=clip.path_audio.replace("flute", "tuba")) for clip in clips[:shared]]
    args = parse_args(["--list_train", "train.csv", "--list_val", "val.csv"])
    main.warn_of_shared_ids(args, clips[:10], clips[10:] + other)
    messages = [record.message for record in caplog.records]
    assert len(messages) == bool(shared)
    assert not shared or "val.csv share 7 videos, e.g. 00, 01, 02, 03, 04:" in messages[0]


def test_data_parallel_gets_everything_by_position(tree, tmp_path):
    """DataParallel would send a keyword to more GPUs than a small batch has mixtures for."""
    args = small_args("--list_val", f"{tree[0]}/val.csv", "--num_val", "2")
    evaluator = make_evaluator(args)

    class Positional(torch.nn.Module):
        def forward(self, *args):
            return evaluator.separator(*args)

    evaluator.model = Positional()
    assert evaluator.run(str(tmp_path))[0]["num_failed"] == 0


def test_a_clip_whose_name_is_not_utf_8_is_scored_and_shown(tree, tmp_path):
    clips = tree[1][:2]
    folder = tmp_path / "t\udce4st" / "violin"  # the byte E4, as in Latin-1
    shutil.copytree(clips[0].path_frames, folder / "f\udcfcr.mp4")
    shutil.copyfile(clips[0].path_audio, folder / "f\udcfcr.wav")
    clips[0] = Clip(str(folder / "f\udcfcr.wav"), str(folder / "f\udcfcr.mp4"), clips[0].num_frames)
    write_index(tmp_path / "val.csv", clips)
    args = small_args("--list_val", str(tmp_path / "val.csv"), "--num_val", "2")
    summary, results = make_evaluator(args).run(str(tmp_path / "page"), num_vis=1)
    write_metrics(str(tmp_path), summary, results)
    write_page(str(tmp_path / "page"), {"epoch": 0, **summary}, results, vars(args), {}, "a run")
    assert b"violin/f\xfcr" in (tmp_path / "metrics.csv").read_bytes()
    assert "violin/f" in (tmp_path / "page/index.html").read_text(encoding="utf-8")
