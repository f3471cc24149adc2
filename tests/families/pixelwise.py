"""The cases of family pixelwise."""

from __future__ import annotations

from hf_genmodels import PixelwiseGenerator, PixelwisePipeline
from tests.testing_utils.cases import Equal, FamilyCase

CASE = FamilyCase(
    options="--width 2 --num_residual_blocks 1 --known_pixels 0.05",
    pipelines={
        "PixelwisePipeline": lambda shape, scale: PixelwisePipeline(
            PixelwiseGenerator(shape[0], shape[1], width=2, num_residual_blocks=1), value_scale=scale
        )
    },
    images_only=frozenset({"PixelwisePipeline"}),
    equal={
        "pixelwise": Equal(
            {"width": 2, "num_residual_blocks": 1, "known_pixels": 0.05, "discriminator_norm": "instance"},
            "builtin:digits",
            float64=True,
        )
    },
    resumed={"pixelwise": {"width": 2, "num_residual_blocks": 1, "latent_dim": None}},
)
