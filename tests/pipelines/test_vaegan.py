"""Pipeline of the VAE/GAN."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import MLPEncoder, MLPGenerator, UserError, VAEGANPipeline
from tests.testing_utils.pipelines import (
    ImageInputTesterMixin,
    PipelineTesterMixin,
    SamplingTesterMixin,
    random_images,
    tiny_pipeline,
)


class TestVAEGANPipeline(PipelineTesterMixin, SamplingTesterMixin, ImageInputTesterMixin):
    pipeline_class = VAEGANPipeline


def test_encode_gives_the_mean_or_draws_around_it_with_the_shared_deviation():
    pipeline = tiny_pipeline("VAEGANPipeline", (2,))
    with torch.no_grad():
        pipeline.encoder.log_std.copy_(torch.tensor([0.2, 3.0]).log())
        vector = torch.tensor([[0.3, -0.2]])
        mean = pipeline.encoder(vector).mean
    assert torch.equal(pipeline.encode(vector), mean)
    many = vector.expand(20_000, 2)
    draws = pipeline.encode(many, sample=True, generator=torch.Generator().manual_seed(0))
    assert draws.std(0).tolist() == pytest.approx([0.2, 3.0], rel=0.02)
    assert ((draws.mean(0) - mean[0]) / torch.tensor([0.2, 3.0])).abs().max() < 0.03
    assert torch.equal(draws, pipeline.encode(many, sample=True, generator=torch.Generator().manual_seed(0)))


def test_reconstructions_are_decoded_means():
    pipeline, images = tiny_pipeline("VAEGANPipeline"), random_images((1, 8, 8))
    with torch.no_grad():
        decoded = pipeline.decoder(pipeline.encoder(2 * images - 1).mean).sample
    expected = ((decoded + 1) / 2).clamp(0, 1)
    assert torch.equal(pipeline.reconstruct(images, output_type="pt").images, expected)


def test_a_deterministic_encoder_is_refused():
    with pytest.raises(UserError, match=r"VAEGANPipeline: the encoder is deterministic; .* shared_log_std=True"):
        VAEGANPipeline(MLPEncoder(2, latent_dim=2), MLPGenerator(2, 2))
