"""The cases of family began."""

from __future__ import annotations

from tests.testing_utils.cases import Equal, FamilyCase

CASE = FamilyCase(
    options="--latent_dim 2 --width 2",
    vector_options="--latent_dim 2 --hidden_dims 8",
    equal={
        "began": Equal(
            {"hidden_dims": [16], "latent_dim": 2, "lambda_k": 0.3},
            of_one_process=frozenset({"discriminator/convergence"}),
        )
    },
    resumed={"began": {"dataset_name": "builtin:toy2d", "hidden_dims": 8, "lambda_k": 0.3}},
)
