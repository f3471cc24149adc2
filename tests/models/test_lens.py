"""The lens of tempered adversarial networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_genmodels import LensNetwork
from tests.testing_utils.adversarial import AdversarialTesterMixin
from tests.testing_utils.refusals import refused


class TestLensNetwork(AdversarialTesterMixin):
    model_class = LensNetwork
    configs = (
        {"in_channels": 1, "sample_size": 7, "width": 4, "num_blocks": 1},
        {"in_channels": 4, "sample_size": 8, "width": 4},
        {"in_channels": 2, "sample_size": None, "hidden_dims": (6, 5)},
        {"in_channels": 2, "sample_size": None, "hidden_dims": ()},
    )
    inputs = AdversarialTesterMixin.image_inputs


def widths(network: nn.Module) -> list[tuple[int, int]]:
    rows = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert (module.kernel_size, module.stride) == ((3, 3), (1, 1))
            rows.append((module.in_channels, module.out_channels))
        elif isinstance(module, nn.Linear):
            rows.append((module.in_features, module.out_features))
    return rows


def test_layers_have_the_asked_widths():
    assert widths(LensNetwork(3, 8, width=4, num_blocks=3)) == [(3, 4), *[(4, 4)] * 6, (4, 3)]
    assert widths(LensNetwork(2, None, hidden_dims=(6, 5))) == [(2, 6), (6, 5), (5, 2)]


SHAPES = pytest.mark.parametrize("shape", [(3, 8), (2, None)])


@SHAPES
def test_a_lens_without_residual_is_the_identity(shape):
    lens = LensNetwork(*shape, width=4)
    last = lens.residual[-1]
    nn.init.zeros_(last.weight), nn.init.constant_(last.bias, 0.25)
    channels, size = shape
    sample = torch.randn(4, channels) if size is None else torch.randn(4, channels, size, size)
    torch.testing.assert_close(lens(sample).sample, sample + 0.25)


@SHAPES
def test_a_new_lens_is_near_the_identity_but_not_on_it(shape):
    torch.manual_seed(0)
    channels, size = shape
    sample = torch.randn(16, channels) if size is None else torch.randn(16, channels, size, size)
    seen = LensNetwork(*shape)(sample).sample
    relative = ((seen - sample).square().mean() / sample.square().mean()).sqrt().item()
    assert 0.01 < relative < 0.5


def test_a_pixel_reaches_as_far_as_the_convolutions():
    """1 + 2 x 1 + 1 convolutions of 3x3: four pixels on each side."""
    torch.manual_seed(0)
    sample = torch.randn(1, 1, 13, 13, requires_grad=True)
    seen = LensNetwork(1, 13, width=8, num_blocks=1)(sample).sample
    (gradient,) = torch.autograd.grad(seen[0, 0, 6, 6], sample)
    reached = gradient[0, 0] != 0
    assert reached[2:11, 2:11].all()
    assert reached.sum() == 81


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LensNetwork(width=0), "width must be at least 1, got 0"),
        (lambda: LensNetwork(num_blocks=0), "num_blocks must be at least 1, got 0"),
        (lambda: LensNetwork(2, None, hidden_dims=(4, 0)), "hidden_dims must be at least 1, got 4 0"),
        (lambda: LensNetwork(3, 8, width=2)(torch.zeros(2, 3, 4, 4)), r"takes samples of shape \(3, 8, 8\)"),
        (lambda: LensNetwork(2, None)(torch.zeros(2, 3)), r"takes samples of shape \(2,\), got \(3,\)"),
    ],
)
def test_impossible_networks_and_inputs_are_one_line_errors(build, message):
    with refused(message):
        build()
