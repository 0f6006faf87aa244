"""Draw players and their instruments in a pose of `motion`.

A unit is about a hundredth of a player, y down: the head is around (0, 14), the shoulders are at y = 38, the
figure ends at y = 100 … 122. A part's frame is (x, y, degrees): its position and its clockwise rotation.
"""

import cmath
import colorsys
import math
from typing import NamedTuple

from dataset.demo.motion import BELLOWS_STEPS, BOW_STEPS, MALLET_STEPS, NUM_BARS, NUM_KEYS, STRUM_STEPS

SKINS = ((255, 224, 196), (241, 194, 150), (224, 172, 125), (172, 116, 78), (120, 76, 50), (84, 54, 38))
HAIRS = ((30, 24, 20), (70, 44, 26), (130, 84, 40), (208, 168, 92), (150, 150, 150), (150, 60, 30))
IVORY, BLACK, STEEL, LIT = (244, 240, 228), (24, 22, 24), (200, 204, 210), (255, 214, 64)
BODIES = {  # colours of instruments
    "accordion": ((176, 24, 34), (28, 28, 34), (26, 60, 140), (20, 104, 64), (226, 224, 220)),
    "acoustic_guitar": ((226, 176, 98), (214, 150, 70), (236, 200, 136), (190, 116, 52)),
    "flute": ((212, 216, 222), (232, 232, 236), (226, 204, 138)),
    "trumpet": ((226, 176, 56), (212, 154, 40), (240, 202, 96), (208, 208, 212)),
    "violin": ((140, 62, 24), (164, 80, 30), (112, 44, 22), (176, 96, 44)),
    "xylophone": ((150, 78, 44), (122, 58, 36), (178, 104, 56), (96, 44, 30)),
}
LEFT_SHOULDER, RIGHT_SHOULDER = (-19, 41), (19, 41)  # as seen by the viewer


class Look(NamedTuple):
    """One player's colours, (r, g, b) in 0…255, and build."""

    skin: tuple
    hair: tuple
    shirt: tuple
    trousers: tuple
    body: tuple  # of the instrument
    bottom: float  # y where the figure ends
    long_hair: bool


def draw_look(rng, category):
    """A random player of an instrument."""
    skin, hair = (colours[rng.integers(len(colours))] for colours in (SKINS, HAIRS))
    bodies = BODIES[category]
    body = tuple(int(c) for c in (bodies[rng.integers(len(bodies))] + rng.normal(0, 8, 3)).clip(0, 255))
    return Look(skin, hair, _cloth(rng), _cloth(rng), body, rng.uniform(100, 122), bool(rng.random() < 0.5))


def _cloth(rng):
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.8), rng.uniform(0.15, 0.9))
    return tuple(int(255 * part) for part in colour)


def _shade(colour, factor):
    return tuple(min(int(part * factor), 255) for part in colour)


def _spot(frame, x, y):
    """Map the point (x, y) of a part to the coordinates of the player."""
    place = complex(*frame[:2]) + cmath.rect(1, math.radians(frame[2])) * complex(x, y)
    return place.real, place.imag


def _figure(pen, look):
    if look.long_hair:
        pen.ellipse(0, 18, 14, 17, look.hair)
    pen.box(-5, 22, 5, 34, _shade(look.skin, 0.85))
    pen.polygon([(-12, 31), (12, 31), (22, 37), (19, 92), (-19, 92), (-22, 37)], look.shirt)
    pen.polygon([(-19, 90), (19, 90), (20, look.bottom), (-20, look.bottom)], look.trousers)
    pen.ellipse(0, 14, 10.5, 13, look.skin)
    pen.polygon([(-11, 13), (-10, 4), (-4, 0), (4, 0), (10, 4), (11, 13), (7, 7), (-7, 7)], look.hair)
    for x in (-4, 4):
        pen.ellipse(x, 13, 1.3, 1.5, BLACK)
    pen.line([(-3, 21), (3, 21)], 1.2, _shade(look.skin, 0.6))


def _arm(pen, look, shoulder, elbow, hand):
    colour = _shade(look.shirt, 0.8)
    pen.line([shoulder, elbow, hand], 8, colour)
    for x, y in (shoulder, elbow):
        pen.ellipse(x, y, 4, 4, colour)
    pen.ellipse(*hand, 5, 5, look.skin)


def _violin(pen, look, pose):
    bow, place = pose
    frame = (5, 34, 8)
    _figure(pen, look)
    _violin_body(pen.at(*frame), look.body)
    _arm(pen, look, RIGHT_SHOULDER, (50, 66), _spot(frame, 63 - 6 * place, 4))
    bow_frame = (*_spot(frame, 20, 0), 128)
    frog = 10 + 44 * bow / BOW_STEPS
    bow_pen = pen.at(*bow_frame)
    bow_pen.line([(frog - 62, -1.5), (frog, -1.5)], 1.4, IVORY)
    bow_pen.line([(frog - 62, 0), (frog - 30, 2.4), (frog, 1.5)], 2.2, (60, 28, 16))
    _arm(pen, look, LEFT_SHOULDER, (-34, 66), _spot(bow_frame, frog, 0))


def _violin_body(pen, colour):
    for grown, tone in ((1.6, _shade(colour, 0.45)), (0, colour)):
        pen.ellipse(10, 0, 11 + grown, 13 + grown, tone)
        pen.ellipse(30, 0, 9 + grown, 11 + grown, tone)
        pen.box(12, -7.5 - grown, 28, 7.5 + grown, tone)
    for y in (-6, 6):
        pen.line([(15, y), (23, y * 0.85)], 1.6, BLACK)
    pen.polygon([(24, -2.6), (70, -1.8), (70, 1.8), (24, 2.6)], BLACK)
    pen.polygon([(0, -2), (11, -3.5), (11, 3.5), (0, 2)], BLACK)
    pen.line([(17, -5), (17, 5)], 1.6, IVORY)
    pen.line([(10, 0), (66, 0)], 0.8, STEEL)
    pen.ellipse(73, 0, 4, 3.4, _shade(colour, 0.6))


def _guitar(pen, look, pose):
    hand, swing, place = pose
    frame = (-6, 72, -20)
    _figure(pen, look)
    _guitar_body(pen.at(*frame), look.body)
    _guitar_strings(pen.at(*frame), swing)
    _arm(pen, look, RIGHT_SHOULDER, (46, 74), _spot(frame, 66 - 6 * place, 4))
    _arm(pen, look, LEFT_SHOULDER, (-38, 58), _spot(frame, -2, 26 * (hand / STRUM_STEPS - 0.5)))


def _guitar_body(pen, colour):
    for grown, tone in ((2, _shade(colour, 0.35)), (0, colour)):
        pen.ellipse(-14, 0, 20 + grown, 24 + grown, tone)
        pen.ellipse(14, 0, 15 + grown, 18 + grown, tone)
        pen.box(-10, -14 - grown, 14, 14 + grown, tone)
    pen.ellipse(9, 0, 9, 9, _shade(colour, 0.6))
    pen.ellipse(9, 0, 7.5, 7.5, BLACK)
    pen.box(-20, -9, -16.5, 9, (60, 34, 20))
    pen.polygon([(16, -3.4), (76, -2.8), (76, 2.8), (16, 3.4)], (52, 32, 22))
    pen.polygon([(75, -3.5), (90, -5), (90, 5), (75, 3.5)], _shade(colour, 0.5))
    for x in (79, 83, 87):
        for y in (-6, 6):
            pen.ellipse(x, y, 1.4, 1.4, STEEL)


def _guitar_strings(pen, swing):
    for y in (-2, 0, 2):
        pen.line([(-18, 2 * y), (8, 1.5 * y + swing), (40, y + swing / 2), (76, y)], 0.7, IVORY)


def _accordion(pen, look, pose):
    opening, key = pose
    frame = (-12, 62, -6)
    _figure(pen, look)
    end = _bellows(pen.at(*frame), opening / BELLOWS_STEPS)
    _panels(pen.at(*frame), pen.at(*_spot(frame, *end[:2]), frame[2] + end[2]), look.body)
    _keyboard(pen.at(*frame), key)
    row = 5.2 * ((key if key >= 0 else NUM_KEYS // 2) - NUM_KEYS / 2 + 0.5)
    _arm(pen, look, LEFT_SHOULDER, (-44, 62), _spot(frame, -29, row))
    strap = _spot((*_spot(frame, *end[:2]), frame[2] + end[2]), 14, 0)
    _arm(pen, look, RIGHT_SHOULDER, (strap[0] + 4, 82), strap)


def _bellows(pen, opening):
    """Draw a fan of folds from x = 0; returns the frame of its far end."""
    num, step, turn = 8, 1.8 + 3.4 * opening, 2.4 * opening
    x, y, degrees = 0.0, 0.0, 0.0
    for fold in range(num):
        half = 21 if fold % 2 else 24
        near = [_spot((x, y, degrees), 0, side) for side in (-half, half)]
        x, y = _spot((x, y, degrees), step, 0)
        degrees += turn
        far = [_spot((x, y, degrees), 0, side) for side in (45 - half, half - 45)]
        pen.polygon(near + far, (40, 34, 36) if fold % 2 else (232, 222, 204))
    return x, y, degrees


def _panels(near, far, colour):
    near.box(-22, -25, 0, 25, colour)
    near.box(-5, -22, -2, 22, STEEL)
    far.box(0, -25, 15, 25, colour)
    for x in (4, 8, 12):
        for y in range(-18, 19, 6):
            far.ellipse(x, y, 1.5, 1.5, STEEL)


def _keyboard(pen, pressed):
    pen.box(-34, -25, -19, 25, IVORY)
    for key in range(NUM_KEYS):
        middle = 5.2 * (key - NUM_KEYS / 2 + 0.5)
        if key == pressed:
            pen.box(-34, middle - 2.6, -19, middle + 2.6, LIT)
        pen.box(-27, middle + 1.6, -19, middle + 3.6, BLACK)


def _flute(pen, look, pose):
    fingering, lift = pose
    frame = (0, 22, 9 - 3 * lift)
    _figure(pen, look)
    _arm(pen, look, LEFT_SHOULDER, (6, 66), _spot(frame, 62, 5))
    _arm(pen, look, RIGHT_SHOULDER, (46, 60), _spot(frame, 38, 5))
    tube = pen.at(*frame)
    tube.box(-14, -2.6, 88, 2.6, _shade(look.body, 0.6))
    tube.box(-14, -2.6, 88, 1.0, look.body)
    tube.ellipse(0, 0, 5, 3.8, look.body)
    for x in (15, 80):
        tube.box(x, -3.4, x + 2, 3.4, _shade(look.body, 0.7))
    for key in range(6):
        x, down = 30 + 8 * key, fingering >= 0 and (fingering * 11 + 5) >> key & 1
        tube.ellipse(x, -1, 3.4, 3.0, _shade(look.body, 0.45))
        tube.line([(x, 6), (x, -1 if down else -7)], 2.6, look.skin)


def _trumpet(pen, look, pose):
    fingering, lift = pose
    frame = (2, 22, 12 - 4 * lift)
    _figure(pen, look)
    _arm(pen, look, RIGHT_SHOULDER, (34, 66), _spot(frame, 40, 20))
    horn = pen.at(*frame)
    _tubes(horn, look.body)
    _arm(pen, look, LEFT_SHOULDER, (0, 68), _spot(frame, 31, 8))
    for valve in range(3):
        x = 33 + 7 * valve
        top = -6 if fingering >= 0 and fingering >> valve & 1 else -13
        horn.box(x - 2.6, -5, x + 2.6, 22, _shade(look.body, 0.8))
        horn.line([(x, top), (x, -4)], 1.6, STEEL)
        horn.ellipse(x, top, 3.2, 1.8, IVORY)
        horn.line([(x - 3, 4), (x, top - 2)], 2.6, look.skin)


def _tubes(pen, colour):
    dark = _shade(colour, 0.6)
    bend = [_spot((58, 7, -90), *_spot((0, 0, 30 * step), 7, 0)) for step in range(7)]
    back = [_spot((22, 7, 90), *_spot((0, 0, 30 * step), 7, 0)) for step in range(7)]
    pen.line([*bend, *back, bend[0]], 3.6, dark)
    pen.line([(4, 0), (60, 0)], 4, colour)
    pen.polygon([(0, -3), (6, -1.6), (6, 1.6), (0, 3)], STEEL)
    flare = [(48, 2.4), (60, 4), (70, 8), (77, 14), (80, 20)]
    pen.polygon([*flare, *((x, -y) for x, y in reversed(flare))], colour)
    pen.ellipse(80, 0, 5, 20, dark)
    pen.ellipse(81, 0, 3.2, 16, _shade(colour, 0.35))


def _xylophone(pen, look, pose):
    struck = pose[4]
    _figure(pen, look)
    for x, half in ((-56, 22), (56, 12)):
        pen.line([(x, 90 - half), (x * 1.04, 124)], 4, (44, 40, 44))
        pen.line([(x, 90 + half), (x * 1.04, 124)], 4, (44, 40, 44))
    for side in (-1, 1):
        pen.line([(-62, 90 + 15 * side), (62, 90 + 8 * side)], 5, (60, 44, 34))
    for bar in range(NUM_BARS):
        x, half = _bar(bar)
        colour = LIT if bar == struck else _shade(look.body, 1.25 if bar % 2 else 0.95)
        pen.box(x - 4.6, 90 - half, x + 4.6, 90 + half, colour)
    for side in (-1, 1):
        pen.line([(-56, 90 + 16 * side), (56, 90 + 7 * side)], 0.8, BLACK)
    for side, bar, height in ((-1, *pose[:2]), (1, *pose[2:4])):
        _stroke(pen, look, side, _bar(bar)[0], height / MALLET_STEPS)


def _bar(bar):
    """(middle x, half length) of a bar."""
    part = bar / (NUM_BARS - 1)
    return 104 * (part - 0.5), 27 - 14 * part


def _stroke(pen, look, side, x, height):
    shoulder = RIGHT_SHOULDER if side > 0 else LEFT_SHOULDER
    hand = (0.45 * x + 16 * side, 62 - 8 * height)
    _arm(pen, look, shoulder, (31 * side, 60), hand)
    head = (x, 90 - 26 * height)
    pen.line([hand, head], 1.8, (236, 214, 170))
    pen.ellipse(*head, 4.6, 4.6, (196, 44, 52))


PLAYERS = {
    "accordion": _accordion,
    "acoustic_guitar": _guitar,
    "flute": _flute,
    "trumpet": _trumpet,
    "violin": _violin,
    "xylophone": _xylophone,
}
