"""The cases of family classifier."""

from __future__ import annotations

from hf_genmodels import Classifier
from hf_genmodels.objectives.classifier import ClassifierObjective
from tests.testing_utils.cases import Equal, FamilyCase


def of_noisy_images(objective: ClassifierObjective) -> ClassifierObjective:
    """One that learns from images with the noise of a diffusion model."""
    config = {**objective.networks["classifier"].config, "noise_schedule": {"num_train_timesteps": 9}}
    return ClassifierObjective(Classifier.from_config(config), objective.data)


CASE = FamilyCase(
    options="--block_out_channels 4 8 --feature_dim 5",
    equal={
        "noisy": Equal({"block_out_channels": [4, 8], "feature_dim": 5}, "builtin:digits", change=of_noisy_images),
    },
)
