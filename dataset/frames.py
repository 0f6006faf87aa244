"""Read the frames of clips; all frames of a clip share one random crop and flip.

The input pipeline spends most of its time here. simplejpeg decodes JPEGs straight into arrays, PIL all other
images. torch resizes five times as fast as PIL, to the same pixels within 2 of 255. Frames stay uint8 until
they are on the device.
"""

import os
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError

import limits
from dataset.index import path_frame
from dataset.shards.read import is_folder, open_media, read_media
from utils import UserError

OVERSIZE = 1.1  # in training, frames are resized to this multiple of the crop's size
FORMATS = "JPEG", "PNG", "GIF", "BMP", "WEBP"  # by content; some of PIL's other formats run programs
MAX_ASPECT = 100  # longer side / shorter side; resized, a thinner image may not fit in memory
Image.MAX_IMAGE_PIXELS = None  # limits.MAX_PIXELS instead, see `_check_size`
SCALES = 1, 2, 4, 8  # JPEGs are decoded at 1/scale; the ratios in between are slower than full size


class Crop(NamedTuple):
    """The position of a clip's crop, as fractions 0..1 of the free space, and whether it is flipped."""

    x: float
    y: float
    mirror: bool


CENTRE = Crop(0.5, 0.5, False)


def draw_crop(rng):
    """A random crop and horizontal flip from a numpy generator."""
    return Crop(rng.random(), rng.random(), bool(rng.random() < 0.5))


class _LeftToPil(ValueError):
    """A picture that simplejpeg does not decode, though it may be whole."""


def read_clip(folder, numbers, size, crop=None, out=None, damaged=None):
    """Read frames `numbers` of `folder` as uint8 [3, T, size, size], into `out` if given.

    crop: None resizes the shorter side to `size` (bicubic) and crops the centre; a `Crop` resizes it to
    int(1.1 * size) and crops there. Transparency and EXIF orientation are ignored. damaged: a list to which
    the decoder's complaints are added, each with the file. Raises UserError, naming the file, if a frame
    cannot be read.
    """
    side = size if crop is None else int(OVERSIZE * size)
    clip = np.empty((3, len(numbers), size, size), np.uint8) if out is None else out
    for t, number in enumerate(numbers):
        pixels, size_whole = read_pixels(path_frame(folder, number), side, damaged)
        clip[:, t] = _resize_and_cut(pixels, size_whole, size, crop or CENTRE)
    return clip


def read_whole(folder, numbers, size):
    """Read frames `numbers` of `folder`, uncropped, the shorter side resized to `size`: uint8 [3, T, H, W].

    Raises UserError as `read_clip` does.
    """
    pictures = [_resize(*read_pixels(path_frame(folder, number), size)) for number in numbers]
    return np.stack([picture[0, :3].numpy() for picture in pictures], axis=1)


def open_picture(path):
    """An image file as stored, in RGB. Raises UserError, naming the file, if it cannot be read."""
    return _read(path, _to_rgb)


def read_pixels(path, side, damaged=None):
    """Decode an image for resizing: uint8 [1, 4, H, W], whose last channel is unused, and the target size.

    side: pixels of the shorter side after resizing; the target size is (height, width). JPEGs much larger
    than that are decoded at a reduced scale whose shorter side is still at least as long. damaged: see
    `read_clip`. Raises UserError, naming the file, if it cannot be read.
    """
    complaint = None
    try:
        return _decode_jpeg(path, side)
    except (OSError, _LeftToPil):
        pass
    except ValueError as error:
        complaint = f"{path}: {error}"
    pixels = _read(
        path, lambda picture: _decode(picture, side)
    )  # tolerates the error, or describes it better
    if complaint and damaged is not None:
        damaged.append(complaint)
    return pixels


def _resize_and_cut(pixels, size, size_part, crop):
    """Resize uint8 [1, 4, h, w] to `size` (H, W) and crop [3, size_part, size_part]."""
    (height, width), rows = size, pixels.shape[2]
    top, left = round(crop.y * (height - size_part)), round(crop.x * (width - size_part))
    # Crop columns before resizing rows. torch itself resizes in this order and rounds in between, so that the
    # pixels are identical.
    pixels = _resize(pixels, (rows, width))[..., left : left + size_part]
    part = _resize(pixels, (height, size_part))[0, :3, top : top + size_part].numpy()
    return part[:, :, ::-1] if crop.mirror else part


def _resize(pixels, size):
    if pixels.shape[2:] == size:  # the size that dataset.preprocess writes for training
        return pixels
    return F.interpolate(pixels, size, mode="bicubic", antialias=True)


def _scaled(size, side):
    """`size` (height, width) scaled so that the shorter side is `side`."""
    return tuple(max(side, int(side * length / min(size))) for length in size)


def _decode_jpeg(path, side):
    """`read_pixels` for JPEGs that simplejpeg decodes to the same pixels as PIL.

    Raises ValueError for damaged files, OSError or _LeftToPil for all that is better left to PIL.
    """
    data = read_media(path)
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:  # perhaps another format
        raise _LeftToPil from error
    short = min(height, width)
    thin, large = max(height, width) > MAX_ASPECT * short, height * width > limits.MAX_PIXELS
    if thin or large or colours not in ("YCbCr", "Gray"):
        raise _LeftToPil
    scale = max(scale for scale in SCALES if scale == 1 or short >= scale * side)
    least = {"min_height": -(-height // scale), "min_width": -(-width // scale)}
    pixels = simplejpeg.decode_jpeg(data, "RGBX", **least)
    return _as_planes(pixels), _scaled((height, width), side)


def _decode(picture, side):
    size = _scaled((picture.height, picture.width), side)
    picture.draft(None, (side, side))  # decodes JPEGs at a reduced scale
    rgb = _to_rgb(picture)
    pixels = np.frombuffer(bytearray(rgb.tobytes("raw", "RGBX")), np.uint8)
    return _as_planes(pixels.reshape(rgb.height, rgb.width, 4)), size


def _as_planes(pixels):
    """uint8 [H, W, 4] -> [1, 4, H, W], still channels-last in memory, which torch resizes fastest."""
    return torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)


def _to_rgb(picture):
    picture.load()
    if picture.mode.startswith("I"):  # 16 bit; `convert` alone would clip nearly all of it to white
        picture = picture.point(lambda value: value / 256)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _check_size(width, height):
    """Raise ValueError for a picture that may not fit in memory, by its header."""
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(f"{width} × {height} pixels, expected at most 1 : {MAX_ASPECT}")
    if width * height > limits.MAX_PIXELS:
        raise ValueError(f"{width} × {height} pixels, expected at most {limits.MAX_PIXELS} (SOP_MAX_PIXELS)")


def _read(path, use):
    """`use(image)` of the image in a file; errors become a UserError."""
    try:
        with open_media(path) as file, Image.open(file, formats=FORMATS) as picture:
            _check_size(*picture.size)
            return use(picture)
    except FileNotFoundError:
        remark = "" if is_folder(os.path.dirname(path)) else ", and no such folder"
        raise UserError(f"{path}: no such picture{remark}") from None
    except UnidentifiedImageError:
        reason = "the file is empty" if _is_empty(path) else "not a readable JPEG, PNG, GIF, BMP or WebP file"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
    raise UserError(f"{path}: cannot be read as a picture: {reason}")


def _is_empty(path):
    with open_media(path) as file:
        return not file.read(1)
