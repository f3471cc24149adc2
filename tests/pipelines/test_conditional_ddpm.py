"""Pipeline of the class-conditional DDPM: what every denoising pipeline does, and guidance."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from hf_genmodels import ConditionalDDPMPipeline, UserError
from tests.testing_utils.denoising import DenoisingTesterMixin
from tests.testing_utils.networks import tiny_denoiser
from tests.testing_utils.pipelines import tiny_pipeline


class TestConditionalDDPMPipeline(DenoisingTesterMixin):
    pipeline_class = ConditionalDDPMPipeline
    labels = {"class_labels": 1}


@pytest.fixture
def pipeline() -> ConditionalDDPMPipeline:
    """With embeddings that matter, and a sampler without noise on the way."""
    pipe = tiny_pipeline("ConditionalDDPMPipeline")
    pipe.unet.class_embedding.weight.data.mul_(20)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_prediction_is_pushed_from_any_class_towards_the_one_asked_for(pipeline):
    noisy, timestep = torch.randn(3, 1, 8, 8, generator=generator()), torch.tensor(1)
    labels = torch.tensor([0, 2, 1])
    with torch.no_grad():
        given = pipeline.unet(noisy, timestep, class_labels=labels).sample
        unknown = pipeline.unet(noisy, timestep, class_labels=torch.tensor([3, 3, 3])).sample
        for scale in (0.0, 1.0, 2.5):
            expected = (1 + (scale - 1)) * given - (scale - 1) * unknown
            torch.testing.assert_close(pipeline.predict(noisy, timestep, labels, scale), expected)
        torch.testing.assert_close(pipeline.predict(noisy, timestep), unknown)
    assert not torch.allclose(given, unknown, atol=0.01)


def test_labels_choose_what_is_drawn(pipeline):
    latents = torch.randn(3, 1, 8, 8, generator=generator())
    each = [pipeline(latents=latents, class_labels=label, output_type="pt").images for label in range(3)]
    mixed = pipeline(latents=latents, class_labels=[2, 0, 1], output_type="pt").images
    torch.testing.assert_close(mixed, torch.stack([each[2][0], each[0][1], each[1][2]]))
    assert not torch.allclose(each[0], each[1], atol=1e-3)
    guided, plain = (
        pipeline(latents=latents, class_labels=0, guidance_scale=s, output_type="pt").images for s in (2.0, 1.0)
    )
    assert torch.equal(guided, each[0]) and not torch.equal(guided, plain)
    assert pipeline(class_labels=[0, 1], output_type="pt").images.shape == (2, 1, 8, 8)


def test_labels_are_drawn_where_none_are_given(pipeline):
    images = pipeline(60, generator(), output_type="pt").images
    latents = torch.randn(60, 1, 8, 8, generator=generator())
    each = [pipeline(latents=latents, class_labels=label, output_type="pt").images for label in range(3)]
    found = [
        [torch.allclose(image, of[row], atol=1e-5) for of in each].index(True) for row, image in enumerate(images)
    ]
    assert {label: found.count(label) > 8 for label in range(3)} == {0: True, 1: True, 2: True}


def test_codes_and_likelihoods_of_a_class(pipeline):
    images = torch.rand(2, 1, 8, 8, generator=generator())
    codes = [pipeline.encode(images, class_labels=labels) for labels in (None, 0, [0, 1])]
    assert torch.equal(codes[1][0], codes[2][0]) and not torch.allclose(codes[1][1], codes[2][1], atol=1e-3)
    assert not torch.allclose(codes[0], codes[1], atol=1e-3)
    decoded = pipeline.decode(codes[1], class_labels=0, output_type="pt").images
    assert torch.equal(pipeline.reconstruct(images, class_labels=0, output_type="pt").images, decoded)
    bounds = [
        pipeline.log_likelihood(images, class_labels=labels, generator=generator()) for labels in (None, 0, [0, 1])
    ]
    assert torch.equal(bounds[1][0], bounds[2][0]) and bounds[0][0] != bounds[1][0] and bounds[1][1] != bounds[2][1]


def test_refused_labels(pipeline):
    with pytest.raises(UserError, match=r"class_labels must be 0 to 2 \(num_classes is 3\), got 3"):
        pipeline(class_labels=3)
    with pytest.raises(UserError, match="2 class_labels for 3 images"):
        pipeline(3, class_labels=[0, 1])
    with pytest.raises(UserError, match="2 class_labels for 1 images"):
        pipeline.encode(torch.zeros(1, 8, 8), class_labels=[0, 1])
    with pytest.raises(UserError, match="needs a network that knows classes"):
        ConditionalDDPMPipeline(*tiny_denoiser((1, 8, 8)))
