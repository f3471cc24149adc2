"""`builtin:edges`: coloured shapes and their outlines, to learn to fill in the colours (image to image, paired).

In the manner of "edges to photo" (P. Isola et al., arXiv 1611.07004). A shape's kind and size decide its colour, so
the outlines tell the whole picture: what a translator gets wrong, it has not learnt.
"""

from __future__ import annotations

import numpy as np

from .base import SPLITS, BuiltinSplit, refuse_config

SIZE = 64
NUM_IMAGES = {"train": 2_000, "test": 200}
KINDS = ("ellipse", "rectangle", "triangle", "hexagon")
MAX_SHAPES = 4
RADII = (8.0, 18.0)
# Colours of the smallest and of the largest shape of each kind; those between are mixed.
COLOURS = np.array(
    [
        [[1.00, 0.35, 0.25], [0.55, 0.05, 0.15]],
        [[0.45, 0.90, 0.35], [0.05, 0.40, 0.20]],
        [[0.40, 0.65, 1.00], [0.10, 0.15, 0.60]],
        [[1.00, 0.85, 0.30], [0.60, 0.35, 0.00]],
    ]
)
# Colours of the background's top and bottom row.
BACKGROUND = np.array([[0.95, 0.95, 0.90], [0.75, 0.78, 0.82]])
# Shapes are lit from above: this much darker at the bottom of their circle than at its top.
SHADE = 0.3
# Images drawn at a time, which stay within the processor's cache.
BLOCK = 32


def _reach(kind: int, x: np.ndarray, y: np.ndarray, aspect: np.ndarray) -> np.ndarray:
    """A function that is at most 1 inside a shape of radius 1, in its own axes."""
    if KINDS[kind] == "ellipse":
        return x**2 + (y / aspect) ** 2
    if KINDS[kind] == "rectangle":
        # Its corners lie on the unit circle.
        return np.maximum(np.abs(x), np.abs(y) / aspect) * np.sqrt(1 + aspect**2)
    corners = 3 if KINDS[kind] == "triangle" else 6
    normals = 2 * np.pi * np.arange(corners) / corners
    sides = [np.cos(normal) * x + np.sin(normal) * y for normal in normals]
    return np.maximum.reduce(sides) / np.cos(np.pi / corners)


def _draw(generator: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Parameters of the shapes, `(images, MAX_SHAPES)` each, in the order they are painted."""
    shape = (count, MAX_SHAPES)
    radius = generator.uniform(*RADII, shape)
    # Every image has two shapes or more; the large ones are painted first.
    present = np.arange(MAX_SHAPES) >= MAX_SHAPES - generator.integers(2, MAX_SHAPES + 1, (count, 1))
    radius = -np.sort(-radius, axis=1)
    return {
        "present": present,
        "kind": generator.integers(len(KINDS), size=shape),
        "radius": radius,
        "aspect": generator.uniform(0.5, 1.0, shape),
        "angle": generator.uniform(0, 2 * np.pi, shape),
        "x": radius + generator.random(shape) * (SIZE - 2 * radius),
        "y": radius + generator.random(shape) * (SIZE - 2 * radius),
    }


def _paint(shapes: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Draws a block of images: `(images, 64, 64, 3)` in [0, 1], and which shape each pixel shows (0 for none)."""
    centres = np.arange(SIZE, dtype=np.float32) + 0.5
    count = len(shapes["kind"])
    shown = np.zeros((count, SIZE, SIZE), dtype=np.int8)
    rows = (centres / SIZE)[:, None, None]
    pictures = np.empty((count, SIZE, SIZE, 3), dtype=np.float32)
    pictures[:] = (1 - rows) * BACKGROUND[0] + rows * BACKGROUND[1]
    for layer in range(MAX_SHAPES):
        for kind in range(len(KINDS)):
            chosen = np.flatnonzero(shapes["present"][:, layer] & (shapes["kind"][:, layer] == kind))
            radius, aspect, angle, x, y = (
                shapes[name][chosen, layer].astype(np.float32)[:, None, None]
                for name in ("radius", "aspect", "angle", "x", "y")
            )
            dx, dy = (centres - x) / radius, (centres[:, None] - y) / radius
            cosine, sine = np.cos(angle), np.sin(angle)
            inside = _reach(kind, cosine * dx + sine * dy, cosine * dy - sine * dx, aspect) <= 1
            size = ((radius - RADII[0]) / (RADII[1] - RADII[0]))[..., None]
            colour = (1 - size) * COLOURS[kind, 0] + size * COLOURS[kind, 1]
            light = 1 - SHADE * (1 + dy[..., None]) / 2
            pictures[chosen] = np.where(inside[..., None], colour * light, pictures[chosen])
            shown[chosen] = np.where(inside, layer + 1, shown[chosen])
    return pictures, shown


def _outlines(shown: np.ndarray) -> np.ndarray:
    """Pixels of a shape that have something painted before it above, below, to the left or to the right."""
    padded = np.pad(shown, ((0, 0), (1, 1), (1, 1)), mode="edge")
    neighbours = (padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
    return shown > np.minimum.reduce(neighbours)


def load_edges(config: str | None, split: str) -> BuiltinSplit:
    """Returns pairs of 64x64 images, uint8: 2,000 "train", 200 "test".

    The column "target_image", which is also the set's "image", is `(examples, 3, 64, 64)`: two to four ellipses,
    rectangles, triangles and hexagons, mildly shaded. "conditioning_image" is `(examples, 1, 64, 64)`, 255 on the
    outlines (one pixel wide, not antialiased) and 0 elsewhere.

    Raises:
        UserError: A variant is asked for.
    """
    refuse_config("edges", config)
    generator = np.random.Generator(np.random.PCG64([0xED6E5, SPLITS.index(split)]))
    shapes = _draw(generator, NUM_IMAGES[split])
    pictures = np.empty((NUM_IMAGES[split], 3, SIZE, SIZE), dtype=np.uint8)
    outlines = np.empty((NUM_IMAGES[split], 1, SIZE, SIZE), dtype=np.uint8)
    for start in range(0, NUM_IMAGES[split], BLOCK):
        block = slice(start, start + BLOCK)
        painted, shown = _paint({name: values[block] for name, values in shapes.items()})
        pictures[block] = np.round(255 * painted).astype(np.uint8).transpose(0, 3, 1, 2)
        outlines[block, 0] = np.where(_outlines(shown), 255, 0)
    return BuiltinSplit(pictures, 255.0, columns={"target_image": pictures, "conditioning_image": outlines})
