"""Localisation scores: perfect cells get perfect scores, wrong cells do not."""

import csv
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from sklearn import metrics

import main
from arguments import parse_args
from dataset.index import Clip, write_index
from dataset.music import Sampling
from engine.evaluation.localisation import (
    PICTURE,
    find_truths,
    interval,
    localisation_line,
    localise,
    score_regions,
    score_sounds,
)
from engine.options import run_folder
from models.spectral import Spectral, row_frequencies
from tests.helpers import SMALL, Pool
from tests.videos import HEIGHT, SOUND_RATE, WIDTH, make_video
from utils import UserError

SAMPLING = Sampling(
    num_mix=2, num_frames=1, stride_frames=1, fps=8, img_size=32, aud_len=16383, aud_rate=11025
)
LEFT, RIGHT = [0, 0, WIDTH // 2, HEIGHT], [WIDTH // 2, 0, WIDTH // 2, HEIGHT]
BANDS = (200, 1000), (2500, 4500)  # Hz of two sources
BORDER = 1600  # Hz between them
SECONDS = 3


class KnownPixels:
    """Cells on the left pass low frequencies, cells on the right high ones, and `leak` of the rest."""

    def __init__(self, leak=0.0):
        self.separator = SimpleNamespace(spectral=Spectral(), settings=SimpleNamespace(stft_hop=256))
        low = (row_frequencies(SAMPLING.aud_rate) < BORDER).float()
        self.masks = torch.stack([low, 1 - low]).clamp_min(leak)

    def feature_map(self, sizes):
        maps = torch.zeros(len(sizes[-1]), 2, 4, 6)
        maps[:, 0, :, :3] = 1
        maps[:, 1, :, 3:] = 1
        return maps

    def sound_features(self, mix):
        magnitude = self.separator.spectral.warp(self.separator.spectral.stft(mix).abs())
        return magnitude, magnitude

    def region_features(self, maps, regions):
        return torch.stack([maps[:, :, region].mean(dim=2) for region in regions], dim=1)

    def cell_masks(self, maps, feat_sound):
        return self.region_masks(maps.flatten(2).transpose(1, 2), feat_sound)

    def region_masks(self, features, feat_sound, consistent=True):
        return (features @ self.masks)[..., None] * torch.ones(feat_sound.shape[-1])


def band(low, high, seed):
    """Noise between two frequencies."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(SECONDS * SOUND_RATE))
    hertz = np.fft.rfftfreq(SECONDS * SOUND_RATE, 1 / SOUND_RATE)
    wave = np.fft.irfft(spectrum * ((hertz > low) & (hertz < high)))
    return 0.4 * wave / np.abs(wave).max()


def make_known(folder, name, boxes, bands=BANDS):
    """A grey video with bands of noise as its sound, and its ground truth."""
    waves = [band(*each, seed) for seed, each in enumerate(bands)]
    path = make_video(folder / f"{name}.mp4", [100] * 25 * SECONDS, sound=np.sum(waves, axis=0)[:, None])
    sources = [{"instrument": f"i{n}", "box": box} for n, box in enumerate(boxes)]
    for n, source in enumerate(sources if len(sources) > 1 else []):
        source["track"] = f"{name}.{n}.wav"
        soundfile.write(folder / source["track"], waves[n], SOUND_RATE)
    path.with_suffix(".json").write_text(json.dumps({"sources": sources}))
    return path


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Folders with a duet, with a duet whose boxes are swapped, and with two solos."""
    folder = tmp_path_factory.mktemp("known")
    make_known(folder / "duets" / "x y", "right", [LEFT, RIGHT])
    make_known(folder / "swapped", "swapped", [RIGHT, LEFT])
    make_known(folder / "solos", "low", [LEFT], BANDS[:1])
    make_known(folder / "solos", "high", [LEFT], BANDS[1:])
    make_video(folder / "duets" / "no truth.mp4", [100] * 25)
    return folder


def measure(folder, *lists, pixels=None):
    truths = find_truths(*map(str, lists))
    return localise(pixels or KnownPixels(), torch.device("cpu"), SAMPLING, truths, str(folder))


def rows_in(folder):
    with open(folder / "localisation.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_cells_that_know_find_and_separate(known, tmp_path):
    means = measure(tmp_path, known / "duets", known / "solos")
    duets, solos = means["duets"], means["solos"]
    assert (duets["count"], duets["failed"], solos["count"], solos["failed"]) == (1, 0, 2, 0)
    assert duets["pointing"] == 1
    assert duets["pointing_chance"] == solos["pointing_chance"] == 0.5
    assert duets["energy_in_box"] > 0.99
    assert duets["iou"] == duets["ciou"] == duets["auc"] == 1
    assert duets["iou_chance"] == 0.5
    assert duets["intervals"] == {}  # of one video
    assert duets["sdr_boxes"] > 15 > 3 > duets["sdr_mixture"]
    assert duets["sdr_automatic"] == pytest.approx(duets["sdr_boxes"], abs=0.1)
    assert solos["pointing"] == 0.5  # the high one is heard on the right
    assert solos["energy_in_box"] == pytest.approx(0.5, abs=0.01)
    assert solos["ciou"] == 0.5
    assert solos["intervals"]["pointing"] == solos["intervals"]["ciou"] == (0, 1)
    assert set(solos["intervals"]) == {"pointing", "energy_in_box", "iou", "ciou", "auc"}
    line = localisation_line(means)
    assert line.startswith(f"[Localisation] duets 1: SDR at boxes {duets['sdr_boxes']:.2f}, automatic ")
    assert "; solos 2: pointing 0.50, chance 0.50, energy in box 0.5" in line
    assert line.endswith(", cIoU 0.50, chance 1.00, AUC 0.51, chance 0.53")
    rows = rows_in(tmp_path)
    assert [row["kind"] for row in rows] == ["duets", "duets", "solos", "solos"]
    assert np.mean([float(row["sdr_boxes"]) for row in rows[:2]]) == pytest.approx(
        duets["sdr_boxes"], abs=1e-3
    )
    assert [row["pointing"] for row in rows[2:]] == ["0.0000", "1.0000"]


def test_boxes_the_wrong_way_round_are_wrong_and_automatic_sources_dont_care(known, tmp_path):
    duets = measure(tmp_path, known / "swapped", "")["duets"]
    assert duets["pointing"] == 0
    assert duets["energy_in_box"] < 0.01
    assert duets["iou"] == duets["ciou"] == 0
    assert duets["sdr_boxes"] < -10
    assert duets["sdr_automatic"] > 15


def test_cells_that_pass_everything_are_not_where_a_source_is(known, tmp_path):
    pixels = KnownPixels(leak=0.3)
    feature_map = pixels.feature_map

    def with_open_corner(sizes):
        maps = feature_map(sizes)
        maps[:, :, 0, 0] = maps[:, :, 0, -1] = 0.8  # the loudest of all cells
        return maps

    pixels.feature_map = with_open_corner
    assert measure(tmp_path, known / "duets", "", pixels=pixels)["duets"]["pointing"] == 1


def box_pixels(rows, columns):
    """bool [PICTURE, PICTURE] of a box between (top, bottom) and (left, right), shares of the picture."""
    box = np.zeros((PICTURE, PICTURE), bool)
    (top, bottom), (left, right) = np.round(np.array([rows, columns]) * PICTURE).astype(int)
    box[top:bottom, left:right] = True
    return box


def test_regions_are_where_the_enlarged_map_is_at_least_half():
    spot = np.zeros((14, 14))
    spot[5, 9] = 3.0
    boxes = np.stack([box_pixels((5 / 14, 6 / 14), (9 / 14, 10 / 14)), box_pixels((0, 0.5), (0, 1))])
    found = score_regions(np.stack([spot, np.full((14, 14), 0.2)]), boxes)
    cells = (np.arange(PICTURE) + 0.5) / (PICTURE / 14) - 0.5  # of each pixel
    rows, columns = (np.maximum(1 - abs(cells - centre), 0) for centre in (5, 9))
    region = np.outer(rows, columns) >= 0.5 * rows.max() * columns.max()
    expected = (region & boxes[0]).sum() / (region | boxes[0]).sum()
    assert found["iou"] == pytest.approx([expected, 0.5])
    assert found["ciou"].tolist() == [1, 1]
    assert found["iou_chance"] == pytest.approx([1 / 196, 0.5])
    assert found["ciou_chance"].tolist() == [0, 1]
    assert found["auc_chance"] == pytest.approx([0.025, 0.525])


def test_neither_loudness_nor_an_even_ground_changes_a_region():
    maps = np.random.default_rng(0).random((3, 7, 7))
    boxes = np.stack([box_pixels((0, 0.4), (0.2, 0.9))] * 3)
    plain, other = score_regions(maps, boxes), score_regions(0.01 * maps + 5, boxes)
    for key, values in plain.items():
        assert other[key] == pytest.approx(values, abs=1e-3)


def test_auc_is_the_area_under_the_shares_of_sources():
    maps = np.random.default_rng(1).random((20, 3, 3)) ** 4
    boxes = np.stack([box_pixels((0.1, 0.5), (0.1 * (n % 5), 1)) for n in range(20)])
    found = score_regions(maps, boxes)
    thresholds = np.arange(21) / 20
    shares = [np.mean(found["iou"] >= threshold) for threshold in thresholds]
    assert found["iou"].std() > 0.1
    assert found["auc"].mean() == pytest.approx(metrics.auc(thresholds, shares))


def test_intervals_are_those_of_a_mean():
    values = np.random.default_rng(2).exponential(size=400)
    low, high = interval(values)
    error = values.std() / 20
    assert [low, high] == pytest.approx(
        [values.mean() - 1.96 * error, values.mean() + 1.96 * error], abs=0.2 * error
    )
    assert interval(values) == (low, high)


@pytest.mark.parametrize("count", [2, 3])
def test_automatic_sources_are_assigned_as_scores_best(count):
    rng = np.random.default_rng(0)
    tracks = rng.standard_normal((count, 8000))
    estimates = tracks + 0.1 * rng.standard_normal(tracks.shape)
    order = np.roll(np.arange(count), 1)
    scores = score_sounds(tracks, tracks.sum(axis=0), estimates, estimates[order])
    for score in ("sdr", "sir", "sar"):
        assert scores[f"{score}_automatic"] == pytest.approx(scores[f"{score}_boxes"])
    assert scores["sdr_boxes"].min() > 15 > scores["sdr_mixture"].max()


def test_videos_that_cannot_be_used_are_counted_and_named(known, tmp_path, caplog):
    good = known / "duets" / "x y" / "right.mp4"
    texts = {"broken": good.with_suffix(".json").read_text(), "outside": None, "silent": None}
    sources = json.loads(texts["broken"])["sources"]
    for source in sources:
        source["track"] = str(good.with_name(source["track"]))
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    (tmp_path / "broken.json").write_text(json.dumps({"sources": sources}))
    os.symlink(good, tmp_path / "outside.mp4")
    outside = [sources[0], sources[1] | {"box": [WIDTH + 1, 0, 5, 5]}]
    (tmp_path / "outside.json").write_text(json.dumps({"sources": outside}))
    os.symlink(good, tmp_path / "silent.mp4")
    soundfile.write(tmp_path / "silence.wav", np.zeros(1000), SOUND_RATE)
    silent = [sources[0], sources[1] | {"track": "silence.wav"}]
    (tmp_path / "silent.json").write_text(json.dumps({"sources": silent}))
    duets = measure(tmp_path, tmp_path, "")["duets"]
    assert (duets["count"], duets["failed"], duets["sdr_boxes"], duets["pointing"]) == (3, 3, None, None)
    for reason in (
        "broken.mp4: cannot be read",
        "outside.mp4: (65, 0) lies outside",
        "silent.mp4: silent source",
    ):
        assert reason in caplog.text
    assert {row["status"] for row in rows_in(tmp_path)} == {"left out"}
    assert localisation_line({"duets": duets}) == "[Localisation] duets 3 (3 failed): none"


TRACK = {"box": LEFT, "track": "there.wav"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"a\.json: expected .*box.*found JSONDecodeError"),
        ("[]", r"a\.json: expected .*box.*found TypeError"),
        ('{"sources": [{"track": "there.wav"}, {}]}', r"a\.json: expected .*box.*found KeyError\('box'\)"),
        (json.dumps({"sources": [TRACK, TRACK | {"box": [1, 2, 0, 4]}]}), r"a\.json: .*box \[1, 2, 0, 4\]"),
        (json.dumps({"sources": [TRACK, TRACK | {"box": [1, 2, 3]}]}), r"a\.json: .*box \[1, 2, 3\]"),
        (json.dumps({"sources": [TRACK]}), r"a\.json: expected two sources or more, found 1"),
        (json.dumps({"sources": [TRACK, {"box": RIGHT}]}), r"a\.json: expected a sound file .*found None"),
        (json.dumps({"sources": [TRACK, TRACK | {"track": "gone.wav"}]}), r"a\.json: .*found .*gone\.wav"),
    ],
)
def test_truth_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "there.wav").touch()
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=message):
        find_truths(str(tmp_path), "")


def test_lists_without_videos_are_refused(known, tmp_path):
    (tmp_path / "alone.mp4").touch()
    (tmp_path / "list.txt").write_text(f"\n{tmp_path / 'alone.mp4'}\n")
    (tmp_path / "none.txt").touch()
    for name, message in (
        ("", "no videos with a .json beside them"),
        ("none.txt", "none.txt: no videos"),
        ("gone", "gone: no such folder, and no such list"),
        ("list.txt", "alone.json: no such file, expected the boxes of alone.mp4"),
    ):
        with pytest.raises(UserError, match=message):
            find_truths(str(tmp_path / name), "")
    with pytest.raises(UserError, match=r"right\.json: expected one source, found 2"):
        find_truths("", str(known / "duets"))


def test_solos_of_a_folder_are_those_that_training_never_saw(known, tmp_path):
    index = str(tmp_path / "val.csv")
    write_index(index, [Clip("audio/x/high.wav", "frames/x/high.mp4", 9)])

    def names(*lists):
        return [os.path.basename(truth.video) for truth in find_truths("", *map(str, lists))]

    assert names(known / "solos", index) == ["high.mp4"]
    assert names(known / "solos", tmp_path / "gone.csv") == ["high.mp4", "low.mp4"]
    (tmp_path / "list.txt").write_text(f"{known / 'solos' / 'low.mp4'}\n")
    assert names(tmp_path / "list.txt", index) == ["low.mp4"]
    write_index(index, [Clip("audio/x/other.wav", "frames/x/other.mp4", 9)])
    with pytest.raises(UserError, match=r"none of its 2 videos is a clip of .*val\.csv"):
        names(known / "solos", index)


def test_metrics_keep_what_they_had(tree, known, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())
    flags = [*SMALL, "--list_val", f"{tree[0]}/val.csv", "--num_val", "2", "--num_vis", "0"]
    flags += ["--ckpt", str(tmp_path)]
    training = [
        "--list_train",
        f"{tree[0]}/train.csv",
        "--dup_trainset",
        "1",
        "--num_epoch",
        "1",
        "--id",
        "t",
    ]
    main.main([*flags, *training])
    folder = run_folder(parse_args([*flags, *training]))
    (tmp_path / "solos.txt").write_text(f"{known / 'solos' / 'low.mp4'}\n")
    lists = ["--list_duets", str(known / "duets"), "--list_solos", str(tmp_path / "solos.txt")]
    found = []
    for more in ([], lists):
        main.main(["--mode", "eval", "--id", os.path.basename(folder), *flags, *more])
        with open(os.path.join(folder, "metrics.json"), encoding="utf-8") as file:
            found.append(json.load(file))
    localisation = found[1].pop("localisation")
    assert found[0] == found[1]
    assert found[0]["epoch"] == 1
    assert [(kind, each["count"]) for kind, each in localisation.items()] == [("duets", 1), ("solos", 1)]
    out = capsys.readouterr().out
    assert out.count("[Localisation] duets 1") == 1
    assert out.count("[Eval Summary] Epoch: 1, ") == 2
    with open(os.path.join(folder, "visualization", "index.html"), encoding="utf-8") as file:
        page = file.read()
    assert "epoch 1<" in page
    assert "Localisation" in page
    assert os.path.isfile(os.path.join(folder, "localisation.csv"))
