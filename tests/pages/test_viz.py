"""Rows of the page: their sounds, videos and pictures."""

import json
import os
import pickle

import imageio_ffmpeg
import numpy as np
import pytest
import scipy.signal
import soundfile
from PIL import Image

import viz
from media import run_ffmpeg
from pages import media
from tests.helpers import FPS, RATE, ROWS_HZ, SCORES, log_freqs, make_view, with_source
from utils import UserError

MAX_PAGE_BYTES = 60e6  # of 40 rows with 2 sources


def correlation(one, other):
    shared = min(len(one), len(other))
    return np.corrcoef(one[:shared], other[:shared])[0, 1]


def pixels(folder, path):
    return np.asarray(Image.open(folder / path).convert("RGB")).astype(int)


# ---- sounds and videos


@pytest.mark.parametrize("rate", [11025, 10000, 44100])
def test_sounds_decode_to_what_was_given(tmp_path, rate):
    view = make_view(rate=rate)
    row = viz.write_row(tmp_path, view)
    given = {row["mixture"]["sound"]: view.mix}
    for part, source in zip(row["sources"], view.sources, strict=True):
        given[part["predicted"]["sound"]] = source.estimate
        given[part["true"]["sound"]] = source.true
        given[part["oracle"]["sound"]] = source.oracle
    assert len(given) == 7
    for path, wav in given.items():
        decoded, decoded_rate = soundfile.read(tmp_path / path)
        assert abs(len(decoded) / decoded_rate - len(wav) / rate) < 0.1
        decoded = scipy.signal.resample_poly(decoded, rate, decoded_rate)
        assert correlation(decoded, wav) > 0.99


def test_loud_sounds_are_clipped_not_wrapped(tmp_path):
    view = make_view()
    path = viz.write_row(tmp_path, with_source(view, estimate=9 * view.sources[0].true))
    decoded, _ = soundfile.read(tmp_path / path["sources"][0]["predicted"]["sound"])
    assert correlation(decoded, np.clip(9 * view.sources[0].true, -1, 1)) > 0.95


@pytest.mark.parametrize(("height", "width"), [(64, 64), (111, 111), (50, 81)])
def test_video_has_the_pictures_and_the_predicted_sound(tmp_path, height, width):
    view = make_view(size=(height, width))
    path = str(tmp_path / viz.write_row(tmp_path, view)["sources"][1]["video"])
    reader = imageio_ffmpeg.read_frames(path)
    about = next(reader)
    even = (width + width % 2, height + height % 2)
    decoded = np.stack([np.frombuffer(frame, np.uint8).reshape(*even[::-1], 3) for frame in reader])
    frames = view.sources[1].frames
    assert about["size"] == even
    assert about["fps"] == FPS
    assert len(decoded) == len(frames)
    assert np.abs(decoded[:, :height, :width].astype(int) - frames).mean() < 10
    sound = run_ffmpeg(["-i", path, "-f", "f32le", "-ac", "1", "-ar", str(RATE), "pipe:1"])
    assert (
        correlation(np.frombuffer(sound, np.float32), view.sources[1].estimate) > 0.98
    )  # so it is in sync, too


# ---- pictures and axes


@pytest.mark.parametrize("freqs", [log_freqs(), np.linspace(0, RATE / 2, 256, dtype=np.float32)])
def test_tick_labels_match_the_rows_of_a_tone(tmp_path, freqs):
    view = make_view(seconds=3, freqs=freqs)
    tone = np.sin(2 * np.pi * 1000 * np.arange(view.mix.size) / RATE).astype(np.float32)
    row = viz.write_row(tmp_path, view._replace(mix=0.5 * tone))
    brightness = pixels(tmp_path, row["mixture"]["picture"]).sum(axis=(1, 2))
    percent = 100 * (len(brightness) - brightness.argmax() - 0.5) / len(brightness)
    ticks = {tick["label"]: tick["at"] for tick in row["ticks_hz"]}
    assert abs(ticks["1k"] - percent) < 100 * 1.5 / len(freqs)
    assert list(ticks.values()) == sorted(ticks.values())


def test_time_ticks_match_the_sound():
    ticks = media.time_ticks(5.0)
    assert {"at": 40.0, "label": "2"} in ticks
    assert all(0 <= tick["at"] <= 100 for tick in ticks)


def test_spectrograms_of_a_row_share_their_scale(tmp_path):
    view = make_view()
    soft = with_source(view, estimate=0.01 * view.sources[0].true)
    part = viz.write_row(tmp_path, soft)["sources"][0]
    assert (
        pixels(tmp_path, part["predicted"]["picture"]).max()
        < pixels(tmp_path, part["true"]["picture"]).max() - 50
    )


def test_heat_map_lies_over_the_pixels_that_sound(tmp_path):
    part = viz.write_row(tmp_path, make_view(size=(112, 112)))["sources"][0]
    with Image.open(tmp_path / part["heat"]) as picture:
        alpha = np.asarray(picture)[..., 3]
    y, x = np.unravel_index(alpha.argmax(), alpha.shape)
    assert alpha.shape == (112, 112)
    assert abs(y - 20) <= 4  # the middle of cell 2 of 14
    assert abs(x - 28) <= 4  # of cell 3
    assert alpha[80:].max() < 10


def test_heat_map_without_energy_is_transparent(tmp_path):
    view = with_source(make_view(), energy=np.zeros((14, 14), np.float32))
    with Image.open(tmp_path / viz.write_row(tmp_path, view)["sources"][0]["heat"]) as picture:
        assert picture.getchannel("A").getextrema() == (0, 0)


def test_methods_without_eyes_and_loss_have_no_heat_map_and_weight(tmp_path):
    view = with_source(make_view(), energy=None)._replace(weight=None)
    row = viz.write_row(tmp_path, view)
    assert row["weight"] is None
    assert [source["heat"] is None for source in row["sources"]] == [True, False]
    names = os.listdir(tmp_path / view.name)
    assert "source2-heat.webp" in names
    assert not {"source1-heat.webp", "weight.webp"} & set(names)
    viz.write_page(tmp_path, [row], {"baseline": "nmf"}, {}, {}, "nmf")
    text = (tmp_path / "index.html").read_text()
    assert text.count('<img class="heat"') == 1
    assert "a baseline and does not look at the videos" in text
    assert "Loss weighting" not in text


def test_mask_pictures_show_the_lowest_row_at_the_bottom(tmp_path):
    view = make_view()
    mask = np.zeros_like(view.sources[0].true_mask)
    mask[:10] = 1
    part = viz.write_row(tmp_path, with_source(view, true_mask=mask))["sources"][0]
    picture = pixels(tmp_path, part["mask_true"])
    assert picture[-10:].min() == 255
    assert picture[:-10].max() == 0
    assert part["mask_scale"] == 1


def test_ratio_masks_share_a_scale_above_one(tmp_path):
    view = make_view()
    mask = np.full_like(view.sources[0].true_mask, 2.5)
    row = viz.write_row(tmp_path, with_source(view, true_mask=mask, mask=mask / 2))
    assert [part["mask_scale"] for part in row["sources"]] == [2.5, 2.5]
    assert pixels(tmp_path, row["sources"][0]["mask_true"]).min() > 250
    assert 100 < pixels(tmp_path, row["sources"][0]["mask_pred"]).mean() < 160


def test_silence_can_be_drawn(tmp_path):
    view = make_view()
    silent = view._replace(mix=0 * view.mix, weight=0 * view.weight)
    row = viz.write_row(tmp_path, silent)
    assert pixels(tmp_path, row["mixture"]["picture"]).max() < 20


# ---- rows


def test_rows_travel_between_processes_and_as_json(tmp_path):
    view = pickle.loads(pickle.dumps(make_view()))
    row = viz.write_row(tmp_path, view._replace(scores={key: np.float32(1) for key in SCORES}))
    assert json.loads(json.dumps(row)) == row


def test_page_stays_within_its_budget(tmp_path):
    view = make_view(seconds=6, size=(224, 224), freqs=log_freqs(256))
    noise = (
        np.random.default_rng(0).normal(0, 0.1, view.mix.size).astype(np.float32)
    )  # noise compresses badly
    mask = np.random.default_rng(1).random(view.weight.shape, np.float32)
    source = view.sources[0]._replace(estimate=noise, true=noise, mask=mask, true_mask=mask)
    viz.write_row(tmp_path, view._replace(mix=noise, weight=mask, sources=[source, source]))
    assert 40 * sum(path.stat().st_size for path in tmp_path.rglob("*.*")) < MAX_PAGE_BYTES


def test_writing_again_replaces_and_leaves_nothing_behind(tmp_path):
    for _ in range(2):
        viz.write_page(tmp_path, [viz.write_row(tmp_path, make_view())], {}, {}, {}, "a run")
    assert len(list((tmp_path / "0007").iterdir())) == 3 + 2 * 11
    assert sorted(os.listdir(tmp_path)) == ["0007", "index.html"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "/a", "a b", "index.html", "<b>", None, "a" * 101]
)
def test_names_that_are_not_plain_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="row name"):
        viz.write_row(tmp_path, make_view()._replace(name=name))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mix", np.zeros((2, 9), np.float32)),
        ("freqs", np.zeros(ROWS_HZ, np.float32)),
        ("weight", np.zeros((3, 9), np.float32)),
        ("weight", np.full((ROWS_HZ, 9), -1.0)),
        ("rate", 0),
        ("sources", []),
    ],
)
def test_bad_mixtures_are_refused_by_name(tmp_path, field, value):
    with pytest.raises(UserError, match=f"row 0007: .*{field}"):
        viz.write_row(tmp_path, make_view()._replace(**{field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("estimate", np.zeros(7, np.float32)),
        ("true", np.full(2 * RATE, np.nan)),
        ("mask", np.zeros((ROWS_HZ + 1, 9), np.float32)),
        ("energy", np.full((14, 14), -1.0)),
        ("frames", np.zeros((3, 8, 8), np.uint8)),
        ("still", np.zeros((8, 8, 3), np.float32)),
    ],
)
def test_bad_sources_are_refused_by_name(tmp_path, field, value):
    with pytest.raises(UserError, match=rf"row 0007: sources\[0\]\..*{field}"):
        viz.write_row(tmp_path, with_source(make_view(), **{field: value}))
