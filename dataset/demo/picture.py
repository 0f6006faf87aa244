"""Frames of a clip: a cluttered room, players who move with their notes, light and a drifting camera.

Everything is drawn at twice the size on a canvas a little larger than the frame; the camera crops it.
"""

import colorsys
import itertools
import operator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from dataset.demo.motion import poses
from dataset.demo.pen import Pen
from dataset.demo.players import PLAYERS, draw_look

WIDTH, HEIGHT = 320, 240  # pixels
FRAME_RATE = 25  # frames/s
DRIFT = 4  # pixels, maximum distance of the camera from the centre
SWAY_LOW, SWAY_HIGH = 0.03, 0.15  # Hz
CANVAS = (WIDTH + 2 * DRIFT, HEIGHT + 2 * DRIFT)
ZOOM = 2  # pixels of the drawing per pixel of the canvas
GAP = DRIFT + 2  # pixels between a player and the edge of their slot
SIDE = 26  # pixels at either side of a solo player, most of whom is thus in the centre square
TALL_LOW, TALL_HIGH = 0.58, 0.78  # a player's fraction of the frame's height
TURN = 7.0  # degrees, at most, either way
NUM_CLUTTER_LOW, NUM_CLUTTER_HIGH = 3, 9
GAIN_LOW, GAIN_HIGH = 0.7, 1.15
GRADIENT, VIGNETTE, TINT, NOISE = 0.25, 0.35, 0.1, 2.0  # maximum values; noise in grey levels


class Player(NamedTuple):
    """One player of a clip: how they look, where they are and what they do."""

    category: str
    look: tuple
    place: dict  # Pen's scale, degrees, origin, mirrored; on the zoomed canvas
    poses: list  # one per frame
    box: tuple  # (x, y, w, h) in frame pixels: player and instrument, with room for the camera's drift


class Film:
    """The frames of one clip: iterate for [H, W, 3] uint8."""

    def __init__(self, rng, parts, seconds):
        """parts: [(category, list of Note), …]; each gets an equal part of the width, in random order."""
        self._num = seconds * FRAME_RATE
        self._scene = _background(rng)
        self._light = _light(rng)
        edges = np.linspace(0, WIDTH, len(parts) + 1) if len(parts) > 1 else (SIDE, WIDTH - SIDE)
        slots = rng.permutation(list(itertools.pairwise(edges)))
        self._players = [
            _place(rng, *part, *slot, self._num) for part, slot in zip(parts, slots, strict=True)
        ]
        self._camera = _camera(rng, self._num)
        self._sprites = {}

    @property
    def boxes(self):
        """(x, y, w, h) in pixels of every player, in the order of the parts."""
        return [player.box for player in self._players]

    def __iter__(self):
        still = self._lit(self._scene, (0, 0, *CANVAS))
        for number in range(self._num):
            canvas = still.copy()
            for player in self._players:
                (left, top, right, bottom), pixels = self._sprite(player, player.poses[number])
                canvas[top:bottom, left:right] = pixels
            x, y = self._camera[number]
            yield canvas[y : y + HEIGHT, x : x + WIDTH]

    def _sprite(self, player, pose):
        """(region of the canvas, its pixels) with a player in a pose; drawn on first use."""
        key = (player.category, pose)
        if key not in self._sprites:
            scene = self._scene.copy()
            pen = Pen(ImageDraw.Draw(scene), **player.place)
            PLAYERS[player.category](pen, player.look, pose)
            left, top, right, bottom = pen.reach
            region = (
                max(int(left / ZOOM) - 1, 0),
                max(int(top / ZOOM) - 1, 0),
                min(int(right / ZOOM) + 2, CANVAS[0]),
                min(int(bottom / ZOOM) + 2, CANVAS[1]),
            )
            self._sprites[key] = region, self._lit(scene, region)
        return self._sprites[key]

    def _lit(self, scene, region):
        """A region (left, top, right, bottom) of the canvas with its lighting: [h, w, 3] uint8."""
        left, top, right, bottom = region
        gain, noise = (part[top:bottom, left:right] for part in self._light)
        pixels = np.asarray(scene.reduce(ZOOM, tuple(ZOOM * edge for edge in region)), np.float32)
        return (pixels * gain + noise).clip(0, 255).astype(np.uint8)


def _place(rng, category, notes, left, right, num):
    """A random player within the slot from `left` to `right` (pixels of the frame), `num` frames long."""
    todo = poses(category, notes, (np.arange(num) + 0.5) / FRAME_RATE)
    look, degrees, mirrored = draw_look(rng, category), rng.uniform(-TURN, TURN), bool(rng.random() < 0.5)
    measure = Pen(None, 1.0, degrees, (0, 0), mirrored)
    for pose in _extremes(todo):
        PLAYERS[category](measure, look, pose)
    west, north, east, south = measure.reach
    size = rng.uniform(TALL_LOW, TALL_HIGH) * HEIGHT / (south - north)
    size = min(size, (right - left - 2 * GAP) / (east - west))
    wide, tall = size * (east - west), size * (south - north)
    x = rng.uniform(
        left + GAP, max(left + GAP, right - GAP - wide)
    )  # after rounding, a wide player may not fit
    y = rng.uniform(GAP, HEIGHT - GAP - tall)
    origin = (ZOOM * (x + DRIFT - size * west), ZOOM * (y + DRIFT - size * north))
    box = [int(x) - DRIFT, int(y) - DRIFT, int(x + wide) + DRIFT + 1, int(y + tall) + DRIFT + 1]
    place = {"scale": ZOOM * size, "degrees": degrees, "origin": origin, "mirrored": mirrored}
    return Player(category, look, place, todo, (box[0], box[1], box[2] - box[0], box[3] - box[1]))


def _extremes(todo):
    """The poses in which a player reaches farthest: those where a part of the pose is lowest or highest."""
    parts = range(len(todo[0]))
    return [end(todo, key=operator.itemgetter(part)) for part in parts for end in (min, max)]


def _camera(rng, num):
    """[num, 2] ints: the frame's corner on the canvas, drifting slowly."""
    time = np.arange(num) / FRAME_RATE
    drift = np.zeros((num, 2))
    for _ in range(2):
        rate, start, reach = rng.uniform(SWAY_LOW, SWAY_HIGH, 2), rng.random(2), rng.uniform(0.2, 0.5, 2)
        drift += reach * np.sin(2 * np.pi * (rate * time[:, None] + start))
    return np.round(DRIFT * (1 + drift)).astype(int)


def _background(rng):
    """A wall, perhaps a floor, and clutter: an image of the zoomed canvas."""
    width, height = (ZOOM * edge for edge in CANVAS)
    ends = np.array([_colour(rng), _colour(rng)], np.float32)
    ends[1] = (2 * ends[0] + ends[1]) / 3
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (
        np.cos(angle) * np.linspace(-1, 1, width)[None] + np.sin(angle) * np.linspace(-1, 1, height)[:, None]
    )
    part = ((ramp + 1.5) / 3)[..., None]
    scene = Image.fromarray((ends[0] * (1 - part) + ends[1] * part).astype(np.uint8))
    draw = ImageDraw.Draw(scene)
    for _ in range(rng.integers(NUM_CLUTTER_LOW, NUM_CLUTTER_HIGH, endpoint=True)):
        CLUTTER[rng.integers(len(CLUTTER))](rng, draw, rng.uniform(0, width), rng.uniform(0, 0.7 * height))
    if rng.random() < 0.7:
        floor = int(rng.uniform(0.62, 0.9) * height)
        draw.rectangle((0, floor, width, height), fill=_colour(rng))
        draw.line((0, floor, width, floor), fill=_colour(rng), width=int(rng.integers(2, 10)))
        for _ in range(rng.integers(0, 4)):
            _crate(rng, draw, rng.uniform(0, width), rng.uniform(floor, height))
    return scene


def _colour(rng):
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.6), rng.uniform(0.2, 0.95))
    return tuple(int(255 * part) for part in colour)


def _crate(rng, draw, x, y):
    wide, tall = rng.uniform(20, 110, 2)
    draw.rectangle(
        (x - wide / 2, y - tall, x + wide / 2, y), fill=_colour(rng), outline=_colour(rng), width=3
    )


def _poster(rng, draw, x, y):
    wide, tall = rng.uniform(60, 160, 2)
    draw.rectangle((x, y, x + wide, y + tall), fill=_colour(rng), outline=_colour(rng), width=6)
    for _ in range(3):
        _blob(
            rng,
            draw,
            x + rng.uniform(0.25, 0.75) * wide,
            y + rng.uniform(0.25, 0.75) * tall,
            0.2 * min(wide, tall),
        )


def _blob(rng, draw, x, y, radius=None):
    wide, tall = rng.uniform(0.6, 1.2, 2) * (radius or rng.uniform(10, 50))
    draw.ellipse((x - wide, y - tall, x + wide, y + tall), fill=_colour(rng))


def _shelf(rng, draw, x, y):
    wide = rng.uniform(120, 260)
    for _ in range(rng.integers(1, 5)):
        thing = _crate if rng.random() < 0.6 else _pot
        thing(rng, draw, x + rng.uniform(0.1, 0.9) * wide, y)
    draw.rectangle((x, y, x + wide, y + 8), fill=_colour(rng))


def _pot(rng, draw, x, y):
    size = rng.uniform(12, 30)
    top, foot = y - 1.5 * size, 0.6 * size
    draw.polygon([(x - size, top), (x + size, top), (x + foot, y), (x - foot, y)], fill=_colour(rng))
    draw.ellipse((x - 1.3 * size, y - 3.5 * size, x + 1.3 * size, y - 1.2 * size), fill=_colour(rng))


def _window(rng, draw, x, y):
    wide, tall, frame = rng.uniform(80, 160), rng.uniform(90, 180), _colour(rng)
    draw.rectangle((x, y, x + wide, y + tall), fill=(196, 222, 244), outline=frame, width=8)
    draw.line((x + wide / 2, y, x + wide / 2, y + tall), fill=frame, width=6)
    draw.line((x, y + tall / 2, x + wide, y + tall / 2), fill=frame, width=6)


CLUTTER = (_crate, _poster, _blob, _shelf, _window)


def _light(rng):
    """(gain [H, W, 3], noise [H, W, 1]) of the canvas, float32."""
    x, y = np.meshgrid(np.linspace(-1, 1, CANVAS[0]), np.linspace(-1, 1, CANVAS[1]))
    angle = rng.uniform(0, 2 * np.pi)
    gain = rng.uniform(GAIN_LOW, GAIN_HIGH) * (
        1 + rng.uniform(0, GRADIENT) * (np.cos(angle) * x + np.sin(angle) * y)
    )
    gain *= 1 - rng.uniform(0, VIGNETTE) * (x**2 + y**2) / 2
    tint = 1 + rng.uniform(-TINT, TINT, 3)
    noise = rng.uniform(0, NOISE) * rng.standard_normal(gain.shape)
    return (gain[..., None] * tint).astype(np.float32), noise[..., None].astype(np.float32)
