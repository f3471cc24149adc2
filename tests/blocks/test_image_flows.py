"""Glow's layers: bijections, and the same maps as their slow formulas."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hf_genmodels import UserError
from hf_genmodels.blocks.flows import ActNorm
from hf_genmodels.blocks.image_flows import FlowStep, InvertibleConv1x1, Squeeze
from tests.testing_utils.flows import assert_bijection, assert_log_det, perturb

LAYERS = {
    "squeeze": Squeeze,
    "actnorm": lambda: ActNorm(4),
    "conv": lambda: InvertibleConv1x1(4),
    "step": lambda: FlowStep(4, hidden_channels=8, scale_limit=2.0),
}


def images(batch: int = 3, channels: int = 4, size: int = 4) -> torch.Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=LAYERS)
def layer(request):
    torch.manual_seed(0)
    layer = LAYERS[request.param]()
    perturb(layer, 0.2)
    return layer


def test_layers_are_bijections(layer):
    assert_bijection(layer.forward, layer.inverse, images())


def test_layers_know_their_jacobian(layer):
    assert_log_det(layer.forward, images(2))


def test_every_parameter_of_a_layer_gets_a_gradient(layer):
    for direction in (layer.forward, layer.inverse):
        layer.zero_grad()
        output, log_det = direction(images().requires_grad_())
        (output.square().sum() + log_det.sum()).backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())


def test_squeeze_puts_each_square_into_channels():
    sample = torch.arange(16.0).view(1, 1, 4, 4)
    squeezed, _ = Squeeze()(sample)
    assert squeezed.shape == (1, 4, 2, 2)
    assert squeezed[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert squeezed[0, :, 1, 1].tolist() == [10, 11, 14, 15]


@torch.no_grad()
def test_1x1_convolution_is_the_matrix_that_it_was_given():
    weight = torch.randn(5, 5, generator=torch.Generator().manual_seed(2))
    conv = InvertibleConv1x1(5)
    conv.set_weight(weight)
    sample = images(channels=5)
    torch.testing.assert_close(conv.weight(), weight)
    torch.testing.assert_close(conv.inverse_weight().double(), weight.double().inverse(), rtol=1e-4, atol=1e-5)
    latents, log_det = conv(sample)
    torch.testing.assert_close(latents, F.conv2d(sample, weight[:, :, None, None]))
    expected = torch.linalg.slogdet(weight.double()).logabsdet * 16
    torch.testing.assert_close(log_det.double(), expected.expand(3), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_1x1_convolution_starts_as_a_rotation():
    conv = InvertibleConv1x1(6)
    torch.testing.assert_close(conv.weight() @ conv.weight().T, torch.eye(6))
    assert not torch.allclose(conv.weight(), InvertibleConv1x1(6).weight())
    torch.testing.assert_close(conv.log_det(images()), torch.zeros(3), rtol=0, atol=1e-4)


@torch.no_grad()
def test_1x1_convolution_stays_invertible_wherever_its_parameters_go():
    conv = InvertibleConv1x1(4)
    perturb(conv, 3.0)
    expected = torch.linalg.slogdet(conv.weight().double()).logabsdet * 16
    torch.testing.assert_close(conv.log_det(images())[0].double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weight", [torch.ones(3, 3), torch.tensor([[0.1, 0.2], [0.3, 0.6]]), torch.zeros(2, 2)])
def test_a_singular_matrix_is_a_one_line_error(weight):
    with pytest.raises(UserError, match=rf"^the 1x1 matrix is singular \(rank \d of {len(weight)}\): .*$"):
        InvertibleConv1x1(len(weight)).set_weight(weight)


@torch.no_grad()
def test_a_step_is_its_three_layers():
    torch.manual_seed(0)
    step = FlowStep(4, hidden_channels=8, scale_limit=2.0)
    perturb(step, 0.2)
    sample, log_det = images(), torch.zeros(3)
    latents = sample
    for layer in (step.norm, step.conv, step.coupling):
        latents, change = layer(latents)
        log_det = log_det + change
    torch.testing.assert_close(step(sample), (latents, log_det))
    restored, log_det = latents, torch.zeros(3)
    for layer in (step.coupling, step.conv, step.norm):
        restored, change = layer.inverse(restored)
        log_det = log_det + change
    torch.testing.assert_close(step.inverse(latents), (restored, log_det), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_step_initialises_its_norm_and_then_gives_the_same():
    torch.manual_seed(0)
    step = FlowStep(4, hidden_channels=8, scale_limit=2.0)
    perturb(step.coupling, 0.2)
    sample = 5 * images(32) + 2
    step.norm.reduce = lambda mean: mean
    initial = step(sample)
    step.norm.reduce = None
    assert step.norm.initialized
    torch.testing.assert_close(step.norm.bias, -sample.mean((0, 2, 3)))
    torch.testing.assert_close(step(sample), initial, rtol=1e-4, atol=1e-4)


def test_a_step_starts_as_an_affine_map_of_each_pixel():
    step = FlowStep(4, hidden_channels=8, scale_limit=2.0)
    sample = images()
    with torch.no_grad():
        torch.testing.assert_close(step(sample)[0], step.conv(sample)[0])
