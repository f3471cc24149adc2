"""The cases of family gaussian_mixture."""

from __future__ import annotations

from hf_genmodels import GaussianMixtureModel, GaussianMixturePipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import size_of

CASE = FamilyCase(
    options="--num_components 2",
    vector_options="--num_components 2",
    pipelines={
        "GaussianMixturePipeline": lambda shape, scale: GaussianMixturePipeline(
            GaussianMixtureModel(shape[0], size_of(shape), 3, num_levels=None if len(shape) == 1 else 256),
            value_scale=scale,
        )
    },
    equal={"gaussian_mixture": Equal({"num_components": 3, "covariance_type": "diag"}, "builtin:digits")},
)
