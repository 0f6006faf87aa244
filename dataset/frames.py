"""Picture files -> clip, with one random draw for all pictures of a clip.

This is what the input pipeline spends most of its time on. simplejpeg decodes JPEGs straight into arrays, PIL
all other pictures; torch resizes, in a fifth of the time that PIL needs for the same pixels to a level or two
of 255. Pictures stay uint8 as far as the device.
"""

import contextlib
import os
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError

from utils import UserError

OVERSIZE = 1.1  # in training pictures are resized to this much more than what is cropped from them
FORMATS = "JPEG", "PNG", "GIF", "BMP", "WEBP"  # however the file is named; PIL's others even run programs
MAX_ASPECT = 100  # longer side / shorter side; resized, a thinner picture may not fit in memory
MAX_JPEG = 1 << 26  # pixels; larger pictures are left to PIL and its limits
SCALES = 1, 2, 4, 8  # of which JPEGs are decoded at a fraction; the others in between take longer than 1


class Crop(NamedTuple):
    """Where a clip is cropped, as shares 0..1 of the room there is, and whether it is mirrored."""

    x: float
    y: float
    mirror: bool


CENTRE = Crop(0.5, 0.5, False)


def draw_crop(rng):
    """A random crop and a random mirror from a numpy generator."""
    return Crop(rng.random(), rng.random(), bool(rng.random() < 0.5))


def path_frame(folder, number):
    """The file of a clip's picture; numbers begin at 1."""
    return os.path.join(folder, f"{number:06d}.jpg")


def read_clip(folder, numbers, size, crop=None, out=None):
    """Pictures `numbers` of `folder` -> uint8 [3, T, size, size], into `out` if that is given.

    `crop` None: the shorter side to `size`, bicubic, and the centre. A `Crop`: the shorter side to
    int(1.1 * size), and cropped there. Pictures are taken as they are stored: transparency and a camera's
    note of its orientation are ignored. Raises UserError, naming the file, for one that cannot be read.
    """
    side = size if crop is None else int(OVERSIZE * size)
    clip = np.empty((3, len(numbers), size, size), np.uint8) if out is None else out
    for t, number in enumerate(numbers):
        pixels, size_whole = read_pixels(path_frame(folder, number), side)
        clip[:, t] = _resize_and_cut(pixels, size_whole, size, crop or CENTRE)
    return clip


def read_whole(folder, numbers, size):
    """Pictures `numbers` of `folder`, uncropped, the shorter side to `size` -> uint8 [3, T, H, W].

    Raises UserError as `read_clip` does.
    """
    pictures = [_resize(*read_pixels(path_frame(folder, number), size)) for number in numbers]
    return np.stack([picture[0, :3].numpy() for picture in pictures], axis=1)


def open_picture(path):
    """A picture file as it is stored, RGB. Raises UserError, naming the file, if it cannot be read."""
    return _read(path, _to_rgb)


def read_pixels(path, side):
    """A picture to be resized: uint8 [1, 4, H, W], of which three channels count, and (height, width) to be.

    side: pixels of the shorter side to be. A JPEG much larger than that is decoded at a reduced scale, of
    which the shorter side is still as long. Raises UserError, naming the file, if it cannot be read.
    """
    with contextlib.suppress(OSError, ValueError):  # what is wrong, PIL tells better, or lets pass
        return _decode_jpeg(path, side)
    return _read(path, lambda picture: _decode(picture, side))


def _resize_and_cut(pixels, size, size_part, crop):
    """uint8 [1, 4, h, w] resized to `size` (H, W), and of that the part [3, size_part, size_part]."""
    (height, width), rows = size, pixels.shape[2]
    top, left = round(crop.y * (height - size_part)), round(crop.x * (width - size_part))
    # Columns go before they are resized along the other side. It is in this order that torch resizes both,
    # rounding in between, so that the pixels are the same.
    pixels = _resize(pixels, (rows, width))[..., left : left + size_part]
    part = _resize(pixels, (height, size_part))[0, :3, top : top + size_part].numpy()
    return part[:, :, ::-1] if crop.mirror else part


def _resize(pixels, size):
    if pixels.shape[2:] == size:  # as dataset.preprocess makes them for training
        return pixels
    return F.interpolate(pixels, size, mode="bicubic", antialias=True)


def _scaled(size, side):
    """`size` (height, width) with the shorter side brought to `side`."""
    return tuple(max(side, int(side * length / min(size))) for length in size)


def _decode_jpeg(path, side):
    """What `read_pixels` returns, for a JPEG of which PIL would make the same.

    Raises OSError or ValueError for what is damaged, and for all that is better left to PIL.
    """
    with open(path, "rb") as file:
        data = file.read()
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    short = min(height, width)
    thin, large = max(height, width) > MAX_ASPECT * short, height * width > MAX_JPEG
    if thin or large or colours not in ("YCbCr", "Gray"):
        raise ValueError("left to PIL")
    scale = max(scale for scale in SCALES if scale == 1 or short >= scale * side)
    least = {"min_height": -(-height // scale), "min_width": -(-width // scale)}
    pixels = simplejpeg.decode_jpeg(data, "RGBX", **least)
    return _as_planes(pixels), _scaled((height, width), side)


def _decode(picture, side):
    size = _scaled((picture.height, picture.width), side)
    picture.draft(None, (side, side))  # JPEGs at a reduced scale too
    rgb = _to_rgb(picture)
    pixels = np.frombuffer(bytearray(rgb.tobytes("raw", "RGBX")), np.uint8)
    return _as_planes(pixels.reshape(rgb.height, rgb.width, 4)), size


def _as_planes(pixels):
    """uint8 [H, W, 4] -> [1, 4, H, W], channels last in memory still: so torch resizes fastest."""
    return torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)


def _to_rgb(picture):
    picture.load()
    if picture.mode.startswith("I"):  # 16 bit; `convert` alone makes nearly all of it white
        picture = picture.point(lambda value: value / 256)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _read(path, use):
    """`use` of the picture that a file holds; what goes wrong becomes a UserError."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if max(picture.size) > MAX_ASPECT * min(picture.size):
                width, height = picture.size
                raise ValueError(f"{width} × {height} pixels, expected at most 1 : {MAX_ASPECT}")
            return use(picture)
    except FileNotFoundError:
        remark = "" if os.path.isdir(os.path.dirname(path)) else ", nor its folder"
        raise UserError(f"{path}: no such picture{remark}") from None
    except UnidentifiedImageError:
        reason = "the file is not a picture" if os.path.getsize(path) else "the file is empty"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
    raise UserError(f"{path}: cannot be read as a picture: {reason}")
