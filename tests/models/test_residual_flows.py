"""Planar and radial flows."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hf_genmodels import UserError
from hf_genmodels.models.residual_flows import (
    PlanarFlow,
    PlanarLayer,
    RadialFlow,
    RadialLayer,
    solve_planar,
    solve_radial,
)
from tests.testing_utils.flows import PlaneFlowTesterMixin, assert_bijection, assert_log_det, perturb

CONFIGS = ({"in_channels": 2, "num_flows": 4}, {"in_channels": 1, "num_flows": 2}, {"in_channels": 5, "num_flows": 3})


class TestPlanarFlow(PlaneFlowTesterMixin):
    model_class = PlanarFlow
    configs = CONFIGS


class TestRadialFlow(PlaneFlowTesterMixin):
    model_class = RadialFlow
    configs = CONFIGS


def layer_and_sample(layer_class, dim=3, std=0.5):
    torch.manual_seed(0)
    layer = layer_class(dim)
    perturb(layer, std)
    return layer, torch.randn(16, dim)


@pytest.mark.parametrize("seed", range(5))
def test_a_planar_layer_stays_invertible_in_mixed_precision(seed):
    """1 + w.u > 0 for every w and v, also where it is small."""
    generator = torch.Generator().manual_seed(seed)
    layer = PlanarLayer(8)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(8, generator=generator))
        layer.direction.copy_(torch.randn(8, generator=generator))
        layer.direction.add_((-7 - layer.weight @ layer.direction) * layer.weight / layer.weight.square().sum())
    points = torch.randn(64, 8, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        latents, log_det = layer(points)
        moved, _ = layer(layer.weight / layer.weight.square().sum() * 1e-3 + torch.zeros(1, 8))
        centre, _ = layer(torch.zeros(1, 8))
    assert (moved - centre).double() @ layer.weight.double() > 0  # else two points have one image
    exact = layer(points)
    torch.testing.assert_close(latents, exact[0])
    torch.testing.assert_close(log_det, exact[1])


def test_planar_layer_is_the_papers_formula():
    layer, sample = layer_and_sample(PlanarLayer)
    w, v, b = layer.weight, layer.direction, layer.bias
    u = v + (-1 + torch.log(1 + torch.exp(w @ v)) - w @ v) * w / (w @ w)  # appendix A.1
    for x, z, log_det in zip(sample, *layer(sample), strict=True):
        torch.testing.assert_close(z, x + u * torch.tanh(w @ x + b))
        psi = (1 - torch.tanh(w @ x + b) ** 2) * w
        torch.testing.assert_close(log_det, torch.log(torch.abs(1 + u @ psi)), rtol=1e-5, atol=1e-6)


def test_radial_layer_is_the_papers_formula():
    layer, sample = layer_and_sample(RadialLayer)
    alpha = F.softplus(layer.raw_alpha)
    beta = -alpha + F.softplus(layer.raw_total)  # appendix A.2
    assert beta.abs() > 0.1
    for x, z, log_det in zip(sample, *layer(sample), strict=True):
        r = (x - layer.centre).norm()
        h, slope = 1 / (alpha + r), -1 / (alpha + r) ** 2
        torch.testing.assert_close(z, x + beta * h * (x - layer.centre))
        expected = 2 * torch.log(1 + beta * h) + torch.log(1 + beta * h + beta * slope * r)
        torch.testing.assert_close(log_det, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer_class", [PlanarLayer, RadialLayer])
def test_fresh_layers_are_the_identity(layer_class):
    sample = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    latents, log_det = layer_class(3)(sample)
    torch.testing.assert_close(latents, sample)
    torch.testing.assert_close(log_det, torch.zeros(16), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer_class", [PlanarLayer, RadialLayer])
@pytest.mark.parametrize("std", [1.0, 5.0])
def test_no_parameters_make_a_layer_singular(layer_class, std):
    torch.manual_seed(0)
    for seed in range(10):
        layer, sample = layer_class(3), torch.randn(16, 3, generator=torch.Generator().manual_seed(seed))
        perturb(layer, std, seed)
        with torch.no_grad():
            latents, log_det = layer(sample)
            restored, _ = layer.inverse(latents)
            again, _ = layer(restored)
        assert log_det.isfinite().all()
        # where the layer flattens space, rounding of z moves x; yet x is one that gives z
        assert (again - latents).abs().max() <= 5e-6 * latents.abs().max()


@pytest.mark.parametrize("layer_class", [PlanarLayer, RadialLayer])
def test_inverses_can_be_differentiated(layer_class):
    layer, sample = layer_and_sample(layer_class)
    assert_bijection(layer, layer.inverse, sample)
    assert_log_det(layer.inverse, sample)
    latents = layer(sample)[0].detach()
    restored, log_det = layer.inverse(latents)
    parameters = list(layer.parameters())
    gradients = torch.autograd.grad(restored.square().sum() + log_det.sum(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        flat = parameter.data.view(-1)
        for index in range(flat.numel()):
            values = []
            for step in (1e-3, -2e-3):
                flat[index] += step
                with torch.no_grad():
                    restored, log_det = layer.inverse(latents)
                values.append((restored.double().square().sum() + log_det.double().sum()).item())
            flat[index] += 1e-3
            slope = (values[0] - values[1]) / 2e-3
            assert gradient.view(-1)[index].item() == pytest.approx(slope, rel=2e-2, abs=2e-2)


def test_scalar_equations_are_solved():
    target = torch.linspace(-30, 30, 601, dtype=torch.float64)
    for product in (-0.9999, -0.5, 0.0, 1.0, 100.0):
        root = solve_planar(target, torch.tensor(product, dtype=torch.float64))
        torch.testing.assert_close(root + product * torch.tanh(root), target, rtol=1e-9, atol=1e-9)
    radius = target.abs()
    for alpha, total in ((0.1, 5.0), (1.0, 1.0), (3.0, 1e-3)):
        root = solve_radial(radius, torch.tensor(alpha), torch.tensor(total))
        assert (root >= 0).all()
        torch.testing.assert_close(root * (root + total) / (root + alpha), radius, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PlanarFlow(1, sample_size=8), "PlanarFlow takes vectors, not images of 8 pixels: .*"),
        (lambda: RadialFlow(1, sample_size=8), "RadialFlow takes vectors, not images of 8 pixels: .*"),
        (lambda: PlanarFlow(0), "in_channels must be at least 1, got 0"),
        (lambda: RadialFlow(2, num_flows=0), "num_flows must be at least 1, got 0"),
        (lambda: PlanarFlow(2)(torch.zeros(1, 2), torch.zeros(1)), "the flow was built without classes: .*"),
    ],
)
def test_impossible_flows_and_inputs_are_one_line_errors(build, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        build()
