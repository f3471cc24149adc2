"""Flow matching's loss against a slow formula, its times, and what is saved of them."""

from __future__ import annotations

import re

import pytest
import torch

from hf_genmodels import FlowMatchingPipeline, LatentFlowMatchingPipeline
from hf_genmodels.families.flow_matching import FlowMatchingArguments, build, reload
from hf_genmodels.objectives.flow_matching import FlowMatchingObjective
from tests.testing_utils.noise_levels import SMALL, check_gradients, saved_vae, told_labels
from tests.testing_utils.objectives import IMAGES, VECTORS, losses_of, make_batch, seeded_noise
from tests.testing_utils.refusals import refused


def objective_of(data=IMAGES, **options) -> FlowMatchingObjective:
    torch.manual_seed(0)
    return build(FlowMatchingArguments(**SMALL | options), data)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (IMAGES, {}),
        (IMAGES, {"class_conditional": True, "shift": 3.0}),
        (VECTORS, {"time_distribution": "logit_normal", "logit_mean": 0.5, "logit_std": 0.8}),
    ],
)
def test_loss_is_the_squared_error_of_the_velocity(data, options):
    objective = objective_of(data, **options)
    batch, noise = make_batch(data, 6), seeded_noise()
    places = noise.uniform((6,), like=batch["image"])
    labels = told_labels(noise, batch) if "class_conditional" in options else None
    sample = batch["image"].reshape(6, -1, *(batch["image"].shape[2:] or (1, 1)))
    epsilon = noise.normal(tuple(sample.shape), like=sample)
    terms = []
    for row, place in enumerate(places):
        if "logit_std" in options:
            time = torch.sigmoid(0.5 + 0.8 * torch.distributions.Normal(0, 1).icdf(place))
        else:
            time = place
        shift = options.get("shift", 1.0)
        time = shift * time / (1 + (shift - 1) * time)
        told = {} if labels is None else {"class_labels": labels[row : row + 1]}
        noisy = (1 - time) * sample[row] + time * epsilon[row]
        velocity = objective.networks["unet"](noisy[None], 1000 * time, **told).sample[0]
        terms.append((velocity - (epsilon[row] - sample[row])).square().mean())
    slow, loss = torch.stack(terms).mean(), losses_of(objective, batch)["loss"]
    assert loss.item() == pytest.approx(slow.item(), rel=1e-4)
    check_gradients(objective, loss, slow)


def test_pictures_figures_and_what_is_saved(tmp_path):
    objective = objective_of(shift=2.0, flow_num_inference_steps=2)
    pipeline = objective.pipeline(objective.networks)
    assert type(pipeline) is FlowMatchingPipeline and pipeline.scheduler.config.shift == 2
    grid = objective.sample_grid(pipeline, make_batch(IMAGES, 3), torch.Generator().manual_seed(0))
    assert grid["samples"].shape == (3, 1, 8, 8)
    figures = objective.evaluate(objective.networks, make_batch(IMAGES), torch.Generator().manual_seed(0))
    assert figures["velocity_mse"].shape == (5,) and figures["velocity_mse"].isfinite().all()
    pipeline.save_pretrained(tmp_path / "model")
    assert reload(tmp_path / "model", FlowMatchingArguments(), IMAGES).scheduler.config.shift == 2
    with refused("--shift cannot be changed with --pretrained_model_name_or_path"):
        reload(tmp_path / "model", FlowMatchingArguments(shift=3.0), IMAGES)
    latent = objective_of(vae_model_name_or_path=saved_vae(tmp_path), class_conditional=True)
    assert type(latent.pipeline(latent.networks)) is LatentFlowMatchingPipeline
    assert losses_of(latent, make_batch(IMAGES))["loss"].isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": 0.0}, "--shift must be positive, got 0.0"),
        ({"logit_mean": 1.0}, "--logit_mean has no meaning with --time_distribution uniform"),
        ({"time_distribution": "logit_normal", "logit_std": 0.0}, "--logit_std must be positive, got 0.0"),
        ({"flow_num_inference_steps": 0}, "--flow_num_inference_steps must be at least 1"),
    ],
)
def test_refused_options(options, message):
    with refused(re.escape(message)):
        objective_of(**options)
