"""What every flow must do: be a bijection, know its Jacobian, be a density, and be the same one after a reload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from hf_genmodels.loading import load_network
from tests.testing_utils.models import ModelTesterMixin
from tests.testing_utils.refusals import refused

Bijection = Callable[[Tensor], tuple[Tensor, Tensor]]


@torch.no_grad()
def perturb(module: nn.Module, std: float, seed: int = 3) -> None:
    """Move every parameter at random, so that no layer is the identity any more."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.add_(std * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def assert_bijection(forward: Bijection, inverse: Bijection, sample: Tensor) -> None:
    """`inverse` undoes `forward` within 1e-5 of the sample's size, and the log-determinants cancel."""
    latents, log_det = forward(sample)
    restored, log_det_inverse = inverse(latents)
    assert log_det.shape == log_det_inverse.shape == (len(sample),)
    assert log_det.dtype == log_det_inverse.dtype == torch.float32
    assert restored.shape == sample.shape
    assert torch.linalg.vector_norm(restored - sample) <= 1e-5 * torch.linalg.vector_norm(sample)
    torch.testing.assert_close(log_det_inverse, -log_det, rtol=1e-5, atol=1e-4)


def assert_log_det(forward: Bijection, sample: Tensor) -> None:
    """`forward`'s log-determinant is that of autograd's Jacobian, within 1e-4, for each of the samples."""
    _, log_det = forward(sample)
    for index, one in enumerate(sample):
        jacobian = torch.autograd.functional.jacobian(lambda x: forward(x[None])[0][0], one)
        square = jacobian.double().reshape(one.numel(), one.numel())
        assert log_det[index].item() == pytest.approx(torch.linalg.slogdet(square).logabsdet.item(), abs=1e-4)


def assert_integrates_to_one(log_density: Callable[[Tensor], Tensor], extent: float = 10.0, points: int = 401) -> None:
    """The sum over a grid of the plane, [-extent, extent]^2, is one."""
    ticks = torch.linspace(-extent, extent, points)
    grid = torch.cartesian_prod(ticks, ticks)
    with torch.no_grad():
        log_densities = log_density(grid).double()
    cell = (2 * extent / (points - 1)) ** 2
    assert (log_densities.exp().sum() * cell).item() == pytest.approx(1, abs=2e-3)


class FlowTesterMixin(ModelTesterMixin):
    """`ModelTesterMixin` for flows, whose weights are moved away from the identity they start as."""

    perturbation: ClassVar[float] = 0.1

    def inputs(self, config: dict[str, Any], generator: torch.Generator, batch: int = 4) -> dict[str, Tensor]:
        """Points from N(0, I), or images in [-1/2, 1/2); labels where the network has classes."""
        shape = (batch, *self.sample_shape({"sample_size": None, **config}))
        draw = torch.randn if len(shape) == 2 else torch.rand
        sample = draw(shape, generator=generator) - (0.5 if len(shape) == 4 else 0)
        given = {"sample": sample}
        if (classes := config.get("num_classes")) is not None:
            given["labels"] = torch.randint(classes, (batch,), generator=generator)
        if (dim := config.get("context_dim")) is not None:
            given["context"] = torch.randn(batch, dim, generator=generator)
        return given

    @pytest.fixture
    def case(self, request):
        config = self.configs[request.param]
        torch.manual_seed(0)
        network = self.model_class(**config)
        perturb(network, self.perturbation)
        return network.eval(), self.inputs(config, torch.Generator().manual_seed(1))

    @staticmethod
    def directions(network: Any, inputs: dict[str, Tensor]) -> tuple[Bijection, Bijection]:
        """The network x -> z and z -> x; labels and context are those of the first samples of a batch."""

        def conditions(batch: Tensor) -> dict[str, Tensor]:
            return {name: value[: len(batch)] for name, value in inputs.items() if name != "sample"}

        def forward(sample: Tensor) -> tuple[Tensor, Tensor]:
            output = network(sample, **conditions(sample))
            return output.latents, output.log_det

        return forward, lambda latents: network.inverse(latents, **conditions(latents))

    def test_inverse_undoes_forward(self, case):
        network, inputs = case
        assert_bijection(*self.directions(network, inputs), inputs["sample"])

    def test_forward_undoes_inverse(self, case):
        network, inputs = case
        forward, inverse = self.directions(network, inputs)
        latents = torch.randn(len(inputs["sample"]), network.dim, generator=torch.Generator().manual_seed(2))
        assert_bijection(inverse, forward, latents)

    def test_samples_without_log_determinants_are_those_with_them(self, case):
        """To rounding, and near those of the same flow in float64; no gradients are kept."""
        network, inputs = case
        latents = torch.randn(len(inputs["sample"]), network.dim, generator=torch.Generator().manual_seed(2))
        conditions = {name: value for name, value in inputs.items() if name != "sample"}
        generated = network.generate(latents, **conditions)
        assert not generated.requires_grad
        expected = network.inverse(latents, **conditions)[0].detach()
        assert torch.linalg.vector_norm(generated - expected) <= 1e-6 * torch.linalg.vector_norm(expected)

    def test_every_sample_depends_on_its_own_conditions_alone(self, case):
        network, inputs = case
        conditions = [name for name in inputs if name != "sample"]
        with torch.no_grad():
            before = network(**inputs)
        for name in conditions:
            changed = inputs[name].clone()
            changed[0] = (changed[0] + 1) % network.config.num_classes if name == "labels" else changed[0] + 1
            with torch.no_grad():
                after = network(**{**inputs, name: changed})
            torch.testing.assert_close(after.latents[1:], before.latents[1:])
            assert (after.latents[0] - before.latents[0]).abs().max() > 1e-3

    def test_conditions_that_are_missing_or_mean_nothing(self, case):
        network, inputs = case
        strange = {"labels": torch.zeros(len(inputs["sample"]), dtype=torch.long), "context": torch.zeros(4, 99)}
        for name, value in strange.items():
            with refused(f"^(the flow was built with|{name} must be)"):
                network(**{**inputs, name: value} if name not in inputs else {**inputs, name: None})
        if "context" in inputs:
            with refused(r"context must be \(4, \d\), got \(4, 99\)"):
                network(**{**inputs, "context": strange["context"]})

    def test_nothing_is_the_identity(self, case):
        network, inputs = case
        with torch.no_grad():
            output = network(**inputs)
        assert (output.latents - inputs["sample"].flatten(1)).abs().amax(0).min() > 1e-3
        assert output.log_det.abs().min() > 1e-3

    def test_log_det_is_that_of_the_jacobian(self, case):
        network, inputs = case
        for index in range(2):
            one = {name: value[index : index + 1] for name, value in inputs.items()}
            assert_log_det(self.directions(network, one)[0], one["sample"])

    def test_log_likelihood_is_the_change_of_variables(self, case):
        network, inputs = case
        output = network(**inputs)
        normal = torch.distributions.Normal(0, 1).log_prob(output.latents).sum(1)
        torch.testing.assert_close(output.log_likelihood, normal + output.log_det)
        assert output.latents.shape == (len(inputs["sample"]), network.dim)

    def test_every_parameter_gets_a_gradient(self, case):
        network, inputs = case
        network.train()
        network(**inputs).log_likelihood.sum().backward()
        without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert not without

    def test_save_and_load_give_the_same_likelihood(self, case, tmp_path):
        network, inputs = case
        network.save_pretrained(str(tmp_path))
        reloaded = load_network(self.model_class, tmp_path)
        with torch.no_grad():
            assert torch.equal(network(**inputs).log_likelihood, reloaded(**inputs).log_likelihood)

    def test_half_precision_runs(self, case):
        network, inputs = case
        network.to(torch.bfloat16)
        half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in inputs.items()}
        output = network(**half)
        assert output.log_likelihood.dtype == torch.float32
        assert all(field.isfinite().all() for field in output.to_tuple())
        sample, log_det = self.directions(network, half)[1](output.latents)
        assert sample.isfinite().all() and log_det.isfinite().all()

    @torch.no_grad()
    def test_mixed_precision_has_the_log_determinant_of_the_map_it_computes(self, case):
        """Couplings' networks are rounded to three digits, which moves their scales; nothing else is."""
        network, inputs = case
        sample = inputs["sample"]
        exact = network(**inputs)
        with torch.autocast("cpu", torch.bfloat16):
            output = network(**inputs)
            restored, log_det = self.directions(network, inputs)[1](output.latents)
        has_networks = any(isinstance(module, nn.Linear | nn.Conv2d) for module in network.modules())
        bound = 0.01 * network.dim**0.5 if has_networks else 1e-5
        assert (output.log_det - exact.log_det).abs().max() <= bound
        assert (log_det + output.log_det).abs().max() <= (1e-3 if has_networks else 1e-4)
        assert torch.linalg.vector_norm(restored - sample) <= 1e-3 * torch.linalg.vector_norm(sample)
        assert output.log_det.dtype == output.log_likelihood.dtype == log_det.dtype == torch.float32

    def test_other_shapes_are_one_line_errors(self, case):
        network, inputs = case
        sample = inputs["sample"]
        with refused(r"^the network takes samples of shape .*, got .*$"):
            network(**{**inputs, "sample": torch.cat([sample, sample], dim=1)})
        with refused(rf"^latents must be \(batch, {network.dim}\), got .*$"):
            self.directions(network, inputs)[1](sample.new_zeros(len(sample), network.dim + 1))


class PlaneFlowTesterMixin(FlowTesterMixin):
    """`FlowTesterMixin` for flows whose first configuration is one of points in the plane."""

    def test_density_integrates_to_one(self):
        torch.manual_seed(0)
        network = self.model_class(**self.configs[0])
        perturb(network, self.perturbation)
        assert_integrates_to_one(lambda points: network(points).log_likelihood)
