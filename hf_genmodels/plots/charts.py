"""Curves over steps, and points of the plane."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from .canvas import PALETTE, Axes, Canvas, Color, Point

MAX_LEGEND = 22


def line_chart(
    curves: Mapping[str, Sequence[Point]], title: str = "", x_label: str = "step", y_label: str = ""
) -> Image.Image:
    """Draw curves, each name in a panel of its own, because losses of one model seldom share a scale.

    Names that differ only in a leading "train " or "validation " share a panel, each kind in its own colour, with a
    legend. Where every x is a whole number, so are the marks of its axis.

    Args:
        curves: name -> [(x, y), ...]; points whose y is not finite are left out.
        title: Above the first panel.
        x_label: Below the last panel.
        y_label: Above every panel's axis, before the curve's name.

    Raises:
        ValueError: No curve has a finite point.
    """
    panels: dict[str, dict[str, list[Point]]] = {}
    for name, values in curves.items():
        points = [(float(x), float(y)) for x, y in values if math.isfinite(y)]
        if points:
            panels.setdefault(_quantity(name), {})[name] = points
    if not panels:
        raise ValueError("line_chart needs at least one curve with a finite point")

    width, panel_height, top, bottom = 720, 210 if len(panels) > 1 else 360, 44 if title else 12, 32
    canvas = Canvas(width, top + panel_height * len(panels) + bottom)
    canvas.text((width / 2, 14), title, size=18, anchor="ma")
    xs = [x for panel in panels.values() for points in panel.values() for x, _ in points]
    whole = all(x.is_integer() for x in xs)
    for row, (quantity, panel) in enumerate(panels.items()):
        ys = [y for points in panel.values() for _, y in points]
        y = top + row * panel_height
        axes = Axes((72, y + 30, width - 20, y + panel_height - 26), (min(xs), max(xs)), (min(ys), max(ys)), whole)
        axes.draw(canvas)
        canvas.text((72, y + 8), f"{y_label} {quantity}".strip(), size=14, anchor="la")
        colors = _curve_colors(panel)
        for name, points in panel.items():
            canvas.line([axes.place(point) for point in points], colors[name])
        if list(panel) != [quantity]:
            legend_line(canvas, width - 20, y + 8, colors)
    canvas.text((width / 2, canvas.height - 24), x_label, size=14, anchor="ma")
    return canvas.finished()


def scatter(points: Tensor, labels: Tensor | None = None, title: str = "") -> Image.Image:
    """Draw points of the plane, coloured by label.

    Args:
        points: (n, 2), any finite values.
        labels: (n,) integers; None draws every point alike. Colours repeat after ten labels, the legend ends after 22.
        title: Above the axes.

    Raises:
        ValueError: `points` is not (n, 2) with n > 0.
    """
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise ValueError(f"scatter needs a non-empty (n, 2), got {tuple(points.shape)}")
    places = points.detach().double().cpu().numpy()
    kinds = np.zeros(len(places), dtype=int) if labels is None else labels.detach().cpu().numpy()
    names = np.unique(kinds)
    side, legend, top = 560, 70 if labels is not None else 0, 44 if title else 12
    canvas = Canvas(side + legend, side + top - 46)
    canvas.text((side / 2, 14), title, size=18, anchor="ma")
    low, high = places.min(axis=0), places.max(axis=0)
    # one scale for both axes: distances can be compared
    middle, reach = (low + high) / 2, float((high - low).max()) / 2
    x_range, y_range = ((float(center) - reach, float(center) + reach) for center in middle)
    axes = Axes((60, top, side - 16, top + side - 76), x_range, y_range)
    axes.draw(canvas)
    radius = 1.5 if len(places) > 5000 else 2.5 if len(places) > 500 else 4.0
    colors = {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names.tolist())}
    for (x, y), kind in zip(places.tolist(), kinds.tolist(), strict=True):
        canvas.dot(axes.place((x, y)), radius, colors[kind])
    if labels is not None:
        for row, (name, color) in enumerate(list(colors.items())[:MAX_LEGEND]):
            canvas.dot((side + 10, top + 12 + 22 * row), 5, color)
            canvas.text((side + 24, top + 12 + 22 * row), str(name), size=14, anchor="lm")
        if len(colors) > MAX_LEGEND:
            canvas.text((side + 24, top + 12 + 22 * MAX_LEGEND), "...", size=14, anchor="lm")
    return canvas.finished()


def _quantity(name: str) -> str:
    return name.removeprefix("train ").removeprefix("validation ")


def _curve_colors(names: Iterable[str]) -> dict[str, Color]:
    """Colours of one panel's curves; held-out figures look alike in every panel, alone or not."""
    names = list(names)
    plain = PALETTE[0 if len(names) == 1 else 2]
    kinds = {"train": PALETTE[0], "validation": PALETTE[1]}
    return {name: plain if name == _quantity(name) else kinds[name.partition(" ")[0]] for name in names}


def legend_line(canvas: Canvas, right: float, y: float, colors: Mapping[str, Color]) -> None:
    """Write names from the right, each after a stroke of its colour."""
    for name, color in reversed(list(colors.items())):
        right -= canvas.text_width(name, size=13)
        canvas.text((right, y), name, size=13, anchor="la")
        canvas.line([(right - 24, y + 8), (right - 6, y + 8)], color, width=3)
        right -= 40
