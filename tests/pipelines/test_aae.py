"""Pipeline of the adversarial autoencoder."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import AAEPipeline, MLPEncoder, MLPGenerator, UserError
from tests.testing_utils.pipelines import (
    ImageInputTesterMixin,
    PipelineTesterMixin,
    SamplingTesterMixin,
    random_images,
    tiny_pipeline,
)


class TestAAEPipeline(PipelineTesterMixin, SamplingTesterMixin, ImageInputTesterMixin):
    pipeline_class = AAEPipeline


def transparent(**options) -> AAEPipeline:
    """A pipeline whose samples are its latents."""
    decoder = MLPGenerator(2, 2, None, hidden_dims=())
    (dense,) = (module for module in decoder.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        dense.weight.copy_(torch.eye(2))
        dense.bias.zero_()
    return AAEPipeline(MLPEncoder(2, latent_dim=2), decoder, value_scale=1.0, **options)


def test_samples_come_from_the_prior(tmp_path):
    pipeline = transparent(prior="mixture", num_components=3)
    samples = torch.tensor(pipeline(batch_size=3000, generator=torch.Generator().manual_seed(0)).images)
    centres = 4 * torch.tensor([[1, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    nearest = (samples[:, None] - centres).norm(dim=2).argmin(1)
    assert torch.bincount(nearest).tolist() == pytest.approx([1000] * 3, abs=110)
    for component, centre in enumerate(centres):
        members = samples[nearest == component] - centre
        ray = centre / 4
        across = torch.stack([-ray[1], ray[0]])
        assert (members @ ray).std().item() == pytest.approx(1.0, rel=0.1)
        assert (members @ across).std().item() == pytest.approx(0.25, rel=0.1)
        assert members.mean(0).abs().max() < 0.15
    pipeline.save_pretrained(tmp_path)
    loaded = AAEPipeline.from_pretrained(tmp_path)
    assert (loaded.config.prior, loaded.config.num_components) == ("mixture", 3)
    again = torch.tensor(loaded(batch_size=3000, generator=torch.Generator().manual_seed(0)).images)
    assert torch.equal(again, samples)


def test_each_image_of_a_mixture_can_be_drawn_alone():
    pipeline = transparent(prior="mixture")
    alone = [torch.tensor(pipeline(generator=torch.Generator().manual_seed(seed)).images) for seed in range(10)]
    generators = [torch.Generator().manual_seed(seed) for seed in range(10)]
    together = torch.tensor(pipeline(batch_size=10, generator=generators).images)
    torch.testing.assert_close(together, torch.cat(alone))


def test_given_latents_are_decoded_as_they_are():
    latents = torch.tensor([[0.1, -7.0], [3.0, 0.0]])
    assert transparent(prior="mixture")(latents=latents).images.tolist() == latents.tolist()


def test_anomaly_score_is_the_error_on_the_unit_scale():
    pipeline, images = tiny_pipeline("AAEPipeline"), random_images((1, 8, 8))
    reconstruction = pipeline.reconstruct(images, output_type="pt").images
    expected = [((ours - theirs) ** 2).mean().item() for ours, theirs in zip(images, reconstruction, strict=True)]
    assert pipeline.anomaly_score(images).tolist() == pytest.approx(expected, rel=1e-5)


def test_anomaly_score_of_vectors_is_in_their_own_unit():
    pipeline = tiny_pipeline("AAEPipeline", (2,))
    vectors = torch.tensor([[10.0, -20.0], [0.0, 1.0]])
    with torch.no_grad():
        error = pipeline.decoder(pipeline.encoder(vectors).mean).sample - vectors
    assert pipeline.anomaly_score(vectors).tolist() == pytest.approx(error.square().mean(1).tolist(), rel=1e-5)


def test_impossible_priors():
    with pytest.raises(UserError, match="prior 'swiss_roll' is unknown"):
        transparent(prior="swiss_roll")
    with pytest.raises(UserError, match="latent_dim of at least 2, got 1"):
        AAEPipeline(MLPEncoder(2, latent_dim=1), MLPGenerator(1, 2), prior="mixture")
