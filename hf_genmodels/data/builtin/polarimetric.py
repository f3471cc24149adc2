"""`builtin:polarimetric`: rendered scenes in colour, through polarisers, in grey, as depth and as label maps.

What is where, and how it is lit, is drawn at random; what follows from it is physics (`polarimetric_scenes`), so every
image is admissible: I0 + I90 = I45 + I135 and S0^2 >= S1^2 + S2^2, up to the rounding of float32.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...errors import UserError
from ..spec import MIRRORED_ANGLES
from .base import SPLITS, BuiltinSplit
from .polarimetric_scenes import KINDS, draw_scene, render

NUM_IMAGES = {"train": 2_000, "test": 200}
# Pixels, and whether the bodies of the test split are of a kind that is not in the training split.
VARIANTS = {"64": (64, False), "32": (32, False), "unseen": (64, True), "unseen-32": (32, True)}
SEEN, UNSEEN = ("sphere", "box"), ("cone",)


@lru_cache(maxsize=2)
def _render_split(size: int, split: str, unseen: bool) -> dict[str, np.ndarray]:
    generator = np.random.Generator(np.random.PCG64([0x901A2, SPLITS.index(split), unseen]))
    scenes = (draw_scene(generator, UNSEEN if unseen else SEEN) for _ in range(NUM_IMAGES[split]))
    rendered = [render(scene, size) for scene in scenes]
    return {name: np.stack([images[name] for images in rendered]) for name in rendered[0]}


def load_polarimetric(config: str | None, split: str) -> BuiltinSplit:
    """Returns 2,000 ("train") or 200 ("test") scenes, float32 in [0, 1], of 64x64 pixels or, in "32", 32x32.

    Variants: "64" (also None), "32", "unseen" and "unseen-32"; scenes hold spheres and boxes, but in the test split of
    the "unseen" ones cones, the training split being that of "64" and "32".

    "image", which is also the column "conditioning_image", is `(examples, 3, size, size)`: red, green and blue. Also:
    "target_image", `(examples, 4, size, size)`, the same light behind polarisers, I0, I45, I90, I135 (in a mirror I45
    and I135 change places); "intensity", `(examples, 1, size, size)`, the mean of those four, half of S0 = I0 + I90;
    "depth", `(examples, 1, size, size)`, the distance from the camera's plane, 1 for the sky; "masks", `(examples, 4,
    size, size)` of 0 and 1: where a sphere, a box, a cone (walls and ground are none of them), and where a glossy
    surface of any kind is seen; "labels", `(examples, 1, size, size)` of uint8: what is seen, a label map with the
    classes `KINDS`, to learn with --target_kind labels.

    Raises:
        UserError: There is no such variant.
    """
    if config is not None and config not in VARIANTS:
        raise UserError(
            f"builtin:polarimetric has no variant {config!r}: choose --dataset_config_name from {', '.join(VARIANTS)}"
        )
    size, unseen = VARIANTS[config or "64"]
    images = _render_split(size, split, unseen and split == "test")
    columns = {
        "conditioning_image": images["rgb"],
        "target_image": images["angles"],
        "intensity": images["intensity"],
        "depth": images["depth"],
        "masks": images["masks"],
        "labels": images["labels"],
    }
    mirrored = {"target_image": MIRRORED_ANGLES}
    return BuiltinSplit(images["rgb"], 1.0, columns=columns, mirrored_channels=mirrored, label_names={"labels": KINDS})
