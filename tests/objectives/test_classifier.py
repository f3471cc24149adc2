"""The feature classifier's objective."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from hf_genmodels import DDPMPipeline, UserError
from hf_genmodels.families.classifier import ClassifierArguments, build, reload
from hf_genmodels.objectives.classifier import ClassifierObjective
from tests.testing_utils.objectives import IMAGES, VECTORS, losses_of, make_batch, seeded_noise
from tests.testing_utils.pipelines import tiny_pipeline
from tests.testing_utils.refusals import refused

ARGUMENTS = ClassifierArguments(block_out_channels=[4], feature_dim=6)


@pytest.fixture
def objective() -> ClassifierObjective:
    torch.manual_seed(0)
    return build(ARGUMENTS, IMAGES)


def test_loss_and_held_out_figures(objective):
    batch = make_batch(IMAGES)
    with torch.no_grad():
        probability = objective.networks["classifier"](batch["image"]).logits.softmax(1)
        figures = objective.evaluate(objective.networks, batch, torch.Generator())
    entropy = [-math.log(p[label]) for p, label in zip(probability, batch["label"], strict=True)]
    assert losses_of(objective, batch)["loss"].item() == pytest.approx(sum(entropy) / 5, rel=1e-5)
    assert figures["cross_entropy"].tolist() == pytest.approx(entropy, rel=1e-5)
    assert figures["accuracy"].tolist() == (probability.argmax(1) == batch["label"]).float().tolist()
    assert 0 < sum(figures["accuracy"]) < 5


@pytest.fixture
def ddpm(tmp_path):
    """A saved diffusion model of such images."""
    tiny_pipeline("DDPMPipeline").save_pretrained(tmp_path / "ddpm")
    return str(tmp_path / "ddpm")


def test_noisy_images_of_a_diffusion_model(ddpm, tmp_path):
    torch.manual_seed(0)
    args = dataclasses.replace(ARGUMENTS, diffusion_model_name_or_path=ddpm)
    objective, batch = build(args, IMAGES), make_batch(IMAGES, 12)
    scheduler = DDPMPipeline.from_pretrained(ddpm).trained_schedule()
    network, noise = objective.networks["classifier"], seeded_noise()
    timesteps = (noise.uniform((12,), like=batch["image"]) * 3).floor().long()
    noisy = scheduler.add_noise(batch["image"], noise.normal(batch["image"].shape, like=batch["image"]), timesteps)
    expected = []
    for row, step in enumerate(timesteps):
        probability = network(noisy[row : row + 1], timestep=step).logits.softmax(1)[0, batch["label"][row]]
        expected.append(-math.log(probability.item()))
    assert losses_of(objective, batch)["loss"].item() == pytest.approx(sum(expected) / 12, rel=1e-4)
    figures = objective.evaluate(objective.networks, batch, torch.Generator().manual_seed(0))
    assert figures["cross_entropy"].shape == figures["accuracy"].shape == (12,)
    network.save_pretrained(str(tmp_path / "saved"))
    again = reload(tmp_path / "saved", ClassifierArguments(), IMAGES)
    assert torch.equal(losses_of(again, batch)["loss"], losses_of(objective, batch)["loss"])
    with refused("--diffusion_model_name_or_path cannot be changed with --pretrained_model_name_or_path"):
        reload(tmp_path / "saved", args, IMAGES)


def test_models_whose_noise_does_not_fit(ddpm, tmp_path):
    with refused(r"makes samples of shape \(1, 8, 8\), builtin:digits has \(3, 8, 8\)"):
        build(ClassifierArguments(diffusion_model_name_or_path=ddpm), dataclasses.replace(IMAGES, channels=3))
    tiny_pipeline("LatentDDPMPipeline").save_pretrained(tmp_path / "latent")
    with refused("a LatentDDPMPipeline is no DDPM of the data themselves, which a classifier can guide"):
        build(ClassifierArguments(diffusion_model_name_or_path=str(tmp_path / "latent")), IMAGES)
    with refused("--diffusion_model_name_or_path: "):
        build(ClassifierArguments(diffusion_model_name_or_path=str(tmp_path / "nosuch")), IMAGES)


def test_options_shape_the_network(objective):
    config = objective.networks["classifier"].config
    assert (config.in_channels, config.sample_size, config.num_classes) == (1, 8, 3)
    assert (config.block_out_channels, config.feature_dim) == ((4,), 6)
    assert objective.pipeline(objective.networks) is None


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (VECTORS, {}, "the classifier takes images, but builtin:toy2d has vectors"),
        (
            dataclasses.replace(IMAGES, class_names=None),
            {},
            "train_classifier needs labels, but builtin:digits has none",
        ),
        (dataclasses.replace(IMAGES, size=(4, 4)), {}, "sample_size 4 is too small"),
        (IMAGES, {"feature_dim": 0}, "--feature_dim must be at least 1"),
        (IMAGES, {"block_out_channels": [4, 0]}, "block_out_channels must be at least 1, got 4 0"),
    ],
)
def test_refused_data_and_options(data, options, message):
    with pytest.raises(UserError, match=message):
        build(dataclasses.replace(ARGUMENTS, **options), data)


def test_from_a_saved_network(objective, tmp_path):
    objective.networks["classifier"].save_pretrained(str(tmp_path))
    args = ClassifierArguments(feature_dim=6)
    again = reload(tmp_path, args, IMAGES)
    assert args == ARGUMENTS, "what is recorded is what the saved network has"
    batch = make_batch(IMAGES)
    assert torch.equal(losses_of(again, batch)["loss"], losses_of(objective, batch)["loss"])
    for data, message in (
        (dataclasses.replace(IMAGES, channels=3), "takes samples of shape"),
        (dataclasses.replace(IMAGES, class_names=("a", "b")), "knows 3 classes, builtin:digits has 2"),
        (dataclasses.replace(IMAGES, class_names=None), "needs labels"),
    ):
        with pytest.raises(UserError, match=message):
            reload(tmp_path, ClassifierArguments(), data)
    for options, message in (
        ({"feature_dim": 7}, "--feature_dim cannot be changed with --pretrained.*; the saved network has 6"),
        ({"block_out_channels": [4, 8]}, "--block_out_channels cannot be changed with .* network has 4$"),
    ):
        with pytest.raises(UserError, match=message):
            reload(tmp_path, ClassifierArguments(**options), IMAGES)
