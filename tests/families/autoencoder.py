"""The cases of family autoencoder."""

from __future__ import annotations

from hf_genmodels import Autoencoder, AutoencoderPipeline
from tests.testing_utils.cases import FamilyCase
from tests.testing_utils.networks import tiny_autoencoding

CASE = FamilyCase(
    options="--latent_dim 2 --block_out_channels 4 8 --classification_weight 0.1 --corruption gaussian",
    vector_options="--latent_dim 1 --architecture mlp --hidden_dims 8",
    pipelines={
        "AutoencoderPipeline": lambda shape, scale: AutoencoderPipeline(
            tiny_autoencoding(Autoencoder, shape), value_scale=scale
        )
    },
)
