"""Frames: sizes, crops, flips, colours and unreadable files."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from dataset import frames
from dataset.frames import Crop, read_clip
from dataset.index import path_frame
from utils import UserError

COLOUR = 200, 100, 50


@pytest.fixture
def folder(tmp_path):
    """Three frames of 80 × 60 pixels: red rises from left to right, green from top to bottom."""
    red, green = np.meshgrid(np.linspace(0, 255, 80), np.linspace(0, 255, 60))
    for k in (1, 2, 3):
        pixels = np.stack([red, green, np.full_like(red, 40 * k)], axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(path_frame(tmp_path, k), quality=95)
    return str(tmp_path)


def encode(image, kind="JPEG", **options):
    """The bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, format=kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}) | options)
    return stream.getvalue()


def make_ycck():
    """A JPEG as Photoshop writes it: YCCK, inverted. Pillow writes only plain CMYK."""
    cyan, magenta, yellow, black = Image.new("RGB", (64, 48), COLOUR).convert("CMYK").split()
    inks = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    content = bytearray(encode(Image.merge("CMYK", [*(i.point(lambda v: 255 - v) for i in inks), black])))
    content[content.find(b"Adobe") + 11] = 2  # the flag for YCCK
    return bytes(content)


def test_layout_and_order_of_the_numbers(folder):
    clip = read_clip(folder, [3, 1], 32)
    assert clip.shape == (3, 2, 32, 32)
    assert clip.dtype == np.uint8
    np.testing.assert_allclose(clip[2].mean((1, 2)), [120, 40], atol=4)


def test_evaluation_takes_the_centre(folder):
    clip = read_clip(folder, [1], 60)
    np.testing.assert_allclose(clip[0, 0, 30, [0, -1]], [10 * 255 / 79, 69 * 255 / 79], atol=4)


def test_crop_and_flip_are_the_same_for_all_frames(folder):
    left, right = (read_clip(folder, [1, 2, 3], 40, Crop(x, 0.5, False)) for x in (0.0, 1.0))
    assert left[0].mean() < right[0].mean() - 20
    mirrored = read_clip(folder, [1, 2, 3], 40, Crop(0.0, 0.5, True))
    np.testing.assert_array_equal(mirrored, left[..., ::-1])


GREY = 124, 124, 124  # of COLOUR, by luma
PLAIN = Image.new("RGB", (64, 48), COLOUR)
PALETTE = PLAIN.convert("P", palette=Image.Palette.ADAPTIVE)
GOOD = {
    "progressive": (encode(PLAIN, progressive=True), COLOUR),
    "grey": (encode(PLAIN.convert("L")), GREY),
    "CMYK": (encode(PLAIN.convert("CMYK")), COLOUR),
    "YCCK": (make_ycck(), COLOUR),
    "palette": (encode(PALETTE, "PNG"), COLOUR),
    "palette with transparency": (encode(PALETTE, "PNG", transparency=b"\0\x80"), COLOUR),
    "transparent": (encode(Image.new("RGBA", (64, 48), (*COLOUR, 128)), "PNG"), COLOUR),
    "grey, transparent": (encode(Image.new("LA", (64, 48), (124, 9)), "PNG"), GREY),
    "1 bit": (encode(Image.new("1", (64, 48), 1), "PNG"), (255, 255, 255)),
    "16 bit": (encode(Image.fromarray(np.full((48, 64), 124 * 257, np.uint16)), "PNG"), GREY),
    "GIF": (encode(PALETTE, "GIF"), COLOUR),
    "BMP": (encode(PLAIN, "BMP"), COLOUR),
    "WEBP": (encode(PLAIN, "WEBP"), COLOUR),
    "1 × 1": (encode(Image.new("RGB", (1, 1), COLOUR)), COLOUR),
    "1 × 100": (encode(Image.new("RGB", (1, 100), COLOUR)), COLOUR),
    "400 × 4": (encode(Image.new("RGB", (400, 4), COLOUR)), COLOUR),
    "bytes after the end": (encode(PLAIN) + bytes(100), COLOUR),
}


@pytest.mark.parametrize(("content", "colour"), GOOD.values(), ids=GOOD)
def test_image_modes_keep_their_colours(tmp_path, content, colour):
    with open(path_frame(tmp_path, 1), "wb") as file:
        file.write(content)
    for crop in (None, Crop(1.0, 0.0, True)):
        clip = read_clip(str(tmp_path), [1], 32, crop)
        assert clip.shape == (3, 1, 32, 32)
        np.testing.assert_allclose(clip.transpose(1, 2, 3, 0) - np.float32(colour), 0, atol=3)


KINDS = [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 30}]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_jpegs_are_decoded_without_pil_to_the_same_pixels(tmp_path, monkeypatch, mode, options):
    y, x = np.mgrid[:90, :121]
    pixels = np.stack([x + y, 2 * y, 255 - x], axis=2) + np.random.default_rng(0).normal(0, 20, (90, 121, 3))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)
    image.save(path_frame(tmp_path, 1), **options)
    by_pil = frames._read(path_frame(tmp_path, 1), lambda picture: frames._decode(picture, 60))
    monkeypatch.setattr(frames.Image, "open", None)
    pixels, size = frames.read_pixels(path_frame(tmp_path, 1), 60)
    assert size == by_pil[1] == (60, 80)
    np.testing.assert_array_equal(pixels[:, :3], by_pil[0][:, :3])


def test_small_damage_that_pil_tolerates_is_no_error(tmp_path):
    content = bytearray(WHOLE)
    content[-2000:-1998] = b"\xff\xd3"  # a misplaced marker
    with pytest.raises(ValueError, match="Corrupt JPEG data"):
        simplejpeg.decode_jpeg(bytes(content))
    with open(path_frame(tmp_path, 1), "wb") as file:
        file.write(content)
    assert read_clip(str(tmp_path), [1], 32).shape == (3, 1, 32, 32)


@pytest.mark.parametrize(("side", "scale"), [(101, 1), (100, 2), (51, 2), (50, 4), (26, 4), (8, 8)])
def test_jpegs_much_larger_than_needed_are_decoded_smaller(tmp_path, side, scale):
    Image.new("RGB", (301, 201), COLOUR).save(path_frame(tmp_path, 1))
    pixels, size = frames.read_pixels(path_frame(tmp_path, 1), side)
    assert pixels.shape == (1, 4, -(-201 // scale), -(-301 // scale))
    assert size == (side, int(side * 301 / 201))
    np.testing.assert_allclose(pixels[0, :3].float().mean((1, 2)), COLOUR, atol=3)


def test_exif_orientation_is_ignored(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    with Image.open(path_frame(folder, 1)) as image:
        image.save(path_frame(folder, 8))
        image.save(path_frame(folder, 9), exif=exif)
    plain, noted = read_clip(folder, [8, 9], 32).transpose(1, 0, 2, 3)
    np.testing.assert_array_equal(noted, plain)


@pytest.mark.parametrize("name", ["ü 日本 😀", "a'b\"c", "-x", "%06d", "a:b", "id.mp4"])
def test_folders_with_odd_names(tmp_path, name):
    (tmp_path / name).mkdir()
    PLAIN.save(path_frame(tmp_path / name, 1))
    assert read_clip(str(tmp_path / name), [1], 32).shape == (3, 1, 32, 32)


def make_png(width, height):
    """A PNG whose header states a size, without pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8))
WHOLE, PROGRESSIVE = encode(NOISE), encode(NOISE, progressive=True)
PNG, GIF, WEBP = (encode(NOISE, kind) for kind in ("PNG", "GIF", "WEBP"))
FOREIGN, CUT = "not a readable JPEG, PNG", "runcated"  # Pillow says Truncated or truncated
BAD = {
    "empty": (b"", "the file is empty"),
    "text": (b"no picture", FOREIGN),
    "page": (b"<html><body>404</body></html>", FOREIGN),
    "zeros": (bytes(5000), FOREIGN),
    "noise": (np.random.default_rng(0).bytes(5000), FOREIGN),
    "drawing": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', FOREIGN),
    "program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", FOREIGN),
    "first bytes": (WHOLE[:3], FOREIGN),
    "first marks": (b"\xff\xd8\xff\xd9", FOREIGN),
    "cut in the header": (WHOLE[:200], CUT),
    "cut in the tables": (WHOLE[:600], CUT),
    "half": (WHOLE[: len(WHOLE) // 2], CUT),
    "all but 20 bytes": (WHOLE[:-20], CUT),
    "all but the end mark": (WHOLE[:-2], CUT),
    "half, progressive": (PROGRESSIVE[: len(PROGRESSIVE) // 2], CUT),
    "half a PNG": (PNG[: len(PNG) // 2], CUT),
    "damaged PNG": (PNG[:5000] + bytes(1000) + PNG[6000:], "broken data"),
    "half a GIF": (GIF[: len(GIF) // 2], CUT),
    "half a WEBP": (WEBP[: len(WEBP) // 2], "cannot be read"),
    "no pixels": (make_png(0, 0), FOREIGN),
    "too many pixels": (make_png(30000, 30000), "expected at most 40000000 (SOP_MAX_PIXELS)"),
    "too thin": (encode(Image.new("RGB", (1, 4000))), "1 × 4000 pixels, expected at most 1 : 100"),
    "too flat": (encode(Image.new("RGB", (65500, 1))), "65500 × 1 pixels, expected at most 1 : 100"),
}


def error_of(folder, numbers=(1,)):
    """The error of `read_clip`: one line, without a chained exception."""
    with pytest.raises(UserError) as caught:
        read_clip(str(folder), numbers, 32)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_unreadable_files_are_named(folder, content, words):
    with open(path_frame(folder, 2), "wb") as file:
        file.write(content)
    message = error_of(folder, [1, 2, 3])
    assert message.startswith(f"{path_frame(folder, 2)}: cannot be read as a picture: ")
    assert words in message
    assert message.count("000002.jpg") == 1
    assert read_clip(folder, [1, 3], 32).shape == (3, 2, 32, 32)


def test_missing_files_are_named(folder):
    assert error_of(folder, [1, 9]) == f"{path_frame(folder, 9)}: no such picture"
    assert (
        error_of(f"{folder}/none")
        == f"{path_frame(f'{folder}/none', 1)}: no such picture, and no such folder"
    )


def test_folders_and_broken_links_are_named(folder):
    os.mkdir(path_frame(folder, 4))
    os.symlink("000005.jpg", path_frame(folder, 5))
    os.symlink("nowhere.jpg", path_frame(folder, 6))
    assert error_of(folder, [4]).endswith("000004.jpg: cannot be read as a picture: Is a directory")
    assert "000005.jpg: cannot be read as a picture: Too many levels" in error_of(folder, [5])
    assert error_of(folder, [6]).endswith("000006.jpg: no such picture")
    assert error_of(path_frame(folder, 1)).endswith(": Not a directory")
    assert error_of("x" * 300).endswith(": File name too long")
    assert "null byte" in error_of("a\0b")
