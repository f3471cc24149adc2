"""What charts are drawn on: a canvas with smooth lines, axes with round numbers, colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's palette: ten classes that stay apart for colour-blind readers (the last two are its grey and black).
PALETTE = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (146, 73, 0),
    (200, 190, 40),
    (130, 130, 130),
    (0, 0, 0),
)
INK = (40, 40, 40)
GRID_LINE = (228, 228, 228)
PAPER = (255, 255, 255)
# Charts are drawn this many times larger and reduced, because Pillow's lines and dots have no smooth edges.
OVERSAMPLING = 3

Point = tuple[float, float]
Color = tuple[int, int, int]
Box = tuple[float, float, float, float]


class Canvas:
    """A white picture with smooth lines.

    Args:
        width: In pixels of the finished picture, as all places and sizes below.
        height: The same.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._image = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[Point], color: Color, width: float = 2) -> None:
        """Join points; a single one becomes a dot."""
        if len(points) == 1:
            self.dot(points[0], 3, color)
        else:
            scaled = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
            self._draw.line(scaled, fill=color, width=round(width * OVERSAMPLING), joint="curve")

    def dot(self, center: Point, radius: float, color: Color) -> None:
        """A filled circle."""
        x, y, r = (value * OVERSAMPLING for value in (*center, radius))
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def picture(self, box: Box, picture: Image.Image) -> None:
        """Put a picture into a rectangle, its pixels enlarged to squares."""
        left, top, right, bottom = (round(value * OVERSAMPLING) for value in box)
        self._image.paste(picture.resize((right - left, bottom - top), Image.Resampling.NEAREST), (left, top))

    def text(self, place: Point, text: str, *, size: float, anchor: str) -> None:
        """Write in ink; `anchor` is Pillow's, such as "ma": which point of the text is at the place."""
        font = ImageFont.load_default(size * OVERSAMPLING)
        self._draw.text((place[0] * OVERSAMPLING, place[1] * OVERSAMPLING), text, fill=INK, font=font, anchor=anchor)

    def text_width(self, text: str, *, size: float) -> float:
        """How wide `text` will be."""
        return ImageFont.load_default(size * OVERSAMPLING).getlength(text) / OVERSAMPLING

    def finished(self) -> Image.Image:
        """The picture."""
        return self._image.resize((self.width, self.height), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Axes:
    """A rectangle of a canvas that shows ranges of values.

    Attributes:
        box: Left, top, right, bottom.
        x_range: Smallest and largest value.
        y_range: The same; y grows upwards.
        whole_x: Whether every x is a whole number.
    """

    box: Box
    x_range: Point
    y_range: Point
    whole_x: bool = False

    def place(self, point: Point) -> Point:
        """Where on the canvas a point (x, y) is."""
        left, top, right, bottom = self.box
        (x0, x1), (y0, y1) = _padded(self.x_range), _padded(self.y_range)
        x = left + (point[0] - x0) / (x1 - x0) * (right - left)
        return x, bottom - (point[1] - y0) / (y1 - y0) * (bottom - top)

    def draw(self, canvas: Canvas) -> None:
        """Two axes, marks, and a line across at each mark of y."""
        left, top, right, bottom = self.box
        for value, label in _ticks(*_padded(self.y_range), count=int((bottom - top) // 32)):
            y = self.place((self.x_range[0], value))[1]
            canvas.line([(left, y), (right, y)], GRID_LINE, width=1)
            canvas.text((left - 6, y), label, size=12, anchor="rm")
        for value, label in self._x_ticks():
            x = self.place((value, self.y_range[0]))[0]
            canvas.line([(x, top), (x, bottom)], GRID_LINE, width=1)
            canvas.text((x, bottom + 5), label, size=12, anchor="ma")
        canvas.line([(left, top), (left, bottom), (right, bottom)], INK, width=1)

    def _x_ticks(self) -> list[tuple[float, str]]:
        if self.whole_x and self.x_range[0] == self.x_range[1]:
            return [(self.x_range[0], f"{self.x_range[0]:,.0f}")]
        return _ticks(*_padded(self.x_range), count=7, smallest_step=1.0 if self.whole_x else 0.0)


def _padded(values: Point) -> Point:
    """A little more than the range, and never an empty one."""
    low, high = values
    margin = 0.03 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float, count: int, smallest_step: float = 0.0) -> list[tuple[float, str]]:
    """Multiples of 1, 2 or 5 times a power of ten inside [low, high], at most about `count`, each with its label."""
    rough = max((high - low) / count, smallest_step)
    power = math.floor(math.log10(rough))
    step = next(factor * 10.0**power for factor in (1, 2, 5, 10) if factor * 10.0**power >= rough)
    values = [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
    if max(abs(low), abs(high)) >= 1e7 or step < 1e-4:
        return [(value, f"{value:.3g}") for value in values]
    decimals = max(0, -math.floor(math.log10(step * 1.001)))
    return [(value, f"{value:,.{decimals}f}") for value in values]
