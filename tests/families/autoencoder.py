"""The cases of family autoencoder."""

from __future__ import annotations

from hf_genmodels import Autoencoder, AutoencoderObjective, AutoencoderPipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_autoencoding


def with_an_idle_head(objective: AutoencoderObjective) -> AutoencoderObjective:
    """As a saved supervised network is trained further without labels."""
    network = Autoencoder(2, None, architecture="mlp", hidden_dims=(8,), latent_dim=1, norm="none", num_classes=3)
    return AutoencoderObjective(network, objective.data)


CASE = FamilyCase(
    options="--latent_dim 2 --block_out_channels 4 8 --classification_weight 0.1 --corruption gaussian",
    vector_options="--latent_dim 1 --architecture mlp --hidden_dims 8",
    pipelines={
        "AutoencoderPipeline": lambda shape, scale: AutoencoderPipeline(
            tiny_autoencoding(Autoencoder, shape), value_scale=scale
        )
    },
    equal={"idle head": Equal({"architecture": "mlp", "hidden_dims": [8], "latent_dim": 1}, change=with_an_idle_head)},
)
