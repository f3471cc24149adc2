"""Inverse problems with latents as the prior: where all is linear and Gaussian the most probable image is known."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import (
    GaussianModel,
    GaussianPipeline,
    InverseProblemOutput,
    solve_inverse_problem,
)
from hf_genmodels.operators import Blur, Inpainting, MeasurementOperator, SuperResolution
from tests.testing_utils.pipelines import tiny_pipeline
from tests.testing_utils.refusals import refused

MASK = torch.ones(1, 8, 8)
MASK[:, 2:6, 2:6] = 0
OPERATORS = [Inpainting(MASK), SuperResolution(2), Blur.gaussian(0.6)]
LATENT_PIPELINES = ("GANPipeline", "VAEPipeline", "AVAEPipeline", "BiGANPipeline", "VAEGANPipeline", "AAEPipeline")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_pipeline(components: int = 6) -> GaussianPipeline:
    """Images mean + W z in [-1, 1]'s units."""
    model = GaussianModel(1, 8, num_components=components)
    with torch.no_grad():
        model.mean.copy_(torch.rand(64, generator=generator(1)) * 0.4 - 0.2)
        model.directions.copy_(torch.linalg.qr(torch.randn(64, components, generator=generator(2)))[0].T)
        model.variances.copy_(torch.linspace(0.5, 2, components))
    pipe = GaussianPipeline(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def most_probable(pipe, operator, measurement, noise_std: float, prior_weight: float) -> torch.Tensor:
    """(n, 1, 8, 8) in [0, 1], by the normal equations in float64."""
    model = pipe.gaussian
    mean = (model.mean.double().view(1, 1, 8, 8) + 1) / 2
    columns = (model.directions.double() * model.variances.double().sqrt()[:, None]).view(-1, 1, 8, 8) / 2
    dense = operator(columns).flatten(1).T
    rest = (measurement.double() - operator(mean)).flatten(1).T
    gram = dense.T @ dense / noise_std**2 + prior_weight * torch.eye(len(columns))
    latents = torch.linalg.solve(gram, dense.T @ rest / noise_std**2)
    return mean + torch.einsum("kn,kchw->nchw", latents, columns)


@pytest.mark.parametrize("prior_weight", [0.0, 1.0])
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: type(operator).__name__)
def test_the_most_probable_image_is_that_of_the_normal_equations(operator, prior_weight):
    pipe = linear_pipeline()
    truth = torch.rand(2, 1, 8, 8, generator=generator(3))
    measurement = operator(truth)
    found = solve_inverse_problem(
        pipe, measurement, operator, noise_std=0.5, prior_weight=prior_weight, generator=generator(), output_type="pt"
    )
    expected = most_probable(pipe, operator, measurement, 0.5, prior_weight).clamp(0, 1)
    torch.testing.assert_close(found.images.double(), expected, rtol=0, atol=2e-3)
    errors = (operator(found.images) - measurement).square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(found.consistency_error, errors)
    assert isinstance(found, InverseProblemOutput)


@pytest.mark.parametrize("name", LATENT_PIPELINES)
def test_every_prior_with_latents_explains_its_own_image(name):
    pipe, operator = tiny_pipeline(name), SuperResolution(2)
    measurement = operator(pipe(generator=generator(5), output_type="pt").images)

    def error(num_steps: int) -> float:
        options = {"num_steps": num_steps, "num_restarts": 2, "prior_weight": 0.0, "generator": generator()}
        return solve_inverse_problem(pipe, measurement, operator, output_type="pt", **options).consistency_error.item()

    assert error(60) < 0.5 * error(1)
    weights = [each for network in pipe.components.values() for each in network.parameters()]
    assert all(each.grad is None for each in weights)


def test_a_flow_is_searched_between_its_grey_levels():
    pipe, operator = tiny_pipeline("FlowPipeline"), Inpainting(MASK)
    truth = pipe(generator=generator(5), output_type="pt").images
    found = solve_inverse_problem(
        pipe, operator(truth), operator, num_steps=150, num_restarts=1, prior_weight=0.0, output_type="pt"
    )
    assert found.consistency_error.item() < 0.02


def test_same_images_alone_together_and_in_chunks():
    pipe, operator = tiny_pipeline("VAEPipeline"), Inpainting(MASK)
    measurement = operator(torch.rand(3, 1, 8, 8, generator=generator(3)))

    def solve(measurement: torch.Tensor, seed: int = 0, **options) -> torch.Tensor:
        settings = {"num_steps": 20, "generator": generator(seed), "output_type": "pt"}
        return solve_inverse_problem(pipe, measurement, operator, **(settings | options)).images

    together = solve(measurement)
    assert torch.equal(solve(measurement), together)
    torch.testing.assert_close(torch.cat([solve(each) for each in measurement]), together, rtol=0, atol=1e-4)
    torch.testing.assert_close(solve(measurement, max_batch_size=5), together, rtol=0, atol=1e-4)


def test_a_ddpm_goes_to_the_sampler():
    pipe, operator = tiny_pipeline("DDPMPipeline"), Inpainting(MASK)
    measurement = torch.rand(1, 8, 8, generator=generator(3))
    found = solve_inverse_problem(
        pipe, measurement, operator, num_samples=2, num_inference_steps=2, generator=generator(), output_type="pt"
    )
    assert found.images.shape == (2, 1, 8, 8)


# refusals ------------------------------------------------------------------------------------------------------------


class Rounding(MeasurementOperator):
    def forward(self, image):
        return (image.detach() * 10).round() / 10


@pytest.mark.parametrize(
    ("name", "operator", "options", "message"),
    [
        ("VAEPipeline", Inpainting(MASK), {"method": "dps"}, "method 'dps' needs a DDPM; a VAEPipeline has method"),
        ("DDPMPipeline", Inpainting(MASK), {"method": "latents"}, "method 'latents' is not for a DDPMPipeline"),
        ("VAEPipeline", Inpainting(MASK), {"num_samples": 2}, "num_samples: a search in latents finds one image"),
        ("VAEPipeline", Inpainting(MASK), {"step_size": 1.0}, "method 'latents' has no option 'step_size'; it has"),
        ("DDPMPipeline", Inpainting(MASK), {"num_restarts": 1}, "method 'dps' has no option 'num_restarts'"),
        ("VAEPipeline", Rounding(), {}, "operator Rounding is not differentiable"),
        ("DDPMPipeline", Rounding(), {}, "operator Rounding is not differentiable"),
        ("VAEPipeline", SuperResolution(3), {}, "multiples of 3, the model makes (1, 8, 8)"),
        ("VAEPipeline", "blur", {}, "operator must be one of hf_genmodels.operators, got str"),
        ("VAEPipeline", Inpainting(MASK), {"noise_std": 0.0}, "noise_std must be above 0 for method 'latents'"),
        ("VAEPipeline", Inpainting(MASK), {"prior_weight": -1.0}, "prior_weight must be at least 0, got -1.0"),
        ("VAEPipeline", Inpainting(MASK), {"class_labels": 1}, "trained without classes"),
        ("AutoencoderPipeline", Inpainting(MASK), {}, "a AutoencoderPipeline is no prior for inverse problems"),
        ("DDPMPipeline", SuperResolution(2), {"method": "repaint"}, "method 'repaint' is for Inpainting, not Super"),
        (
            "LatentDDPMPipeline",
            Inpainting(MASK),
            {"method": "repaint"},
            "works on pixels, and this DDPM is of a VAE's",
        ),
    ],
)
def test_what_does_not_go_together(name, operator, options, message):
    pipe = tiny_pipeline(name)
    measurement = torch.zeros(1, 8, 8)
    with refused() as error:
        solve_inverse_problem(pipe, measurement, operator, **options)
    assert message in str(error.value)


def test_other_refusals():
    with refused("pipe must be a pipeline of a trained model, got str"):
        solve_inverse_problem("runs/vae", torch.zeros(1, 8, 8), Inpainting(MASK))
    with refused("the model makes \\(2,\\)"):
        solve_inverse_problem(tiny_pipeline("VAEPipeline", (2,)), torch.zeros(1, 8, 8), SuperResolution(2))
