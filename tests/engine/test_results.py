"""Where the scores of separated mixtures are computed, and what the worker processes do."""

import json
import os

import mir_eval
import numpy as np
import pytest
import torch

from dataset.frames import read_clip
from dataset.index import write_mixtures
from engine.evaluation.metrics import SCORES
from engine.evaluation.report import write_metrics
from engine.evaluation.results import make_pool
from tests.helpers import count_calls, flat, make_evaluator, small_args


class Called(torch.nn.Module):
    """A module that calls a function."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


@pytest.fixture
def mixtures(tree, tmp_path):
    """A file of three mixtures."""
    clips = tree[1]
    write_mixtures(tmp_path / "mix.csv", [(clips[4], clips[2]), (clips[0], clips[8]), (clips[2], clips[3])])
    return str(tmp_path / "mix.csv")


def test_results_through_processes_are_those_of_this_one(tree, tmp_path):
    here = make_evaluator(small_args("--list_val", f"{tree[0]}/val.csv", "--num_val", "3"), bss="mir_eval")
    summary = here.run(str(tmp_path / "here"))[0]
    here.fixed.clear()
    with make_pool(1) as here.pool:
        there = here.run(str(tmp_path / "there"), num_vis=1)
    assert flat(there[0]) == pytest.approx(flat(summary), abs=1e-6)
    assert [bool(result.row) for result in there[1]] == [True, False, False]
    assert os.listdir(tmp_path / "there") == ["0000"]


def test_scores_by_mir_eval_and_fast_ones_are_equal(mixtures, tmp_path):
    found = []
    for bss in ("fast", "mir_eval"):
        args = small_args("--list_val_mix", mixtures, "--bss", bss)
        summary, results = make_evaluator(args, bss=args.bss).run(str(tmp_path), floors=True)
        write_metrics(str(tmp_path), summary, results)
        found.append(json.loads((tmp_path / "metrics.json").read_text()))
    assert found[0].keys() == found[1].keys() >= {*SCORES, "sdr_swapped", "sdr_average"}
    assert flat(found[0]) == pytest.approx(flat(found[1]), abs=1e-3)
    assert np.isfinite([found[0][key] for key in SCORES]).all()


@pytest.mark.parametrize(
    ("bss", "function", "first", "second"),
    [
        ("fast", "bss_eval", [(2, 5), (1, 5)], [(2, 2), (1, 2)]),  # estimates, oracles and the mixture
        ("mir_eval", "bss_eval_reference", 9 * [(2,)], 3 * [(2,)]),
    ],
)
def test_what_networks_do_not_change_is_scored_once(
    mixtures, tmp_path, monkeypatch, bss, function, first, second
):
    args = small_args("--list_val_mix", mixtures, "--batch_size_per_gpu", "2")
    evaluator = make_evaluator(args, bss=bss)
    shapes = count_calls(monkeypatch, function)
    before = evaluator.run(str(tmp_path))[0]
    assert shapes == first
    shapes.clear()
    for parameter in evaluator.separator.net_sound.parameters():
        parameter.data *= 1.1
    after = evaluator.run(str(tmp_path))[0]
    assert shapes == second
    for key in ("sdr_mixture", "sdr_oracle"):
        assert after[key] == before[key]
    assert after["sdr"] != before["sdr"]
    fresh = make_evaluator(args, evaluator.separator).run(str(tmp_path))[0]
    assert flat(after) == pytest.approx(flat(fresh), abs=1e-4)


def test_what_was_silent_at_first_is_scored_later(mixtures, tmp_path):
    args = small_args("--list_val_mix", mixtures)
    evaluator = make_evaluator(args)
    expected = evaluator.run(str(tmp_path))[0]
    evaluator.fixed.clear()
    model = evaluator.model

    def silence_one(*tensors):
        out = model(*tensors)
        out["estimates"][1, 0] = 0
        return out

    evaluator.model = Called(silence_one)
    summary, results = evaluator.run(str(tmp_path))
    assert [result.status for result in results] == ["", "silent estimate", ""]
    assert summary["num_silent_estimates"] == 1
    evaluator.model = model
    assert flat(evaluator.run(str(tmp_path))[0]) == pytest.approx(flat(expected), abs=1e-6)


def test_no_process_starts_that_has_nothing_to_do(tree, tmp_path):
    evaluator = make_evaluator(small_args("--list_val", f"{tree[0]}/val.csv", "--num_val", "2"))

    class Refusing:
        def submit(self, *args):
            raise AssertionError("asked for a process")

    evaluator.pool = Refusing()
    assert evaluator.run(str(tmp_path))[0]["num_mixtures"] == 2
    with pytest.raises(AssertionError, match="asked for a process"):
        evaluator.run(str(tmp_path), num_vis=1)


def naive_scores(sources, estimates, mix, oracle, average):
    """{score: [N]} by mir_eval's loop over one mixture."""
    count = len(sources)
    sdr, sir, sar, _ = mir_eval.separation.bss_eval_sources(sources, estimates, False)
    others = {
        "sdr_mixture": np.stack([mix] * count),
        "sdr_oracle": oracle,
        "sdr_swapped": np.stack([estimates[n - 1] for n in range(count)]),
        "sdr_average": np.stack([average] * count),
    }
    score = mir_eval.separation.bss_eval_sources
    scores = {key: score(sources, sounds, False)[0] for key, sounds in others.items()}
    return {"sdr": sdr, "sir": sir, "sar": sar, **scores}


@pytest.mark.parametrize("count", [3, 4])
def test_scores_of_more_sources_are_those_of_a_naive_loop(tree, tmp_path, count):
    clips = tree[1]
    write_mixtures(tmp_path / "mix.csv", [clips[n : n + count] for n in (0, 3)])
    args = small_args("--list_val_mix", str(tmp_path / "mix.csv"), "--num_mix", str(count))
    evaluator = make_evaluator(args)
    model, given = evaluator.model, []

    def watched(*tensors):
        out = model(*tensors)
        mix, sources = (sound[..., : out["estimates"].shape[-1]] for sound in tensors[:2])
        sounds = sources, out["estimates"], mix, out["oracle"], out["average"]
        given.append([sound.double().numpy() for sound in sounds])
        return out

    evaluator.model = Called(watched)
    evaluator.separator.eval()  # which a wrapper would do
    results = evaluator.run(str(tmp_path), floors=True)[1]
    expected = [naive_scores(*sounds) for batch in given for sounds in zip(*batch, strict=True)]
    assert len(results) == len(expected) == 2
    for result, scores in zip(results, expected, strict=True):
        for key, values in scores.items():
            np.testing.assert_allclose(result.scores[key], values, atol=0.01, err_msg=key)


def test_the_average_picture_has_the_mean_features_of_all_clips(tree, tmp_path):
    soft = "--binary_mask 0 --loss l1 --output_activation softmax".split()
    args = small_args("--list_val", f"{tree[0]}/val.csv", "--num_val", "5", *soft)
    evaluator, given = make_evaluator(args), []
    model = evaluator.model

    def watched(*tensors):
        given.append(tensors[4])
        return model(*tensors)

    evaluator.model = Called(watched)
    evaluator.separator.eval()  # which a wrapper would do
    results = evaluator.run(str(tmp_path), floors=True)[1]
    pictures = np.stack([read_clip(clip.path_frames, [80], 32) for clip in tree[1][:5]])
    with torch.no_grad():
        features = evaluator.separator.image_features(torch.from_numpy(pictures)[:, None])
    for batch in given:
        torch.testing.assert_close(batch, features.mean(dim=(0, 1)).expand_as(batch))
    for result in results:  # a softmax over equal pictures gives every source the same share of the mixture
        np.testing.assert_allclose(result.scores["sdr_average"], result.scores["sdr_mixture"], atol=0.01)
    assert evaluator.run(str(tmp_path))[0].keys().isdisjoint({"sdr_average", "sdr_swapped"})
