"""The feature classifier's objective."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from hf_genmodels import UserError
from hf_genmodels.families.classifier import ClassifierArguments, build, reload
from hf_genmodels.objectives.classifier import ClassifierObjective
from tests.testing_utils.objectives import IMAGES, VECTORS, losses_of, make_batch

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
