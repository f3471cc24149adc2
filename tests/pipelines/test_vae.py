"""Pipeline of the VAE: what every pipeline does, and its own methods against independent formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from hf_genmodels import VAE, UserError, VAEPipeline
from tests.testing_utils.pipelines import (
    ImageInputTesterMixin,
    PipelineTesterMixin,
    SamplingTesterMixin,
    random_images,
    tiny_pipeline,
)


class TestVAEPipeline(PipelineTesterMixin, SamplingTesterMixin, ImageInputTesterMixin):
    pipeline_class = VAEPipeline


@pytest.fixture
def pipeline() -> VAEPipeline:
    return tiny_pipeline("VAEPipeline")


@pytest.fixture
def images() -> torch.Tensor:
    return random_images((1, 8, 8))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_gaussian() -> tuple[VAEPipeline, dict[str, np.ndarray]]:
    """x = W z + b + s noise, 3-D vectors, a 2-D latent, and an encoder that is wider than the true posterior."""
    vae = VAE(
        in_channels=3, sample_size=None, latent_dim=2, architecture="mlp", hidden_dims=(), gaussian_std=0.6
    ).eval()
    weight = np.array([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]])
    bias = np.array([0.1, -0.4, 0.7])
    posterior = np.linalg.inv(np.eye(2) + weight.T @ weight / 0.36)
    to_mean = posterior @ weight.T / 0.36
    log_std = 0.5 * np.log(np.diag(posterior)) + 0.4
    (dense,) = (module for module in vae.decoder if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        dense.weight.copy_(torch.tensor(weight))
        dense.bias.copy_(torch.tensor(bias))
        vae.posterior.weight.copy_(torch.tensor(np.concatenate([to_mean, np.zeros((2, 3))])))
        vae.posterior.bias.copy_(torch.tensor(np.concatenate([-to_mean @ bias, log_std])))
    pipe = VAEPipeline(vae, value_scale=1.0)
    pipe.set_progress_bar_config(disable=True)
    covariance = weight @ weight.T + 0.36 * np.eye(3)
    return pipe, {"mean": bias, "covariance": covariance, "posterior": posterior, "std": np.exp(log_std)}


def test_encode_gives_the_posterior_mean_or_draws_from_it():
    pipe, truth = linear_gaussian()
    vector = torch.tensor([[0.3, -0.2, 0.9]])
    mean = pipe.encode(vector)
    weight = pipe.vae.posterior.weight[:2]
    assert mean[0].tolist() == pytest.approx(
        (weight @ (vector[0] - torch.tensor(truth["mean"]).float())).tolist(), abs=1e-6
    )
    draws = pipe.encode(vector.expand(20_000, 3), sample=True, generator=generator())
    assert draws.mean(0).tolist() == pytest.approx(mean[0].tolist(), abs=0.02)
    assert draws.std(0).tolist() == pytest.approx(truth["std"].tolist(), rel=0.02)
    again = pipe.encode(vector.expand(20_000, 3), sample=True, generator=generator())
    assert torch.equal(draws, again)


def test_decode_and_reconstruct(pipeline, images):
    latents = pipeline.encode(images)
    decoded = pipeline.decode(latents, output_type="pt").images
    with torch.no_grad():
        expected = ((pipeline.vae.decode(latents) + 1) / 2).clamp(0, 1)
    assert torch.equal(decoded, expected)
    assert torch.equal(pipeline.reconstruct(images, output_type="pt").images, decoded)
    assert pipeline.reconstruct(images).images[0].mode == "L"
    with pytest.raises(UserError, match=r"latents must be \(batch, 2\), got \(3, 5\)"):
        pipeline.decode(torch.zeros(3, 5))


@pytest.mark.parametrize("mode", ["linear", "spherical"])
def test_interpolation_begins_and_ends_at_the_reconstructions(mode, pipeline, images):
    path = pipeline.interpolate(images[0], images[1], num_steps=5, mode=mode, output_type="pt").images
    ends = pipeline.reconstruct(images[:2], output_type="pt").images
    assert path.shape == (5, 1, 8, 8)
    torch.testing.assert_close(path[[0, -1]], ends)
    if mode == "linear":
        middle = pipeline.decode(pipeline.encode(images[:2]).mean(0, keepdim=True), output_type="pt").images
        torch.testing.assert_close(path[2:3], middle)


def test_log_likelihood_of_a_linear_gaussian_model_is_that_of_its_marginal():
    pipe, truth = linear_gaussian()
    vectors = torch.tensor([[0.3, -0.2, 0.9], [1.5, -2.0, 0.1]])
    exact = multivariate_normal(truth["mean"], truth["covariance"]).logpdf(vectors.numpy())
    assert pipe.log_likelihood(vectors, 1000, generator()).tolist() == pytest.approx(exact.tolist(), abs=0.03)
    # one sample gives the ELBO: log p(x) - KL(q || true posterior), the means of which agree
    precision, spread = np.linalg.inv(truth["posterior"]), np.diag(truth["std"] ** 2)
    kl = 0.5 * (np.trace(precision @ spread) - 2 - np.log(np.linalg.det(precision @ spread)))
    one = pipe.log_likelihood(vectors.repeat_interleave(5000, 0), 1, generator()).unflatten(0, (2, 5000))
    assert one.mean(1).tolist() == pytest.approx((exact - kl).tolist(), abs=0.03)
    assert kl > 0.3
    with pytest.raises(UserError, match="num_samples must be at least 1, got 0"):
        pipe.log_likelihood(vectors, 0)


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_log_likelihood_of_discrete_data_is_a_sum_over_the_latent(likelihood):
    """Against numerical integration over a 1-D latent, on a 1x1 image of three grey levels."""
    torch.manual_seed(0)
    vae = VAE(1, 1, 1, "mlp", hidden_dims=(), likelihood=likelihood, num_levels=3).eval()
    pipe = VAEPipeline(vae)
    pipe.set_progress_bar_config(disable=True)
    grid = torch.linspace(-8, 8, 4001)[:, None]
    with torch.no_grad():
        decoded = vae.decoder_parameters(grid).flatten(1).double()
    if likelihood == "bernoulli":
        log_p = torch.nn.functional.logsigmoid(decoded[:, 0])
    else:
        log_p = decoded.log_softmax(1)[:, 2]
    prior = torch.tensor(norm.pdf(grid[:, 0].numpy()))
    exact = math.log(torch.trapezoid(log_p.exp() * prior, grid[:, 0].double()))
    estimate = pipe.log_likelihood(torch.ones(1, 1, 1), 2000, generator())
    assert estimate.tolist() == pytest.approx([exact], abs=0.02)


def test_progress_bar_can_be_silenced(images, capsys):
    pipe = VAEPipeline(tiny_pipeline("VAEPipeline").vae)
    pipe.log_likelihood(images, num_samples=3)
    assert "3/3" in capsys.readouterr().err
    pipe.set_progress_bar_config(disable=True)
    pipe.log_likelihood(images, num_samples=3)
    assert capsys.readouterr().err == ""
