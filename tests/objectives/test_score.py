"""Denoising score matching against a slow formula, its noise levels, and what is saved of them."""

from __future__ import annotations

import re

import pytest
import torch

from hf_genmodels import LatentScorePipeline, ScorePipeline
from hf_genmodels.families.score import ScoreArguments, build, reload
from hf_genmodels.objectives.score import ScoreObjective
from tests.testing_utils.noise_levels import SMALL, check_gradients, saved_vae, told_labels
from tests.testing_utils.objectives import IMAGES, VECTORS, losses_of, make_batch, seeded_noise
from tests.testing_utils.refusals import refused


def objective_of(data=IMAGES, **options) -> ScoreObjective:
    torch.manual_seed(0)
    return build(ScoreArguments(**SMALL | options), data)


@pytest.mark.parametrize(("data", "classes"), [(IMAGES, False), (IMAGES, True), (VECTORS, False)])
def test_loss_is_the_weighted_error_of_the_score(data, classes):
    objective = objective_of(data, sigma_min=0.02, sigma_max=9.0, class_conditional=classes)
    batch, noise = make_batch(data, 6), seeded_noise()
    places = noise.uniform((6,), like=batch["image"])
    labels = told_labels(noise, batch) if classes else None
    sample = batch["image"].reshape(6, -1, *(batch["image"].shape[2:] or (1, 1)))
    epsilon = noise.normal(tuple(sample.shape), like=sample)
    terms = []
    for row, place in enumerate(places):
        sigma = 0.02 * (9.0 / 0.02) ** place
        told = {} if labels is None else {"class_labels": labels[row : row + 1]}
        seen = (sample[row] + sigma * epsilon[row]) / (1 + sigma**2) ** 0.5
        score = -objective.networks["unet"](seen[None], sigma.log() / 4, **told).sample[0] / sigma
        terms.append(sigma**2 * (score + epsilon[row] / sigma).square().mean())
    slow, loss = torch.stack(terms).mean(), losses_of(objective, batch)["loss"]
    assert loss.item() == pytest.approx(slow.item(), rel=1e-4)
    check_gradients(objective, loss, slow)


def test_greatest_noise_is_the_greatest_distance_in_the_first_batch_and_kept(tmp_path):
    objective, batch = objective_of(VECTORS, score_num_inference_steps=2), make_batch(VECTORS, 20)
    halves = batch["image"].chunk(2)
    objective.initialize({"image": halves[0]}, seeded_noise(), lambda tensor: batch["image"][..., None, None])
    greatest = torch.cdist(batch["image"], batch["image"]).max().item()
    assert objective.scheduler.config.sigma_max == pytest.approx(greatest, rel=1e-5)
    pipeline = objective.pipeline(objective.networks)
    assert type(pipeline) is ScorePipeline
    pipeline.save_pretrained(tmp_path)
    again = reload(tmp_path, ScoreArguments(), VECTORS)
    again.initialize(make_batch(VECTORS), seeded_noise(), lambda tensor: tensor)
    with refused("as measured in the first batch 0, must be above --sigma_min 0.01"):
        objective_of(VECTORS).initialize(make_batch(VECTORS, 1), seeded_noise(), lambda tensor: tensor)
    assert again.scheduler.config.sigma_max == objective.scheduler.config.sigma_max
    resumed = objective_of(VECTORS)
    resumed.load_state_dict(objective.state_dict())
    assert resumed.scheduler.config.sigma_max == objective.scheduler.config.sigma_max
    grid = objective.sample_grid(pipeline, make_batch(VECTORS, 3), torch.Generator().manual_seed(0))
    assert grid["samples"].shape == (3, 2)
    figures = objective.evaluate(objective.networks, make_batch(VECTORS), torch.Generator().manual_seed(0))
    assert figures["weighted_mse"].shape == (5,) and figures["weighted_mse"].isfinite().all()
    with refused("--sigma_min cannot be changed with --pretrained_model_name_or_path"):
        reload(tmp_path, ScoreArguments(sigma_min=0.5), VECTORS)


def test_latents_and_classes(tmp_path):
    objective = objective_of(vae_model_name_or_path=saved_vae(tmp_path), class_conditional=True)
    objective.initialize(make_batch(IMAGES), seeded_noise(), lambda tensor: tensor)
    pipeline = objective.pipeline(objective.networks)
    assert type(pipeline) is LatentScorePipeline and pipeline.num_classes == 3
    assert losses_of(objective, make_batch(IMAGES))["loss"].isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma_min": 0.0}, "--sigma_min must be positive, got 0.0"),
        ({"sigma_max": 0.001}, "--sigma_max must be above --sigma_min 0.01, got 0.001"),
        ({"snr": -1.0}, "--snr must be positive, got -1.0"),
        ({"correct_steps": -1}, "--correct_steps must be at least 0"),
        ({"score_num_inference_steps": 1}, "--score_num_inference_steps must be at least 2"),
    ],
)
def test_refused_options(options, message):
    with refused(re.escape(message)):
        objective_of(**options)
