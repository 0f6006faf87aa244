"""Draw in rotated, scaled and possibly mirrored coordinates, and keep the bounding box of the drawing."""

import cmath
import copy
import math

NUM_CORNERS = 18  # of a drawn ellipse
CIRCLE = [cmath.rect(1, 2 * math.pi * i / NUM_CORNERS) for i in range(NUM_CORNERS)]


class Pen:
    """Draws on a Pillow `ImageDraw`, or only measures if `draw` is None.

    Maps a point (x, y), y down, to the pixel scale · rotation · (x, y) + origin, with x negated if mirrored.
    """

    def __init__(self, draw=None, scale=1.0, degrees=0.0, origin=(0, 0), mirrored=False):
        turn = cmath.rect(scale, math.radians(degrees))
        self._draw, self._scale, self._origin = draw, scale, complex(*origin)
        self._turn, self._side = (-turn, -1) if mirrored else (turn, 1)  # of y: -conj(x + iy) = -(x - iy)
        self._reach = [math.inf, math.inf, -math.inf, -math.inf]

    def at(self, x, y, degrees=0.0):
        """A pen for a part whose origin is (x, y) here, rotated clockwise by `degrees`."""
        part = copy.copy(self)  # draws on the same image and extends the same bounding box
        part._origin = self._turn * complex(x, self._side * y) + self._origin
        part._turn = self._turn * cmath.rect(1, self._side * math.radians(degrees))
        return part

    @property
    def reach(self):
        """(left, top, right, bottom) in pixels of all that was drawn."""
        return tuple(self._reach)

    def polygon(self, points, colour):
        """A filled polygon of [(x, y), …]."""
        places = self._map(points, 0)
        if self._draw:
            self._draw.polygon(places, fill=colour)

    def line(self, points, width, colour):
        """A line through [(x, y), …]."""
        places = self._map(points, width * self._scale / 2)
        if self._draw:
            self._draw.line(places, fill=colour, width=max(round(width * self._scale), 1), joint="curve")

    def ellipse(self, x, y, radius_x, radius_y, colour):
        """A filled ellipse centred at (x, y)."""
        self.polygon([(x + radius_x * z.real, y + radius_y * z.imag) for z in CIRCLE], colour)

    def box(self, left, top, right, bottom, colour):
        """A filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def _map(self, points, margin):
        turn, origin, side = self._turn, self._origin, self._side
        mapped = [turn * complex(x, side * y) + origin for x, y in points]
        xs, ys = [place.real for place in mapped], [place.imag for place in mapped]
        left, top, right, bottom = self._reach
        self._reach[:] = (
            min(left, min(xs) - margin),
            min(top, min(ys) - margin),
            max(right, max(xs) + margin),
            max(bottom, max(ys) + margin),
        )
        return list(zip(xs, ys, strict=True))
