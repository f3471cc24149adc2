"""The cases of family texture."""

from __future__ import annotations

from hf_genmodels import StationaryTexture, TexturePipeline
from tests.testing_utils.cases import Equal, FamilyCase

CASE = FamilyCase(
    pipelines={
        "TexturePipeline": lambda shape, scale: TexturePipeline(StationaryTexture(*shape[:2]), value_scale=scale)
    },
    images_only=frozenset({"TexturePipeline"}),
    equal={"texture": Equal({}, "builtin:digits")},
)
