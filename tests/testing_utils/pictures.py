"""What a test sees in a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image


def colored(picture: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    """(n, 2) places, row and column, of the pixels of nearly this colour (edges are smoothed)."""
    return np.argwhere(np.abs(np.asarray(picture).astype(int) - color).max(axis=2) < 60)
