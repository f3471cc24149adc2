"""Panels of a plane or an interval, with functions as bands of colour, arrows, curves and dots; several as a sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from .canvas import INK, PAPER, Axes, Canvas, Color, Point
from .charts import legend_line

BANDS = 12  # on each side of 0
COLD, WARM = (70, 130, 180), (235, 150, 90)
ARROW = (150, 150, 150)


class Panel:
    """A chart with fixed axes, on which things are drawn one over the other.

    Args:
        title: Above it.
        x_range: Smallest and largest value of x.
        y_range: The same of y, which grows upwards.
        x_label: Below it.
        width: Of the picture, in pixels.
        height: The same.
    """

    def __init__(
        self, title: str, x_range: Point, y_range: Point, x_label: str = "", width: int = 360, height: int = 320
    ) -> None:
        self.canvas = Canvas(width, height)
        self.axes = Axes((48, 56, width - 12, height - 44), x_range, y_range)
        self.x_range, self.y_range = x_range, y_range
        self.legend: dict[str, Color] = {}
        left, _, right, bottom = self.axes.box
        self.canvas.text(((left + right) / 2, 8), title, size=15, anchor="ma")
        self.canvas.text(((left + right) / 2, bottom + 24), x_label, size=13, anchor="ma")
        self.axes.draw(self.canvas)

    def bands(self, values: Tensor, width: float) -> None:
        """Colour the ranges by a function, in bands from white at 0 to a cold color below and a warm one above.

        Args:
            values: (rows, columns), finite, at points that cover the ranges evenly, the largest y first.
            width: Of a band; all values beyond `BANDS` of them have the last one's color.
        """
        found = values.detach().double().cpu().numpy()[:, :, None]
        depth = np.minimum(np.floor(np.abs(found) / width), BANDS) / BANDS
        colors = 255 + (np.where(found < 0, COLD, WARM) - 255) * depth
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        (left, top), (right, bottom) = self.axes.place((x0, y1)), self.axes.place((x1, y0))
        self.canvas.picture((left, top, right, bottom), Image.fromarray(colors.round().astype(np.uint8)))

    def arrows(self, starts: Tensor, directions: Tensor, length: float) -> None:
        """Draw arrows of one length.

        Args:
            starts: (number, 2), their middles.
            directions: (number, 2), of any length; those of none are left out.
            length: In units of the axes.
        """
        for (x, y), (dx, dy) in zip(starts.tolist(), directions.tolist(), strict=True):
            size = math.hypot(dx, dy)
            if size > 1e-6:
                half = length / 2 / size
                self._arrow((x - half * dx, y - half * dy), (x + half * dx, y + half * dy))

    def _arrow(self, start: Point, end: Point) -> None:
        (x0, y0), (x1, y1) = self.axes.place(start), self.axes.place(end)
        self.canvas.line([(x0, y0), (x1, y1)], ARROW, width=1)
        angle = math.atan2(y1 - y0, x1 - x0)
        barbs = [(x1 - 5 * math.cos(angle + turn), y1 - 5 * math.sin(angle + turn)) for turn in (-0.45, 0.45)]
        self.canvas.line([barbs[0], (x1, y1), barbs[1]], ARROW, width=1)

    def curve(self, points: Tensor, color: Color, name: str = "", width: float = 2) -> None:
        """Join points; what lies outside of the ranges is left out.

        Args:
            points: (number, 2) in order.
            color: Of the line.
            name: In the legend; none where it is empty.
            width: Of the line, in pixels.
        """
        run: list[Point] = []
        for x, y in [*points.tolist(), (math.nan, math.nan)]:
            if self.x_range[0] <= x <= self.x_range[1] and self.y_range[0] <= y <= self.y_range[1]:
                run.append(self.axes.place((x, y)))
                continue
            if len(run) > 1:
                self.canvas.line(run, color, width)
            run = []
        if name:
            self.legend[name] = color

    def dots(self, points: Tensor, color: Color, radius: float = 2) -> None:
        """Draw points, (number, 2); what lies outside of the ranges is left out."""
        for x, y in points.tolist():
            if self.x_range[0] <= x <= self.x_range[1] and self.y_range[0] <= y <= self.y_range[1]:
                self.canvas.dot(self.axes.place((x, y)), radius, color)

    def finished(self) -> Image.Image:
        """The picture."""
        left, top, right, bottom = self.axes.box
        legend_line(self.canvas, right, top - 22, self.legend)
        self.canvas.line([(left, top), (left, bottom), (right, bottom)], INK, width=1)
        return self.canvas.finished()


def sheet(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Lay pictures of one size out in rows.

    Args:
        pictures: At least one.
        columns: Pictures in a row.
    """
    width, height = pictures[0].size
    made = Image.new("RGB", (columns * width, math.ceil(len(pictures) / columns) * height), PAPER)
    for index, picture in enumerate(pictures):
        made.paste(picture, (index % columns * width, index // columns * height))
    return made
