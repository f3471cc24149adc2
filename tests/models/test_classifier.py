"""The classifier network; `metrics/test_extractors.py` has its shapes and the features it gives to metrics."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import Classifier, UserError
from tests.testing_utils.models import ModelTesterMixin


class TestClassifier(ModelTesterMixin):
    model_class = Classifier
    configs = (
        {"in_channels": 1, "sample_size": 8, "num_classes": 3, "block_out_channels": (4, 8), "feature_dim": 5},
        {"in_channels": 3, "sample_size": 11, "num_classes": 2, "block_out_channels": (8,), "feature_dim": 4},
    )

    def inputs(self, config, generator):
        return {"sample": torch.rand(4, *self.sample_shape(config), generator=generator) * 2 - 1}


def test_logits_are_linear_in_the_features():
    torch.manual_seed(0)
    network = Classifier(sample_size=8, num_classes=3, block_out_channels=(4,), feature_dim=5)
    output = network(torch.randn(2, 1, 8, 8))
    torch.testing.assert_close(output.logits, output.features @ network.head.weight.T + network.head.bias)


class TestNoisyClassifier(ModelTesterMixin):
    model_class = Classifier
    configs = (
        {
            "in_channels": 2,
            "sample_size": 8,
            "num_classes": 3,
            "block_out_channels": (4, 8),
            "feature_dim": 5,
            "noise_schedule": {"num_train_timesteps": 9},
        },
    )

    def inputs(self, config, generator):
        sample = torch.rand(4, *self.sample_shape(config), generator=generator) * 2 - 1
        return {"sample": sample, "timestep": torch.tensor([0, 3, 8, 4])}


def test_noisy_images_are_classified_by_their_time_step():
    torch.manual_seed(0)
    network = Classifier(sample_size=8, noise_schedule={"num_train_timesteps": 9}).eval()
    sample = torch.randn(2, 1, 8, 8)
    late, early = (network(sample, timestep=torch.tensor(step)).logits for step in (8, 0))
    assert not torch.allclose(late, early, atol=1e-3)
    torch.testing.assert_close(network(sample).logits, early)
    torch.testing.assert_close(network(sample, False)[0], early)
    torch.testing.assert_close(network(sample, timestep=torch.tensor([8, 8])).logits, late)
    with pytest.raises(UserError, match="it was trained on clean images"):
        Classifier(sample_size=8)(sample, timestep=torch.tensor(8))


def test_another_shape_is_a_one_line_error():
    with pytest.raises(UserError, match=r"takes samples of shape \(1, 8, 8\), got \(3, 8, 8\)"):
        Classifier(sample_size=8)(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_dim": 0}, "feature_dim must be at least 1, got 0"),
        ({"block_out_channels": (4, 0)}, "block_out_channels must be at least 1, got 4 0"),
        ({"block_out_channels": ()}, "needs at least one width in block_out_channels"),
        ({"sample_size": 4}, r"sample_size 4 is too small; use 8 or more \(--resolution\)"),
    ],
)
def test_impossible_sizes_are_one_line_errors(options, message):
    with pytest.raises(UserError, match=message):
        Classifier(**options)
