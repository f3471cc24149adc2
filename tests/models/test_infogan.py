"""InfoGAN's discriminator."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import InfoGANDiscriminator
from tests.testing_utils.adversarial import AdversarialTesterMixin
from tests.testing_utils.refusals import refused


class TestInfoGANDiscriminator(AdversarialTesterMixin):
    model_class = InfoGANDiscriminator
    configs = (
        {"in_channels": 1, "sample_size": 16, "width": 2, "num_categories": 3, "num_codes": 1},
        {"in_channels": 1, "sample_size": 8, "hidden_dims": (6,), "num_codes": 2, "norm": "spectral"},
        {"in_channels": 2, "sample_size": None, "num_categories": 4, "num_codes": 1},
    )
    inputs = AdversarialTesterMixin.image_inputs


def test_only_asked_for_codes_are_recognised():
    sample = torch.randn(5, 2)
    output = InfoGANDiscriminator(2, None, 3, 0)(sample)
    assert output.class_logits.shape == (5, 3) and output.code_mean is None and output.code_log_std is None
    output = InfoGANDiscriminator(2, None, None, 2)(1e6 * sample)
    assert output.class_logits is None and output.code_mean.shape == (5, 2)
    assert output.code_log_std.abs().max() <= 2 and output.logits.shape == (5,)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: InfoGANDiscriminator(num_categories=1), "num_categories must be None or at least 2"),
        (lambda: InfoGANDiscriminator(num_categories=None, num_codes=0), "not both none, got None and 0"),
        (lambda: InfoGANDiscriminator(2, None, hidden_dims=(0,)), "hidden_dims must be at least 1, got 0"),
        (lambda: InfoGANDiscriminator(2, None)(torch.zeros(2, 3)), r"takes samples of shape \(2,\), got \(3,\)"),
    ],
)
def test_impossible_networks_and_inputs_are_one_line_errors(build, message):
    with refused(message):
        build()
