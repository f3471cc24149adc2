"""Pipeline of the autoencoder."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import Autoencoder, AutoencoderPipeline, UserError
from tests.testing_utils.pipelines import ImageInputTesterMixin, PipelineTesterMixin, random_images, tiny_pipeline


class TestAutoencoderPipeline(PipelineTesterMixin, ImageInputTesterMixin):
    pipeline_class = AutoencoderPipeline


@pytest.fixture
def pipeline() -> AutoencoderPipeline:
    return tiny_pipeline("AutoencoderPipeline")


@pytest.fixture
def images() -> torch.Tensor:
    return random_images((1, 8, 8))


def test_encode_and_decode_are_the_networks_maps(pipeline, images):
    with torch.no_grad():
        output = pipeline.autoencoder(2 * images - 1)
    latents = pipeline.encode(images)
    assert torch.equal(latents, output.latents) and latents.shape == (3, 2)
    expected = ((output.reconstruction + 1) / 2).clamp(0, 1)
    assert torch.equal(pipeline.decode(latents, output_type="pt").images, expected)
    for method in (pipeline, pipeline.reconstruct, pipeline.denoise):
        assert torch.equal(method(images, output_type="pt").images, expected)
    assert [picture.mode for picture in pipeline.denoise(images).images] == ["L"] * 3
    with pytest.raises(UserError, match=r"latents must be \(batch, 2\), got \(3, 4\)"):
        pipeline.decode(torch.zeros(3, 4))


def test_anomaly_score_is_the_error_on_the_unit_scale(pipeline, images):
    with torch.no_grad():
        reconstruction = (pipeline.autoencoder(2 * images - 1).reconstruction + 1) / 2
    expected = [((ours - theirs) ** 2).mean().item() for ours, theirs in zip(images, reconstruction, strict=True)]
    assert pipeline.anomaly_score(images).tolist() == pytest.approx(expected, rel=1e-5)


def test_anomaly_score_of_vectors_is_in_their_own_unit():
    pipeline = AutoencoderPipeline(Autoencoder(3, None, 2, "linear"), value_scale=1.0)
    vectors = torch.tensor([[10.0, -20.0, 30.0], [0.0, 1.0, 2.0]])
    with torch.no_grad():
        error = pipeline.autoencoder(vectors).reconstruction - vectors
    assert pipeline.anomaly_score(vectors).tolist() == pytest.approx(error.square().mean(1).tolist(), rel=1e-5)
