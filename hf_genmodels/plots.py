"""Pictures of samples, losses and latents, drawn with Pillow alone.

Every function returns a `PIL.Image.Image`; nothing is written here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

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
MIN_TILE = 56
MAX_LEGEND = 22
# Charts are drawn this many times larger and reduced, because Pillow's lines and dots have no smooth edges.
OVERSAMPLING = 3

Point = tuple[float, float]
Color = tuple[int, int, int]
Box = tuple[float, float, float, float]


def image_grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """Lay images out in rows, small ones enlarged by a whole factor (nearest neighbour) until a tile has 56 pixels.

    Args:
        images: (batch, channels, height, width) in [0, 1]; values outside are clipped. One channel gives a grey
            picture, three an RGB one; with any other number each image becomes a row of grey tiles, one per channel.
        columns: Images per row; by default the smallest number that makes the grid at least as wide as it is high.

    Raises:
        ValueError: `images` is not four-dimensional or is empty.
    """
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"image_grid needs a non-empty (batch, channels, height, width), got {tuple(images.shape)}")
    columns = columns or math.ceil(math.sqrt(len(images)))
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    if pixels.shape[1] not in (1, 3):
        pixels = _channels_side_by_side(pixels)
    factor = max(1, math.ceil(MIN_TILE / min(images.shape[-2:])))
    pixels = pixels.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)

    count, channels, height, width = pixels.shape
    columns, rows, gap = min(columns, count), math.ceil(count / columns), 2
    sheet = torch.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, dtype=torch.uint8)
    for index, tile in enumerate(pixels):
        top, left = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile.permute(1, 2, 0)
    return Image.fromarray(sheet.squeeze(2).numpy() if channels == 1 else sheet.numpy())


def stack_pictures(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Put pictures one above the other, each under its name.

    Args:
        pictures: name -> picture of any mode and size.

    Raises:
        ValueError: There is none.
    """
    if not pictures:
        raise ValueError("stack_pictures needs at least one picture")
    line, margin, font = 24, 6, ImageFont.load_default(14)
    width = max(max(picture.width, math.ceil(font.getlength(name))) for name, picture in pictures.items())
    height = sum(line + picture.height + margin for picture in pictures.values())
    sheet = Image.new("RGB", (width + 2 * margin, height), PAPER)
    draw, top = ImageDraw.Draw(sheet), 0
    for name, picture in pictures.items():
        draw.text((margin, top + line / 2), name, fill=INK, font=font, anchor="lm")
        sheet.paste(picture.convert("RGB"), (margin, top + line))
        top += line + picture.height + margin
    return sheet


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
    canvas = _Canvas(width, top + panel_height * len(panels) + bottom)
    canvas.text((width / 2, 14), title, size=18, anchor="ma")
    xs = [x for panel in panels.values() for points in panel.values() for x, _ in points]
    whole = all(x.is_integer() for x in xs)
    for row, (quantity, panel) in enumerate(panels.items()):
        ys = [y for points in panel.values() for _, y in points]
        y = top + row * panel_height
        axes = _Axes((72, y + 30, width - 20, y + panel_height - 26), (min(xs), max(xs)), (min(ys), max(ys)), whole)
        axes.draw(canvas)
        canvas.text((72, y + 8), f"{y_label} {quantity}".strip(), size=14, anchor="la")
        colors = _curve_colors(panel)
        for name, points in panel.items():
            canvas.line([axes.place(point) for point in points], colors[name])
        if list(panel) != [quantity]:
            _legend_line(canvas, width - 20, y + 8, colors)
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
    canvas = _Canvas(side + legend, side + top - 46)
    canvas.text((side / 2, 14), title, size=18, anchor="ma")
    low, high = places.min(axis=0), places.max(axis=0)
    middle, reach = (
        (low + high) / 2,
        float((high - low).max()) / 2,
    )  # one scale for both axes: distances can be compared
    x_range, y_range = ((float(center) - reach, float(center) + reach) for center in middle)
    axes = _Axes((60, top, side - 16, top + side - 76), x_range, y_range)
    axes.draw(canvas)
    radius = 1.5 if len(places) > 5000 else 2.5 if len(places) > 500 else 4.0
    colors = dict(zip(names.tolist(), _colors(len(names)), strict=True))
    for (x, y), kind in zip(places.tolist(), kinds.tolist(), strict=True):
        canvas.dot(axes.place((x, y)), radius, colors[kind])
    if labels is not None:
        for row, (name, color) in enumerate(list(colors.items())[:MAX_LEGEND]):
            canvas.dot((side + 10, top + 12 + 22 * row), 5, color)
            canvas.text((side + 24, top + 12 + 22 * row), str(name), size=14, anchor="lm")
        if len(colors) > MAX_LEGEND:
            canvas.text((side + 24, top + 12 + 22 * MAX_LEGEND), "...", size=14, anchor="lm")
    return canvas.finished()


@dataclass(frozen=True)
class _Axes:
    """A rectangle of the canvas (left, top, right, bottom), the ranges of values it shows, and whether x is whole."""

    box: Box
    x_range: Point
    y_range: Point
    whole_x: bool = False

    def place(self, point: Point) -> Point:
        left, top, right, bottom = self.box
        (x0, x1), (y0, y1) = _padded(self.x_range), _padded(self.y_range)
        return left + (point[0] - x0) / (x1 - x0) * (right - left), bottom - (point[1] - y0) / (y1 - y0) * (
            bottom - top
        )

    def draw(self, canvas: _Canvas) -> None:
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


class _Canvas:
    """A white picture with smooth lines, in pixels of the finished picture."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._image = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[Point], color: Color, width: float = 2) -> None:
        if len(points) == 1:
            self.dot(points[0], 3, color)
        else:
            scaled = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
            self._draw.line(scaled, fill=color, width=round(width * OVERSAMPLING), joint="curve")

    def dot(self, center: Point, radius: float, color: Color) -> None:
        x, y, r = (value * OVERSAMPLING for value in (*center, radius))
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def text(self, place: Point, text: str, *, size: float, anchor: str) -> None:
        font = ImageFont.load_default(size * OVERSAMPLING)
        self._draw.text((place[0] * OVERSAMPLING, place[1] * OVERSAMPLING), text, fill=INK, font=font, anchor=anchor)

    def text_width(self, text: str, *, size: float) -> float:
        return ImageFont.load_default(size * OVERSAMPLING).getlength(text) / OVERSAMPLING

    def finished(self) -> Image.Image:
        return self._image.resize((self.width, self.height), Image.Resampling.LANCZOS)


def _quantity(name: str) -> str:
    return name.removeprefix("train ").removeprefix("validation ")


def _curve_colors(names: Iterable[str]) -> dict[str, Color]:
    """Colours of one panel's curves; held-out figures look alike in every panel, alone or not."""
    names = list(names)
    plain = PALETTE[0 if len(names) == 1 else 2]
    kinds = {"train": PALETTE[0], "validation": PALETTE[1]}
    return {name: plain if name == _quantity(name) else kinds[name.partition(" ")[0]] for name in names}


def _legend_line(canvas: _Canvas, right: float, y: float, colors: Mapping[str, Color]) -> None:
    for name, color in reversed(list(colors.items())):
        right -= canvas.text_width(name, size=13)
        canvas.text((right, y), name, size=13, anchor="la")
        canvas.line([(right - 24, y + 8), (right - 6, y + 8)], color, width=3)
        right -= 40


def _channels_side_by_side(images: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    return images.permute(0, 2, 1, 3).reshape(batch, 1, height, channels * width)


def _colors(count: int) -> list[Color]:
    return [PALETTE[index % len(PALETTE)] for index in range(count)]


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
