"""Picture files -> clip, with one random draw for all pictures of a clip."""

import os
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from utils import UserError

OVERSIZE = 1.1  # in training pictures are resized to this much more than what is cropped from them
FORMATS = "JPEG", "PNG", "GIF", "BMP", "WEBP"  # however the file is named; PIL's others even run programs
MAX_ASPECT = 100  # longer side / shorter side; resized, a thinner picture may not fit in memory


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


def read_clip(folder, numbers, size, crop=None):
    """Pictures `numbers` of `folder` -> uint8 [3, T, size, size].

    `crop` None: the shorter side to `size`, bicubic, and the centre. A `Crop`: the shorter side to
    int(1.1 * size), and cropped there. Pictures are taken as they are stored: transparency and a camera's
    note of its orientation are ignored. Raises UserError, naming the file, for one that cannot be read.
    """
    side = size if crop is None else int(OVERSIZE * size)
    clip = np.stack([_read_picture(path_frame(folder, k), side, size, crop or CENTRE) for k in numbers])
    return np.ascontiguousarray(clip.transpose(3, 0, 1, 2))


def read_whole(folder, numbers, size):
    """Pictures `numbers` of `folder`, uncropped, the shorter side to `size` -> uint8 [3, T, H, W].

    Raises UserError as `read_clip` does.
    """
    pictures = [np.asarray(_resize(open_picture(path_frame(folder, k)), size)) for k in numbers]
    return np.ascontiguousarray(np.stack(pictures).transpose(3, 0, 1, 2))


def _resize(picture, side):
    """The shorter side to `side`, bicubic."""
    short = min(picture.size)
    size = tuple(max(side, int(side * length / short)) for length in picture.size)
    return picture.resize(size, Image.Resampling.BICUBIC)


def _read_picture(path, side, size, crop):
    picture = _resize(open_picture(path), side)
    width, height = picture.size
    left, top = round(crop.x * (width - size)), round(crop.y * (height - size))
    picture = picture.crop((left, top, left + size, top + size))
    if crop.mirror:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(picture)


def open_picture(path):
    """A picture file as it is stored, RGB. Raises UserError, naming the file, if it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if max(picture.size) > MAX_ASPECT * min(picture.size):
                width, height = picture.size
                raise ValueError(f"{width} × {height} pixels, expected at most 1 : {MAX_ASPECT}")
            if picture.mode.startswith("I"):  # 16 bit; `convert` alone makes nearly all of it white
                picture = picture.point(lambda value: value / 256)
            return picture.convert("RGB")
    except FileNotFoundError:
        remark = "" if os.path.isdir(os.path.dirname(path)) else ", nor its folder"
        raise UserError(f"{path}: no such picture{remark}") from None
    except UnidentifiedImageError:
        reason = "the file is not a picture" if os.path.getsize(path) else "the file is empty"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
    raise UserError(f"{path}: cannot be read as a picture: {reason}")
