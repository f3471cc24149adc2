"""Pipeline of the BiGAN."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import BiGANPipeline, MLPEncoder, MLPGenerator, UserError
from tests.testing_utils.pipelines import (
    ImageInputTesterMixin,
    PipelineTesterMixin,
    SamplingTesterMixin,
    random_images,
    tiny_pipeline,
)
from tests.testing_utils.refusals import refused


class TestBiGANPipeline(PipelineTesterMixin, SamplingTesterMixin, ImageInputTesterMixin):
    pipeline_class = BiGANPipeline


def test_encode_and_decode_are_the_networks_maps():
    pipeline, images = tiny_pipeline("BiGANPipeline"), random_images((1, 8, 8))
    with torch.no_grad():
        latents = pipeline.encoder(2 * images - 1).mean
        expected = ((pipeline.generator(latents).sample + 1) / 2).clamp(0, 1)
    assert torch.equal(pipeline.encode(images), latents) and latents.shape == (3, 2)
    assert torch.equal(pipeline.decode(latents, output_type="pt").images, expected)
    assert torch.equal(pipeline.reconstruct(images, output_type="pt").images, expected)
    path = pipeline.interpolate(images[0], images[1], num_steps=3, output_type="pt").images
    torch.testing.assert_close(path[[0, -1]], expected[:2])
    with pytest.raises(UserError, match="the encoder of this BiGANPipeline is deterministic; leave sample=True out"):
        pipeline.encode(images, sample=True)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (MLPEncoder(2, latent_dim=3), "BiGANPipeline: the encoder's latents have dimension 3, those of .* 2"),
        (MLPEncoder(2, latent_dim=1), "BiGANPipeline: the encoder's latents have dimension 1, those of .* 2"),
        (MLPEncoder(3, latent_dim=2), r"the encoder takes samples of shape \(3,\), but MLPGenerator makes \(2,\)"),
        (
            MLPEncoder(2, 8, latent_dim=2),
            r"takes samples of shape \(2, 8, 8\), but MLPGenerator makes \(2,\)",
        ),
    ],
)
def test_networks_that_do_not_fit(encoder, message):
    with refused(message):
        BiGANPipeline(encoder, MLPGenerator(2, 2))
