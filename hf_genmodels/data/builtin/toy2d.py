"""`builtin:toy2d`: points in the plane from densities whose shape is known, to look at what a model has learnt.

50,000 training and 10,000 test points per variant, always the same ones. Labels are the mode or branch a point was
drawn from; `swiss_roll` and `avae` have none.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from ...errors import UserError
from .base import SPLITS, BuiltinSplit

NUM_POINTS = {"train": 50_000, "test": 10_000}

Points = tuple[np.ndarray, np.ndarray | None]


def _around(centres: np.ndarray, std: float, count: int, generator: np.random.Generator) -> Points:
    labels = generator.integers(len(centres), size=count)
    return centres[labels] + std * generator.standard_normal((count, 2)), labels


def ring8(count: int, generator: np.random.Generator) -> Points:
    """Eight Gaussians of standard deviation 0.05 on a circle of radius 2 (Metz et al., arXiv 1611.02163)."""
    angles = 2 * np.pi * np.arange(8) / 8
    return _around(2 * np.stack([np.cos(angles), np.sin(angles)], axis=1), 0.05, count, generator)


def grid25(count: int, generator: np.random.Generator) -> Points:
    """25 Gaussians of standard deviation 0.05 on the grid {-4, -2, 0, 2, 4}^2."""
    ticks = 2.0 * np.arange(-2, 3)
    return _around(np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(25, 2), 0.05, count, generator)


def moons(count: int, generator: np.random.Generator) -> Points:
    """Two interleaved half circles of radius 1, noise 0.1."""
    labels = generator.integers(2, size=count)
    angles = np.pi * generator.random(count)
    upper = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    lower = np.array([1.0, 0.5]) - upper
    points = np.where(labels[:, None] == 0, upper, lower)
    return points + 0.1 * generator.standard_normal((count, 2)), labels


def _concentric(radii: np.ndarray, std: float, count: int, generator: np.random.Generator) -> Points:
    labels = generator.integers(len(radii), size=count)
    angles = 2 * np.pi * generator.random(count)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return radii[labels, None] * circle + std * generator.standard_normal((count, 2)), labels


def circles(count: int, generator: np.random.Generator) -> Points:
    """Two concentric circles of radii 0.5 and 1, noise 0.05."""
    return _concentric(np.array([0.5, 1.0]), 0.05, count, generator)


def rings(count: int, generator: np.random.Generator) -> Points:
    """Four concentric circles of radii 0.75, 1.5, 2.25 and 3, noise 0.05."""
    return _concentric(np.array([0.75, 1.5, 2.25, 3.0]), 0.05, count, generator)


def swiss_roll(count: int, generator: np.random.Generator) -> Points:
    """A spiral of one and a half turns, 0.9 to 2.8 from the origin, noise 0.05."""
    angles = 1.5 * np.pi * (1 + 2 * generator.random(count))
    points = angles[:, None] / 5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points + 0.05 * generator.standard_normal((count, 2)), None


def avae(count: int, generator: np.random.Generator) -> Points:
    """The two-branched curve of the AVAE thesis, section 3.4.1 (A. Plumerault).

    `x = (3 z1 + 0.1 e1, cos(3 z1 + tanh(3 z2)) + 0.1 e2)` with z1, z2, e1, e2 independent N(0, 1). The text writes one
    symbol for e1 and e2 without saying whether they are the same draw; here they are not.
    """
    z1, z2, e1, e2 = generator.standard_normal((4, count))
    return np.stack([3 * z1 + 0.1 * e1, np.cos(3 * z1 + np.tanh(3 * z2)) + 0.1 * e2], axis=1), None


VARIANTS: dict[str, Callable[[int, np.random.Generator], Points]] = {
    function.__name__: function for function in (ring8, grid25, moons, circles, rings, swiss_roll, avae)
}


def load_toy2d(config: str | None, split: str) -> BuiltinSplit:
    """Returns the points of a variant, `(examples, 2)` float32; `config` None means `ring8`.

    Raises:
        UserError: There is no such variant.
    """
    config = config or "ring8"
    if config not in VARIANTS:
        raise UserError(
            f"builtin:toy2d has no variant {config!r}: choose --dataset_config_name from {', '.join(VARIANTS)}"
        )
    seed = [zlib.crc32(config.encode()), SPLITS.index(split)]
    points, labels = VARIANTS[config](NUM_POINTS[split], np.random.Generator(np.random.PCG64(seed)))
    pixels = points.astype(np.float32)
    if labels is None:
        return BuiltinSplit(pixels, 1.0)
    return BuiltinSplit(pixels, 1.0, labels.astype(np.int64), tuple(str(mode) for mode in range(labels.max() + 1)))
