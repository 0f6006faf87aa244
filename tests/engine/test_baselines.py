"""Baselines: what their masks are, that methods separate what they can, and that scores are kept."""

import html
import json
import os
import shutil

import numpy as np
import pytest
import soundfile
import torch

from dataset.index import Clip, read_index, write_index
from engine.baselines import bases, run
from engine.baselines.__main__ import main, parse
from engine.baselines.baseline import Baseline, BlindEvaluator, best_order
from engine.baselines.factorise import hpss_masks, learn_bases, nmf_masks, supervised_masks
from engine.baselines.methods import TITLES
from engine.evaluation.metrics import si_sdr
from models.spectral import Spectral
from tests.helpers import Pool, make_separator, sing, small_args, table

RATE = 11025  # samples/s
LENGTH = 16383  # samples
SPECTRAL = Spectral(log_freq=False)
FLAGS = "--audLen 16383 --workers 0 --num_val 2 --num_vis 1".split()


def notes(hertz, seed):
    """Five notes [L] of a scale from `hertz`, one after the other, with harmonics."""
    steps = np.random.default_rng(seed).integers(0, 12, 5)
    count = LENGTH // 5 + 1
    return 0.4 * np.concatenate([sing(hertz * 2 ** (step / 12), count) for step in steps])[:LENGTH]


def hisses(seed):
    """High-passed noise [L] in bursts."""
    noise = np.random.default_rng(seed).standard_normal(LENGTH)
    bursts = np.repeat(np.random.default_rng(seed).integers(0, 2, LENGTH // 1000 + 1), 1000)[:LENGTH]
    return (0.04 * np.diff(noise, n=2, prepend=[0, 0]) * bursts).astype(np.float32)


def magnitude(wave):
    return SPECTRAL.stft(torch.from_numpy(wave)[None])[0].abs().numpy()


def separate(name, sources, categories=("a", "b"), bases=None):
    """Output of a baseline for sources [B, N, L]."""
    sources = torch.as_tensor(sources)
    baseline = Baseline(name, RATE, Pool(), bases)
    return baseline(sources.sum(dim=1), sources, [list(categories)] * len(sources))


def quality(sources, out):
    """[B, N] SI-SDR of a baseline's output."""
    return si_sdr(torch.as_tensor(sources)[..., : out["estimates"].shape[-1]], out["estimates"])


@pytest.mark.parametrize("log_freq", [0, 1])
@pytest.mark.parametrize("kind", ["binary", "ratio", "phase"])
def test_oracles_are_those_of_runs(kind, log_freq):
    loss = ["--loss", "bce"] if kind == "binary" else ["--binary_mask", "0", "--loss", "l1"]
    target = ["--mask_target", "phase"] if kind == "phase" else []
    args = small_args("--log_freq", str(log_freq), *loss, *target)
    separator = make_separator(args)
    sources = torch.from_numpy(np.stack([[notes(200, 0), notes(300, 1)], [notes(400, 2), hisses(3)]]))
    found = separate(f"oracle-{kind}" + "-log" * log_freq, sources)
    with torch.no_grad():
        expected = separator.eval()(sources.sum(dim=1), sources, torch.rand(2, 2, args.num_channels), True)
    torch.testing.assert_close(found["estimates"], expected["oracle"])


def test_each_oracle_is_better_than_the_one_before():
    sources = np.stack([[notes(220, 0), notes(330, 1)]])
    names = [name for name in TITLES if name.startswith("oracle")]
    scores = {name: float(quality(sources, separate(name, sources)).mean()) for name in names}
    assert scores["oracle-binary"] < scores["oracle-phase"] < scores["oracle-complex"]
    assert scores["oracle-ratio"] < scores["oracle-phase"]
    for kind in ("ratio", "phase", "complex"):  # interpolation may help binary masks
        assert scores[f"oracle-{kind}-log"] < scores[f"oracle-{kind}"]
    assert scores["oracle-complex"] > 30


def test_the_mixture_is_every_estimate():
    sources = np.stack([[notes(220, 0), notes(330, 1), hisses(2)]])
    estimates = separate("mixture", sources, "abc")["estimates"]
    mix = torch.from_numpy(sources.sum(axis=1))[:, None, : estimates.shape[-1]]
    torch.testing.assert_close(estimates, mix.expand_as(estimates), atol=1e-5, rtol=0)


def test_components_are_grouped_by_their_sound():
    sources = np.stack([[hisses(3), notes(200, 0)], [notes(200, 2), hisses(7)]])
    before, after = (quality(sources, separate(name, sources)) for name in ("mixture", "nmf"))
    assert (after > before + 4).all()
    masks = nmf_masks(magnitude(sources[0].sum(axis=0)), 2, RATE)
    np.testing.assert_allclose(masks.sum(axis=0), 1, atol=1e-3)


def test_bases_of_categories_separate_them():
    low, high = (np.concatenate([notes(hertz, n) for n in range(10, 16)]) for hertz in (150, 800))
    known = {"a": learn_bases(magnitude(low)), "b": learn_bases(magnitude(high))}
    sources = np.stack([[notes(150, 0), notes(800, 1)]])
    before = quality(sources, separate("mixture", sources))
    after = quality(sources, separate("nmf-supervised", sources, bases=known))
    assert (after > before + 8).all()
    swapped = separate("nmf-supervised", sources[:, ::-1].copy(), ("b", "a"), known)
    torch.testing.assert_close(quality(sources[:, ::-1].copy(), swapped), after.flip(1), atol=0.01, rtol=0)


def test_sources_of_one_category_share_its_mask():
    known = [learn_bases(magnitude(notes(hertz, 0))) for hertz in (150, 800)]
    one, two, three = supervised_masks(magnitude(notes(150, 1) + notes(800, 2)), known, [0, 1, 0])
    np.testing.assert_array_equal(one, three)
    np.testing.assert_allclose(one + two + three, 1, atol=1e-3)


def test_clicks_are_percussive_and_tones_harmonic():
    clicks = np.zeros(LENGTH, np.float32)
    clicks[1000::3000] = 0.9
    tone = sing(440, LENGTH)
    masks = hpss_masks(magnitude(tone + clicks))
    assert masks.shape == (2, 512, 64)
    sources = np.stack([[clicks, tone]])
    before, after = (quality(sources, separate(name, sources)) for name in ("mixture", "hpss"))
    assert (after > before + 5).all()


def test_sounds_are_put_in_the_best_order_and_silence_keeps_its_own():
    torch.manual_seed(0)
    sources = torch.randn(3, 3, 4000)
    estimates = sources[:, [2, 0, 1]] + 0.3 * torch.randn(3, 3, 4000)
    sources[1, 0] = 0
    estimates[2, 1] = 0
    assert best_order(sources, estimates).tolist() == [[1, 2, 0], [0, 1, 2], [0, 1, 2]]


def command(root, tmp_path, *flags):
    lists = ["--list_val", f"{root}/val.csv", "--list_train", f"{root}/train.csv"]
    return [*flags, *lists, "--ckpt", str(tmp_path), *FLAGS]


@pytest.fixture
def no_pool(monkeypatch):
    """Compute in this process, and learn from few windows, to be quick."""
    monkeypatch.setattr(run, "make_pool", lambda workers: Pool())
    monkeypatch.setattr(bases, "MAX_WINDOWS", 4)


def test_files_are_those_of_an_evaluation_and_are_kept(tree, tmp_path, no_pool, monkeypatch, capsys):
    names = ["mixture", "oracle-ratio-log", "nmf-supervised"]
    main(command(tree[0], tmp_path, *names))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == names
    assert not any("nothing to do" in line for line in lines)
    summaries = []
    for name in names:
        folder = tmp_path / "baselines/val" / name
        summaries.append(json.loads((folder / "metrics.json").read_text()))
        assert summaries[-1]["num_mixtures"] == 2
        assert summaries[-1]["loss"] is None
        rows = table(folder / "metrics.csv")
        assert [row[3] for row in rows[1:3]] == ["violin", rows[2][3]]
        page = html.unescape((folder / "visualization/index.html").read_text())
        assert TITLES[name] in page
        assert 'class="heat"' not in page
        assert "Loss weighting" not in page
    assert summaries[0]["sdr"] == pytest.approx(summaries[0]["sdr_mixture"], abs=0.01)
    assert summaries[0]["sdr"] < summaries[2]["sdr"] < summaries[1]["sdr"]
    monkeypatch.setattr(BlindEvaluator, "run", None)
    main(command(tree[0], tmp_path, *names))
    again = capsys.readouterr().out.splitlines()
    assert all("computed before, nothing to do" in line for line in again)
    assert [line.split(" dB")[0] for line in again] == [line.split(" dB")[0] for line in lines]


def computed(argv):
    """{name: whether it was computed now} of a call."""
    args = parse(argv)
    return {name: is_new for name, _, _, is_new in run.evaluate_baselines(args.names, args)}


def test_other_sounds_options_and_training_clips_are_computed_again(tree, tmp_path, no_pool):
    root = str(tmp_path / "tree")
    shutil.copytree(tree[0], root)
    for name in ("train", "val"):
        clips = read_index(f"{tree[0]}/{name}.csv")
        moved = [Clip(*(path.replace(tree[0], root) for path in clip[:2]), clip[2]) for clip in clips]
        write_index(f"{root}/{name}.csv", moved)
    names = ["mixture", "nmf-supervised"]
    argv = command(root, tmp_path, *names)
    assert computed(argv) == {"mixture": True, "nmf-supervised": True}
    assert computed([*argv, "--workers", "1"]) == {"mixture": False, "nmf-supervised": False}
    assert computed([*argv, "--seed", "5"]) == {"mixture": True, "nmf-supervised": True}
    assert computed([*argv, "--seed", "5", "--id", "other"]) == {"mixture": True, "nmf-supervised": True}
    only_train = moved[0]._replace(path_audio=f"{root}/audio/violin/new.wav")
    shutil.copyfile(moved[1].path_audio, only_train.path_audio)
    write_index(f"{root}/train.csv", [*read_index(f"{root}/train.csv"), only_train])
    assert computed([*argv, "--seed", "5"]) == {"mixture": False, "nmf-supervised": True}
    wave, rate = soundfile.read(moved[0].path_audio, dtype="int16")
    wave[-1] += 1
    soundfile.write(moved[0].path_audio, wave, rate, subtype="PCM_16")
    assert computed([*argv, "--seed", "5"])["mixture"]


def test_an_interrupted_evaluation_is_repeated(tree, tmp_path, no_pool, monkeypatch):
    argv = command(tree[0], tmp_path, "mixture")
    assert computed(argv) == {"mixture": True}
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_page", None)
        with pytest.raises(TypeError):
            computed([*argv, "--seed", "5"])
    assert computed(argv) == {"mixture": True}
    assert computed(argv) == {"mixture": False}


def test_unreadable_training_clips_are_left_out_and_a_category_without_any_is_an_error(
    tree, tmp_path, no_pool, caplog, capsys
):
    clips = tree[1]
    broken = clips[0]._replace(path_audio=os.path.join(tree[0], "audio/violin/gone.wav"))
    write_index(tmp_path / "some.csv", [broken, *clips])
    argv = command(tree[0], tmp_path, "nmf-supervised")
    assert computed([*argv, "--list_train", f"{tmp_path}/some.csv"]) == {"nmf-supervised": True}
    assert "left out: clip violin/gone" in caplog.text
    write_index(tmp_path / "none.csv", [broken, *(clip for clip in clips if clip.category != "violin")])
    with pytest.raises(SystemExit):
        main([*argv, "--list_train", f"{tmp_path}/none.csv"])
    assert "none.csv: no readable clips of violin, which is in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nfm"], "unknown baseline nfm: choose from mixture, oracle-binary"),
        (["hpss", "--num_mix", "3"], "hpss gives two sounds: it needs --num_mix 2, found 3"),
        (["nmf", "--audLen", "400"], "--audLen: expected more than half of --stft_frame, found 400"),
        (["nmf", "--num_val", "0"], "--num_val: expected -1, or 1 or more, found 0"),
    ],
)
def test_mistakes_are_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(flags)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_presets_give_the_window_and_names_default_to_all():
    args = parse(["--preset", "small", "--num_val", "7"])
    assert (args.audLen, args.num_val, args.id) == (32767, 7, "")
    assert args.names == list(TITLES)
    assert parse(["--preset", "published"]).num_val == 256
    assert parse(["nmf", "nmf", "--preset", "small", "--audLen", "65535"]).names == ["nmf"]
    assert "hpss" not in parse(["--num_mix", "3"]).names
