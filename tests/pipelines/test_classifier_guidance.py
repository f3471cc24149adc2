"""Classifier guidance against the score of what it samples, noised images, intermediate samples; what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler
from torch import Tensor

from hf_genmodels import Classifier, DDPMPipeline
from hf_genmodels.choices import PredictionType
from hf_genmodels.losses.diffusion import guided_prediction, predicted_noise, predicted_sample
from hf_genmodels.pipelines.classifier_guidance import ClassifierGuide
from hf_genmodels.pipelines.noise_schedules import schedule_of
from tests.testing_utils.denoising import SAMPLERS, GaussianDenoiser
from tests.testing_utils.networks import tiny_denoiser
from tests.testing_utils.pipelines import random_images, tiny_pipeline
from tests.testing_utils.refusals import refused

TYPES = get_args(PredictionType)


def silent(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_classifier(scheduler: DDPMScheduler | None, **options: Any) -> Classifier:
    torch.manual_seed(3)
    small = {"sample_size": 8, "num_classes": 3, "block_out_channels": (4, 8), "feature_dim": 5}
    schedule = None if scheduler is None else schedule_of(scheduler)
    return Classifier(**small | options, noise_schedule=schedule).eval()


@pytest.mark.parametrize("kind", TYPES)
def test_a_guided_prediction_has_the_guided_noise_and_its_sample(kind):
    bars = torch.tensor([0.9, 0.2])
    noisy, prediction, gradient = torch.randn(3, 2, 1, 3, 3, generator=generator())
    found = guided_prediction(kind, prediction, gradient, bars)
    spread = (1 - bars).sqrt().view(-1, 1, 1, 1)
    noise = predicted_noise(kind, prediction, noisy, bars) - spread * gradient
    torch.testing.assert_close(predicted_noise(kind, found, noisy, bars), noise, atol=1e-5, rtol=1e-4)
    sample = (noisy - spread * noise) / bars.sqrt().view(-1, 1, 1, 1)
    torch.testing.assert_close(predicted_sample(kind, found, noisy, bars), sample, atol=1e-5, rtol=1e-4)


def test_gradients_are_those_of_differences():
    _, scheduler = tiny_denoiser((1, 8, 8), steps=9)
    classifier, labels, time = tiny_classifier(scheduler).double(), torch.tensor([2, 0]), torch.tensor(4)
    classifier.forward = lambda sample, timestep, forward=classifier.forward: forward(
        sample.double(), timestep=timestep
    )
    guide = ClassifierGuide(classifier, 3.0, labels, scheduler)
    noisy = torch.randn(2, 1, 8, 8, generator=generator())
    shift = guide(torch.zeros(2, 1, 8, 8), noisy, labels, time) / -(1 - scheduler.alphas_cumprod[4]).sqrt()
    for row, place in ((0, (0, 3, 4)), (1, (0, 0, 7))):
        sides = []
        for step in (1e-2, -1e-2):
            moved = noisy.clone().double()
            moved[row][place] += step
            sides.append(classifier(moved, time).logits.log_softmax(1)[row, labels[row]].item())
        assert shift[row][place].item() == pytest.approx(3 * (sides[0] - sides[1]) / 2e-2, rel=2e-3, abs=1e-6)


class TwoClasses(Classifier):
    """Knows the posterior of two classes, N(-1/2, std^2) and N(1/2, std^2) in each pixel, as likely as each other."""

    def prepare(self, bars: Tensor, std: float) -> TwoClasses:
        self.bars, self.std = bars, std
        return self

    def forward(self, sample: Tensor, return_dict: bool = True, *, timestep: Tensor | None = None) -> Any:
        bar = self.bars[timestep.round().long()]
        variance = bar * self.std**2 + 1 - bar
        means = bar.sqrt() * torch.tensor([-0.5, 0.5])
        logits = -(sample[:, :, None] - means.view(2, 1, 1)).square().sum((1, 3, 4)) / (2 * variance)
        return SimpleNamespace(logits=logits)


@pytest.mark.parametrize("sampler", [DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler])
def test_samples_are_of_the_class(sampler):
    """The network knows one wide Gaussian, the classifier which side is whose."""
    scheduler = DDPMScheduler(num_train_timesteps=50, beta_start=0.002, beta_end=0.4, clip_sample=False)
    pipe = silent(DDPMPipeline(GaussianDenoiser((1, 8, 8), scheduler, 0.0, 0.6), scheduler))
    pipe.scheduler = sampler.from_config(scheduler.config)
    judge = TwoClasses(sample_size=8, num_classes=2, block_out_channels=(4,), noise_schedule=schedule_of(scheduler))
    judge = judge.prepare(scheduler.alphas_cumprod, 0.5)
    labels = [0, 1] * 8
    options = {"class_labels": labels, "num_inference_steps": 25, "output_type": "pt", "classifier": judge}
    shares = {}
    for scale in (0.0, 1.0):
        images = pipe(generator=generator(), classifier_scale=scale, **options).images
        side = (images.mean((1, 2, 3)) - 0.5) * (torch.tensor(labels) * 2 - 1)
        shares[scale] = (side > 0).float().mean().item()
    # half of what is not guided is on the right side by chance
    assert shares[0.0] < 0.8 and shares[1.0] > 0.9
    plain = pipe(16, generator(), num_inference_steps=25, output_type="pt").images
    unguided = pipe(generator=generator(), classifier_scale=0.0, **options).images
    torch.testing.assert_close(plain, unguided)
    whole = pipe(generator=generator(), **options).images
    parts = pipe(generator=generator(), max_batch_size=5, **options).images
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)


def test_classifiers_that_cannot_guide():
    pipe = tiny_pipeline("DDPMPipeline")
    right = tiny_classifier(pipe.scheduler)
    assert pipe(classifier=right, class_labels=[0, 2], output_type="pt").images.shape == (2, 1, 8, 8)
    other = DDPMScheduler(7)
    for classifier, options, told in (
        (right, {}, "classifier: say with class_labels which of its 3 classes it is to guide to"),
        (right, {"class_labels": 3}, r"class_labels must be 0 to 2 \(num_classes is 3\), got 3"),
        (right, {"class_labels": 1, "classifier_scale": -1.0}, "classifier_scale must be at least 0, got -1.0"),
        (right, {"class_labels": [1, 1], "batch_size": 3}, "2 class_labels for 3 images; give one, or one for each"),
        (
            tiny_classifier(None),
            {"class_labels": 1},
            "trained on clean images, and guides on noisy ones",
        ),
        (
            tiny_classifier(other),
            {"class_labels": 1},
            "trained on the noise of another model; train it",
        ),
        (
            tiny_classifier(pipe.scheduler, sample_size=9),
            {"class_labels": 1},
            r"takes samples of shape \(1, 9, 9\)",
        ),
        ("folder", {"class_labels": 1}, "classifier must be a Classifier, got a str"),
        (None, {"classifier_scale": 2.0}, "classifier_scale has no meaning without a classifier; give one"),
    ):
        with refused(told):
            pipe(classifier=classifier, **options)
    with refused(r"takes samples of shape \(1, 8, 8\), and this model noises samples of shape \(2,\)"):
        latent = tiny_pipeline("LatentDDPMPipeline")
        latent(classifier=tiny_classifier(latent.scheduler), class_labels=1)


# noised images and intermediate samples ------------------------------------------------------------------------------


def test_noised_images_are_those_of_the_scheduler():
    pipe = tiny_pipeline("DDPMPipeline")
    images = random_images((1, 8, 8))
    steps = torch.arange(len(images)) % 3
    noise = torch.randn(images.shape, generator=generator(5))
    expected = (pipe.scheduler.add_noise(images * 2 - 1, noise, steps) + 1) / 2
    torch.testing.assert_close(pipe.noised(images, steps, generator(5)), expected)
    torch.testing.assert_close(pipe.noised(images, 1, generator(5))[steps == 1], expected[steps == 1])
    for wrong in (3, -1, [0, 1] * 7, 0.5):
        with refused("timesteps must be"):
            pipe.noised(images, wrong)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.__name__)
def test_intermediate_samples_go_from_noise_to_the_images(sampler):
    pipe = tiny_pipeline("DDPMPipeline")
    pipe.scheduler = sampler.from_config(pipe.scheduler.config, **SAMPLERS[sampler])
    noise = torch.randn(2, 1, 8, 8, generator=generator())
    options = {"latents": noise, "num_inference_steps": 2, "output_type": "pt"}
    plain = pipe(generator=generator(1), **options).images
    made = pipe(generator=generator(1), num_intermediates=3, **options)
    assert torch.equal(made.images, plain) and torch.equal(made.intermediates[-1], plain)
    # with a karras schedule x_T is not all noise
    first = ((noise + 1) / 2).clamp(0, 1)
    assert len(made.intermediates) == 3 and (made.intermediates[0] - first).abs().mean() < 0.02
    images, kept = pipe(generator=generator(1), num_intermediates=2, return_dict=False, **options)
    assert torch.equal(images, plain) and torch.equal(kept[0], made.intermediates[0])
    with refused("num_intermediates must be 2 to "):
        pipe(num_intermediates=9, **options)
    with refused("num_intermediates takes the place of callback_on_step_end; leave one of them out"):
        pipe(num_intermediates=2, callback_on_step_end=print, **options)
