"""EDM's loss against a slow formula in terms of the denoiser, its noise levels, and the data's standard deviation."""

from __future__ import annotations

import re

import pytest
import torch

from hf_genmodels import EDMPipeline, LatentEDMPipeline
from hf_genmodels.families.edm import EDMArguments, build, reload
from hf_genmodels.objectives.edm import EDMObjective
from tests.testing_utils.noise_levels import SMALL, check_gradients, saved_vae, told_labels
from tests.testing_utils.objectives import IMAGES, VECTORS, losses_of, make_batch, seeded_noise
from tests.testing_utils.refusals import refused


def objective_of(data=IMAGES, **options) -> EDMObjective:
    torch.manual_seed(0)
    return build(EDMArguments(**SMALL | options), data)


@pytest.mark.parametrize(("data", "classes"), [(IMAGES, False), (IMAGES, True), (VECTORS, False)])
def test_loss_is_the_weighted_error_of_the_denoiser(data, classes):
    objective = objective_of(data, sigma_data=0.7, p_mean=-0.5, p_std=1.5, class_conditional=classes)
    batch, noise = make_batch(data, 6), seeded_noise()
    places = noise.uniform((6,), like=batch["image"])
    labels = told_labels(noise, batch) if classes else None
    sample = batch["image"].reshape(6, -1, *(batch["image"].shape[2:] or (1, 1)))
    epsilon = noise.normal(tuple(sample.shape), like=sample)
    terms = []
    for row, place in enumerate(places):
        sigma = torch.exp(-0.5 + 1.5 * torch.distributions.Normal(0, 1).icdf(place))
        noisy, total = sample[row] + sigma * epsilon[row], sigma**2 + 0.49
        told = {} if labels is None else {"class_labels": labels[row : row + 1]}
        output = objective.networks["unet"]((noisy / total**0.5)[None], sigma.log() / 4, **told).sample[0]
        denoised = 0.49 / total * noisy + sigma * 0.7 / total**0.5 * output
        terms.append(total / (sigma * 0.7) ** 2 * (denoised - sample[row]).square().mean())
    slow, loss = torch.stack(terms).mean(), losses_of(objective, batch)["loss"]
    assert loss.item() == pytest.approx(slow.item(), rel=1e-4)
    check_gradients(objective, loss, slow)


def test_standard_deviation_is_measured_over_all_processes_saved_and_kept(tmp_path):
    objective, batch = objective_of(VECTORS), make_batch(VECTORS, 40)
    batch["image"] = batch["image"] * 3 + 1
    halves = [{"image": half} for half in batch["image"].chunk(2)]
    moments = [torch.stack([half["image"].mean(), half["image"].square().mean()])[None] for half in halves]
    objective.initialize(halves[0], seeded_noise(), lambda tensor: torch.cat(moments))
    assert objective.sigma_data == pytest.approx(batch["image"].std(correction=0).item(), rel=1e-5)
    objective.pipeline(objective.networks).save_pretrained(tmp_path)
    again = reload(tmp_path, EDMArguments(), VECTORS)
    again.initialize(make_batch(VECTORS), seeded_noise(), lambda tensor: tensor)
    assert again.sigma_data == again.scheduler.config.sigma_data == objective.sigma_data
    resumed = objective_of(VECTORS)
    resumed.load_state_dict(objective.state_dict())
    assert resumed.pipeline(resumed.networks).scheduler.config.sigma_data == objective.sigma_data
    with refused("--sigma_data cannot be changed with --pretrained_model_name_or_path"):
        reload(tmp_path, EDMArguments(sigma_data=0.5), VECTORS)


def test_latents_and_classes(tmp_path):
    objective = objective_of(vae_model_name_or_path=saved_vae(tmp_path), class_conditional=True)
    objective.initialize(make_batch(IMAGES), seeded_noise(), lambda tensor: tensor)
    assert objective.sigma_data == 1 and objective.scaling_factor != 1 and objective.frozen == ("vae",)
    pipeline = objective.pipeline(objective.networks)
    assert type(pipeline) is LatentEDMPipeline and pipeline.num_classes == 3
    assert losses_of(objective, make_batch(IMAGES))["loss"].isfinite()
    images = objective_of(edm_num_inference_steps=2)
    pipeline = images.pipeline(images.networks)
    assert type(pipeline) is EDMPipeline
    grid = images.sample_grid(pipeline, make_batch(IMAGES, 3), torch.Generator().manual_seed(0))
    assert grid["samples"].shape == (3, 1, 8, 8)
    figures = images.evaluate(images.networks, make_batch(IMAGES), torch.Generator().manual_seed(0))
    assert figures["weighted_mse"].shape == (5,) and figures["weighted_mse"].isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p_std": 0.0}, "--p_std must be positive, got 0.0"),
        ({"sigma_data": -1.0}, "--sigma_data must be positive, got -1.0"),
        ({"edm_num_inference_steps": 0}, "--edm_num_inference_steps must be at least 1"),
        ({"label_dropout": 0.2}, "--label_dropout has no meaning without --class_conditional"),
    ],
)
def test_refused_options(options, message):
    with refused(re.escape(message)):
        objective_of(**options)
