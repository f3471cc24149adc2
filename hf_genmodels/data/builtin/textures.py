"""`builtin:textures`: photographs of a brick wall, grass and gravel, 512x512 grey, from scikit-image (all CC0).

Without a variant: quarters of the photographs, for models of one exemplar. Variants `brick`, `grass`, `gravel`: many
overlapping patches of one photograph.
"""

from __future__ import annotations

import numpy as np

from ...errors import UserError
from .base import BuiltinSplit

TEXTURES = ("brick", "grass", "gravel")
PATCH, STRIDE = 64, 16


def load_textures(config: str | None, split: str) -> BuiltinSplit:
    """Returns parts of the photographs, `(examples, 1, height, width)` uint8.

    Without a variant, three of the four 256x256 quarters of each photograph are "train", the last (bottom right) is
    "test"; the classes are the textures. With one, the 64x64 patches that begin at every 16th row and column: those of
    the photograph's left three quarters are "train", those of its right quarter are "test"; no classes.

    Raises:
        UserError: scikit-image is not installed, or there is no such variant.
    """
    if config is not None and config not in TEXTURES:
        raise UserError(
            f"builtin:textures has no variant {config!r}: choose --dataset_config_name from {', '.join(TEXTURES)}"
        )
    try:
        from skimage import data
    except ImportError as error:
        raise UserError("builtin:textures needs scikit-image: pip install hf_genmodels[builtin]") from error
    photographs = {name: getattr(data, name)() for name in ((config,) if config else TEXTURES)}
    if config is not None:
        width = photographs[config].shape[1]
        part = (
            photographs[config][:, : 3 * width // 4] if split == "train" else photographs[config][:, 3 * width // 4 :]
        )
        patches = np.lib.stride_tricks.sliding_window_view(part, (PATCH, PATCH))[::STRIDE, ::STRIDE]
        return BuiltinSplit(patches.reshape(-1, 1, PATCH, PATCH), 255.0)
    quarters = [
        half
        for photograph in photographs.values()
        for rows in np.split(photograph, 2)
        for half in np.split(rows, 2, axis=1)
    ]
    chosen = [index for index in range(len(quarters)) if (index % 4 == 3) == (split == "test")]
    labels = np.array([index // 4 for index in chosen])
    return BuiltinSplit(np.stack([quarters[index] for index in chosen])[:, None], 255.0, labels, TEXTURES)
