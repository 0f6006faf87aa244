"""Pictures: sizes, crops, mirrors and what cannot be read."""

import numpy as np
import pytest
from PIL import Image

from dataset.frames import Crop, path_frame, read_clip
from utils import UserError


@pytest.fixture
def folder(tmp_path):
    """Three pictures of 80 × 60 with a ramp from left to right in red, from top to bottom in green."""
    red, green = np.meshgrid(np.linspace(0, 255, 80), np.linspace(0, 255, 60))
    for k in (1, 2, 3):
        pixels = np.stack([red, green, np.full_like(red, 40 * k)], axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(path_frame(tmp_path, k), quality=95)
    return str(tmp_path)


def test_layout_and_order_of_the_numbers(folder):
    clip = read_clip(folder, [3, 1], 32)
    assert clip.shape == (3, 2, 32, 32)
    assert clip.dtype == np.uint8
    np.testing.assert_allclose(clip[2].mean((1, 2)), [120, 40], atol=4)


def test_evaluation_takes_the_centre(folder):
    clip = read_clip(folder, [1], 60)
    np.testing.assert_allclose(clip[0, 0, 30, [0, -1]], [10 * 255 / 79, 69 * 255 / 79], atol=4)


def test_crop_and_mirror_are_the_same_for_all_pictures(folder):
    left, right = (read_clip(folder, [1, 2, 3], 40, Crop(x, 0.5, False)) for x in (0.0, 1.0))
    assert left[0].mean() < right[0].mean() - 20
    mirrored = read_clip(folder, [1, 2, 3], 40, Crop(0.0, 0.5, True))
    np.testing.assert_array_equal(mirrored, left[..., ::-1])


@pytest.mark.parametrize("mode", ["L", "CMYK", "P"])
def test_other_colour_spaces(tmp_path, mode):
    image = Image.new("RGB", (50, 40), (200, 100, 50)).convert(mode)
    image.save(path_frame(tmp_path, 1), format="PNG" if mode == "P" else "JPEG")
    assert read_clip(str(tmp_path), [1], 32).shape == (3, 1, 32, 32)


def test_what_cannot_be_read_is_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"000009\.jpg: no such picture"):
        read_clip(folder, [1, 9], 32)
    whole = (tmp_path / "000002.jpg").read_bytes()
    for content in (b"", b"no picture", whole[: len(whole) // 2]):
        (tmp_path / "000002.jpg").write_bytes(content)
        with pytest.raises(UserError, match=r"000002\.jpg: cannot be read"):
            read_clip(folder, [2], 32)
