"""`builtin:digits`: 1,797 real handwritten digits of 8x8 pixels, from scikit-learn.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998 (its
test part, which scikit-learn ships). A pixel counts the ink dots in a 4x4 block: one of the 17 grey levels 0..16.
"""

from __future__ import annotations

import numpy as np

from ...errors import UserError
from .base import BuiltinSplit, refuse_config


def load_digits(config: str | None, split: str) -> BuiltinSplit:
    """Returns the digits of a split: four fifths of every class are "train", the rest is "test".

    Pixels are `(examples, 1, 8, 8)` uint8 in 0..16 (value_scale 16.0); the ten classes are "0" to "9".

    Raises:
        UserError: scikit-learn is not installed, or a variant is asked for.
    """
    refuse_config("digits", config)
    try:
        from sklearn import datasets
    except ImportError as error:
        raise UserError("builtin:digits needs scikit-learn: pip install hf_genmodels[builtin]") from error
    digits = datasets.load_digits()
    labels = digits.target.astype(np.int64)
    held_out = np.zeros(len(labels), dtype=bool)
    generator = np.random.default_rng(0)
    for digit in range(10):
        rows = generator.permutation(np.flatnonzero(labels == digit))
        held_out[rows[: len(rows) // 5]] = True
    chosen = held_out if split == "test" else ~held_out
    pixels = digits.images[chosen].astype(np.uint8)[:, None]
    return BuiltinSplit(pixels, 16.0, labels[chosen], tuple(str(digit) for digit in range(10)))
