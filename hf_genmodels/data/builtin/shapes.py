"""`builtin:shapes`: one white shape on black with known factors of variation, to measure what a latent code captures.

In the manner of dSprites (L. Matthey et al., "dSprites: Disentanglement testing Sprites dataset", 2017): the same five
factors with the same numbers of values. It is drawn here rather than copied, so the outlines differ in detail, and it
holds 12,000 of the 737,280 combinations (10,000 "train", 2,000 "test", none twice) instead of all.
"""

from __future__ import annotations

import numpy as np

from .base import BuiltinSplit, refuse_config

SIZE = 64
NUM_IMAGES = {"train": 10_000, "test": 2_000}
SHAPES = ("square", "ellipse", "heart")
FACTORS = ("shape", "scale", "orientation", "x", "y")
# Values of the factors, in the order of FACTORS.
FACTOR_VALUES = (
    np.arange(3.0),
    np.linspace(0.5, 1.0, 6),
    2 * np.pi * np.arange(40) / 40,
    np.linspace(0.0, 1.0, 32),
    np.linspace(0.0, 1.0, 32),
)
# At scale 1 every shape fits a circle of this radius, in pixels; centres keep that far from the border.
RADIUS = 14.0
HEART_REACH = 1.4246


def _inside(shape: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points lie in a shape, in its own axes: y downwards, the shape within the unit circle."""
    if SHAPES[shape] == "square":
        return np.maximum(np.abs(x), np.abs(y)) <= np.sqrt(0.5)
    if SHAPES[shape] == "ellipse":
        return x**2 + (y / 0.5) ** 2 <= 1
    # The sextic heart (x^2 + y^2 - 1)^3 = x^2 y^3 reaches HEART_REACH from the origin.
    u, v = HEART_REACH * x, -HEART_REACH * y
    excess = u * u + v * v - 1
    return excess * excess * excess <= u * u * v * v * v


def render(factors: np.ndarray) -> np.ndarray:
    """Draws shapes without antialiasing: a pixel is white when its centre lies in the shape.

    Args:
        factors: `(images, 5)`: shape (0, 1, 2), scale, orientation in radians, x and y in [0, 1].

    Returns:
        `(images, 1, 64, 64)` uint8, 0 or 255.
    """
    images = np.zeros((len(factors), SIZE, SIZE), dtype=np.uint8)
    side = int(2 * RADIUS) + 1
    for shape in range(len(SHAPES)):
        examples = np.flatnonzero(factors[:, 0] == shape)
        # Blocks stay within the processor's cache.
        for block in np.array_split(examples, len(examples) // 256 + 1):
            scale, angle, x, y = factors[block, 1:].T.astype(np.float32)[:, :, None]
            # Only the pixels around the centre can be white.
            columns, dx = _window(x, side)
            rows, dy = _window(y, side)
            dx, dy = dx[:, None, :], dy[:, :, None]
            cosine, sine = (part[:, :, None] / (scale[:, :, None] * RADIUS) for part in (np.cos(angle), np.sin(angle)))
            white = _inside(shape, cosine * dx + sine * dy, cosine * dy - sine * dx)
            images[block[:, None, None], rows[:, :, None], columns[:, None, :]] = 255 * white
    return images[:, None]


def _window(position: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """`(images, side)` pixels around a position in [0, 1], and how far their centres are from it."""
    centre = RADIUS + position * (SIZE - 2 * RADIUS)
    first = np.minimum(np.ceil(centre - RADIUS - 0.5), SIZE - side).astype(np.int64)
    pixels = first + np.arange(side)
    return pixels, (pixels + 0.5 - centre).astype(np.float32)


def load_shapes(config: str | None, split: str) -> BuiltinSplit:
    """Returns binary `(examples, 1, 64, 64)` uint8 images, labelled with their shape.

    The extra column "factors", `(examples, 5)` float32, holds shape, scale, orientation in radians, x and y. A square
    looks the same after a quarter turn and an ellipse after half a turn.

    Raises:
        UserError: A variant is asked for.
    """
    refuse_config("shapes", config)
    sizes = tuple(len(values) for values in FACTOR_VALUES)
    drawn = np.random.default_rng(0).choice(np.prod(sizes), size=sum(NUM_IMAGES.values()), replace=False)
    chosen = drawn[: NUM_IMAGES["train"]] if split == "train" else drawn[NUM_IMAGES["train"] :]
    positions = np.unravel_index(chosen, sizes)
    factors = np.stack([values[position] for values, position in zip(FACTOR_VALUES, positions, strict=True)], axis=1)
    return BuiltinSplit(
        render(factors), 255.0, positions[0].astype(np.int64), SHAPES, {"factors": factors.astype(np.float32)}
    )
