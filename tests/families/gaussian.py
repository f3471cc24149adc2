"""The cases of family gaussian."""

from __future__ import annotations

from hf_genmodels import GaussianModel, GaussianPipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import size_of

CASE = FamilyCase(
    vector_options="",
    pipelines={
        "GaussianPipeline": lambda shape, scale: GaussianPipeline(
            GaussianModel(shape[0], size_of(shape), 2, None if len(shape) == 1 else 256), value_scale=scale
        )
    },
    equal={"gaussian": Equal({"num_components": 3}, "builtin:digits")},
)
