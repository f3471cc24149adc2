"""The texture's fit: the right image, its periodic component, its figures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hf_genmodels import UserError
from hf_genmodels.families.texture import TextureArguments, build
from hf_genmodels.models.texture import periodic_component
from tests.testing_utils.objectives import IMAGES, VECTORS, make_batch

DATA = replace(IMAGES, channels=3, num_examples=7)


def batches() -> list[dict[str, torch.Tensor]]:
    batch = make_batch(DATA, 7)
    return [{name: value[rows] for name, value in batch.items()} for rows in (slice(0, 4), slice(4, 7))]


@pytest.mark.parametrize("index", [0, 5])
def test_the_exemplar_is_the_image_asked_for(index):
    objective = build(TextureArguments(example_index=index), DATA)
    result = objective.fit(iter(batches()), torch.Generator())
    image = make_batch(DATA, 7)["image"][index]
    periodic = periodic_component(image)
    texture = objective.networks["texture"]
    torch.testing.assert_close(texture.exemplar.double(), periodic, rtol=0, atol=1e-6)
    assert texture.mean.tolist() == pytest.approx(image.mean((1, 2)).tolist(), abs=1e-6)
    (std,), (smooth,) = result.figures["exemplar_std"], result.figures["smooth_component_rms"]
    grey = (image.double() + 1) / 2
    assert std == pytest.approx(float(grey.std(correction=0)), rel=1e-5)
    assert smooth == pytest.approx(float(((image - periodic) / 2).square().mean().sqrt()), rel=1e-4)
    assert smooth > 0.01


def test_picture():
    objective = build(TextureArguments(), DATA)
    objective.fit(iter(batches()), torch.Generator())
    pipeline = objective.pipeline(objective.networks)
    assert pipeline.config.value_scale == 16.0
    pictures = objective.sample_grid(pipeline, batches()[0], torch.Generator().manual_seed(0))
    assert {name: tuple(picture.shape) for name, picture in pictures.items()} == {
        "exemplar, periodic component": (1, 3, 8, 8),
        "ADSN": (4, 3, 8, 8),
        "random phase": (4, 3, 8, 8),
    }


@pytest.mark.parametrize("index", [-1, 7])
def test_an_image_that_is_not_there(index):
    with pytest.raises(UserError, match=f"--example_index {index} is none of the 7 training images of builtin:digits"):
        build(TextureArguments(example_index=index), DATA)


def test_vectors():
    with pytest.raises(UserError, match="but builtin:toy2d has vectors"):
        build(TextureArguments(), VECTORS)
