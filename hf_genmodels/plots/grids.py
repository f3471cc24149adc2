"""Images beside each other and pictures one above the other."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .canvas import INK, PAPER

MIN_TILE = 56


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


def chains_picture(forward: Tensor, reverse: Tensor) -> Image.Image:
    """The two chains of a diffusion model: noise is added above, from left to right, and taken out below.

    Both have the same noise in a column, least at the left: above the data end in noise, below noise becomes samples.

    Args:
        forward: x_0 to x_T, (steps, batch, channels, height, width) in [0, 1]; each example is a row.
        reverse: x_0 to x_T as well, same shape.

    Raises:
        ValueError: They have different shapes.
    """
    if forward.shape != reverse.shape:
        raise ValueError(f"chains_picture needs equal shapes, got {tuple(forward.shape)} and {tuple(reverse.shape)}")
    steps = len(forward)
    above, below = (image_grid(chain.transpose(0, 1).flatten(0, 1), steps) for chain in (forward, reverse))
    return stack_pictures({"forward: noise is added, left to right": above, "reverse: from right to left": below})


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


def _channels_side_by_side(images: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    return images.permute(0, 2, 1, 3).reshape(batch, 1, height, channels * width)
