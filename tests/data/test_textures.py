"""`builtin:textures`: parts of scikit-image's photographs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from hf_genmodels.data import DataArguments, load_data
from hf_genmodels.data.builtin import load_builtin
from hf_genmodels.errors import UserError

TEXTURES = ("brick", "grass", "gravel")


@pytest.fixture
def photographs() -> dict[str, np.ndarray]:
    data = pytest.importorskip("skimage.data")
    return {name: getattr(data, name)() for name in TEXTURES}


def test_quarters(photographs):
    data = load_data(DataArguments(dataset_name="builtin:textures"), seed=0)
    assert data.spec.shape == (1, 256, 256) and data.spec.value_scale == 255 and data.spec.num_examples == 9
    assert data.spec.class_names == TEXTURES
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and data.validation.labels.tolist() == [0, 1, 2]
    for index, photograph in enumerate(photographs.values()):
        top_left, top_right, bottom_left = data.train.pixels[3 * index : 3 * index + 3, 0]
        rows = np.block([[top_left, top_right], [bottom_left, data.validation.pixels[index, 0]]])
        assert np.array_equal(rows, photograph)


@pytest.mark.parametrize("name", TEXTURES)
def test_patches(name, photographs):
    data = load_data(DataArguments(dataset_name="builtin:textures", dataset_config_name=name), seed=0)
    assert data.spec.shape == (1, 64, 64) and data.spec.class_names is None
    assert (len(data.train), len(data.validation)) == (29 * 21, 29 * 5)
    assert np.array_equal(data.train.pixels[22, 0], photographs[name][16 : 16 + 64, 16 : 16 + 64])
    # the splits share no pixel: the last training patch ends where the first held-out one begins
    assert np.array_equal(data.train.pixels[-1, 0], photographs[name][448:, 320:384])
    assert np.array_equal(data.validation.pixels[0, 0], photographs[name][:64, 384:448])
    assert np.array_equal(data.validation.pixels[-1, 0], photographs[name][448:, 448:])


def test_resolution(photographs):
    data = load_data(DataArguments(dataset_name="builtin:textures", resolution=128), seed=0)
    assert data.spec.shape == (1, 128, 128)
    quarter = photographs["brick"][:256, :256].reshape(128, 2, 128, 2).mean((1, 3))
    assert np.abs(data.train.pixels[0, 0] - quarter).mean() < 3


def test_they_are_the_files_of_the_real_sets(photographs, data_root):
    for name in TEXTURES:
        with Image.open(data_root / "textures" / f"{name}.png") as picture:
            assert np.array_equal(np.asarray(picture), photographs[name])


def test_mistakes(monkeypatch):
    with pytest.raises(UserError, match=r"no variant 'wood': choose --dataset_config_name from brick, grass, gravel"):
        load_builtin("builtin:textures", "wood", "train")
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(UserError, match=r"needs scikit-image: pip install hf_genmodels\[builtin\]"):
        load_builtin("builtin:textures", None, "train")
