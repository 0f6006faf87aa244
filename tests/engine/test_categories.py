"""Names of sources: categories of training clips, which features are near them, and the file of a run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from dataset.index import Clip
from dataset.music import MUSICMixDataset, Sampling
from engine.categories import (
    FILE_CATEGORIES,
    MAX_ALL,
    MAX_CLIPS,
    clip_features,
    name_sources,
    pick_clips,
    read_categories,
    summarise,
    write_categories,
)
from engine.separation.outputs import count_sources
from engine.separation.pixels import PixelSeparator
from engine.separation.places import Analysis
from engine.training.views import keep_views
from tests.helpers import make_separator, small_args
from utils import UserError

MEANS = {"flute": [4, 0, 0, 1], "harp": [0, 4, 0, 1], "tuba": [0, 0, 4, 1]}
DEVICE = torch.device("cpu")


def make_features(count=40, spread=0.5, seed=0):
    """(features [3 * count, 4], names) around MEANS, ten times as wide in the last channel."""
    rng = np.random.default_rng(seed)
    names = [name for name in MEANS for _ in range(count)]
    noise = rng.normal(size=(len(names), 4)) * [1, 1, 1, 10]
    return np.array([MEANS[name] for name in names]) + spread * noise, names


def test_features_get_the_name_of_their_category():
    categories = summarise(*make_features())
    assert (categories.names, categories.clips) == (["flute", "harp", "tuba"], [40, 40, 40])
    features, names = make_features(count=200, seed=1)
    found = name_sources(features, categories)
    wrong = [near for near, name in zip(found, names, strict=True) if near and near[0] != name]
    assert not wrong
    assert np.mean([near is None for near in found]) == pytest.approx(0.05, abs=0.04)


def test_a_player_who_fills_a_part_of_the_picture_has_the_same_name():
    categories = summarise(*make_features())
    for share in (1, 0.5, 0.25):
        mixed = share * np.array(MEANS["harp"]) + (1 - share) * categories.centre
        (name, cosine), *_ = name_sources(mixed[None], categories)
        assert (name, cosine) == ("harp", pytest.approx(1, abs=0.05))


def test_what_is_near_no_category_has_no_name():
    categories = summarise(*make_features())
    between = np.mean([MEANS["flute"], MEANS["harp"]], axis=0)
    opposite = 2 * categories.centre - MEANS["tuba"]
    assert name_sources(np.stack([between, opposite, categories.centre]), categories) == [None] * 3


def test_categories_that_say_nothing():
    features, names = make_features(count=3)
    assert summarise(features[:3], names[:3]) is None
    assert summarise(features[::3], names[::3]) is None
    assert summarise(np.zeros((0,)), []) is None


def test_the_first_clips_of_each_category_are_looked_at():
    def clips(*categories):
        return [Clip(f"{category}/{n}.wav", f"{n}", 9) for n, category in enumerate(categories)]

    assert pick_clips(clips("a", "b", "a", "b")) == [0, 1, 2, 3]
    assert pick_clips(clips("a", "b", "c", "a")) == []
    assert pick_clips(clips("a", "a")) == []
    assert pick_clips(clips(*"ab" * (MAX_CLIPS + 9))) == list(range(2 * MAX_CLIPS))
    many = clips(*[str(n) for n in range(MAX_ALL // 10)] * 40)
    assert pick_clips(many) == list(range(MAX_ALL))  # ten of each


def test_the_file_keeps_everything(tmp_path):
    assert read_categories(tmp_path) is None
    categories = summarise(*make_features())
    write_categories(tmp_path, categories)
    for one, other in zip(read_categories(tmp_path), categories, strict=True):
        np.testing.assert_array_equal(one, other)
    write_categories(tmp_path, None)
    write_categories(tmp_path, None)
    assert read_categories(tmp_path) is None


@pytest.mark.parametrize(
    "change", [{"names": None}, {"centre": ["x"]}, {"nearest": [0.5]}, {"whitening": [[1.0]]}]
)
def test_a_malformed_file_is_an_error(tmp_path, change):
    write_categories(tmp_path, summarise(*make_features()))
    path = tmp_path / FILE_CATEGORIES
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=f"{FILE_CATEGORIES}: not the categories of a run"):
        read_categories(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match="not the categories of a run"):
        read_categories(tmp_path)


def make_dataset(root, views=0):
    """Four clips of two categories, red and blue with some noise; one has no pictures."""
    rng, clips = np.random.default_rng(0), []
    for name in ("red/a", "blue/b", "red/c", "blue/d", "blue/none"):
        folder = root / "frames" / name
        clips.append(Clip(f"audio/{name}.wav", str(folder), 3))
        if name.endswith("none"):
            continue
        folder.mkdir(parents=True)
        colour = [200, 30, 30] if name.startswith("red") else [30, 30, 200]
        for number in (1, 2, 3):
            noise = rng.integers(-30, 30, (48, 48, 3))
            Image.fromarray(np.uint8(colour + noise)).save(folder / f"{number:06d}.jpg")
    sampling = Sampling(num_frames=1, img_size=32, aud_len=16383)
    return MUSICMixDataset(clips, sampling, train=True, views=views)


@pytest.mark.parametrize("kept", [False, True])
def test_features_are_those_of_the_pictures(tmp_path, kept):
    args = small_args("--amp", "off")
    separator, dataset = make_separator(args), make_dataset(tmp_path, views=3)
    views = keep_views(separator, dataset, DEVICE) if kept else None
    features, names = clip_features(separator, dataset, DEVICE, views)
    assert names == ["red", "blue", "red", "blue"]
    for number, row in enumerate(features):
        pictures = dataset.view_clip(number) if kept else torch.from_numpy(dataset.middle_clip(number))[None]
        with torch.no_grad():
            wanted = separator.net_frame.forward_multiframe(separator.normalise(pictures[None]))
        np.testing.assert_allclose(row, wanted.mean(dim=0), atol=2e-3 if kept else 1e-5)


def test_regions_are_named():
    maps = np.zeros((2, 4, 1, 3), np.float32)
    for cell, name in enumerate(("tuba", "flute")):
        maps[:, :, 0, cell] = MEANS[name]
    regions = np.eye(3, dtype=bool)[:, None]
    separator = make_separator(small_args())
    assert PixelSeparator(separator).name_regions(maps, regions) == [None] * 3
    pixels = PixelSeparator(separator, 2, summarise(*make_features()))
    found = pixels.name_regions(maps, regions)
    assert [near[0] for near in found[:2]] == ["tuba", "flute"]


@pytest.mark.parametrize(
    ("left", "right", "count"), [("tuba", "flute", 2), ("tuba", "tuba", 1), ("tuba", None, 2)]
)
def test_what_looks_like_one_category_is_one_source(left, right, count):
    """Two halves of the picture with different sounds."""
    sounds = np.zeros((4, 4, 2))
    sounds[:, :2, 0] = sounds[:, 2:, 1] = 1
    sounds = sounds.reshape(16, 2)
    maps = np.zeros((1, 4, 4, 4), np.float32)
    maps[0, :, :, :2] = np.array(MEANS[left])[:, None, None]
    maps[0, :, :, 2:] = np.array(MEANS.get(right, [-4, -4, -4, 1]))[:, None, None]
    analysis = Analysis(maps, np.ones((1, 4, 4)), sounds @ sounds.T)
    pixels = PixelSeparator(make_separator(small_args()), 2, summarise(*make_features()))
    assert count_sources(analysis, pixels) == count
    assert count_sources(analysis, PixelSeparator(pixels.separator)) == 2
    assert count_sources(Analysis(maps[:, :, :1, :1], np.ones((1, 1, 1)), np.ones((1, 1))), pixels) == 1
