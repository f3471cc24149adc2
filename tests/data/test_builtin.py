from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from hf_genmodels.data import DataArguments, TrainingBatches, evaluation_batches, load_data, load_split
from hf_genmodels.data.builtin import load_builtin
from hf_genmodels.data.builtin.shapes import FACTOR_VALUES, render
from hf_genmodels.data.builtin.toy2d import VARIANTS
from hf_genmodels.data.spec import fingerprint
from hf_genmodels.errors import UserError
from tests.testing_utils.refusals import refused


def everything(dataset):
    batches = list(evaluation_batches(dataset, batch_size=997))
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def test_digits_are_scikit_learns_split_into_disjoint_stratified_parts():
    datasets = pytest.importorskip("sklearn.datasets")
    data = load_data(DataArguments(dataset_name="builtin:digits"), seed=0)
    train, test = everything(data.train), everything(data.validation)
    assert data.spec.shape == (1, 8, 8) and data.spec.value_scale == 16 and data.spec.num_examples == 1442
    assert data.spec.class_names == tuple("0123456789")
    values = torch.cat([train["image"], test["image"]]).add(1).mul(8).flatten(1)
    real = datasets.load_digits()
    assert sorted(map(tuple, values.tolist())) == sorted(map(tuple, real.data.tolist()))
    shares = test["label"].bincount() / (test["label"].bincount() + train["label"].bincount())
    assert shares.min() > 0.19 and shares.max() <= 0.2
    image = train["image"][17].add(1).mul(8).numpy()
    row = next(i for i, digit in enumerate(real.images) if (digit == image).all())
    assert real.target[row] == train["label"][17]


def test_digits_resized_stay_within_their_scale():
    data = load_data(DataArguments(dataset_name="builtin:digits", resolution=32), seed=0)
    images = everything(data.validation)["image"]
    assert data.spec.shape == (1, 32, 32)
    assert images.min() == -1 and images.max() == 1
    smaller = torch.nn.functional.avg_pool2d(images, 4)
    original = everything(load_data(DataArguments(dataset_name="builtin:digits"), seed=0).validation)["image"]
    assert (smaller - original).abs().mean() < 0.15


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UserError, match=r"pip install hf_genmodels\[builtin\]"):
        load_data(DataArguments(dataset_name="builtin:digits"), seed=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_toy2d_is_fixed_and_has_unrelated_splits(variant):
    data = load_data(DataArguments(dataset_name="builtin:toy2d", dataset_config_name=variant), seed=0)
    again = load_data(DataArguments(dataset_name="builtin:toy2d", dataset_config_name=variant), seed=1)
    assert data.spec.shape == (2,) and not data.spec.is_image and data.spec.num_examples == 50_000
    assert np.array_equal(data.train.pixels, again.train.pixels) and data.spec == again.spec
    assert len(np.unique(np.concatenate([data.train.pixels, data.validation.pixels]), axis=0)) == 60_000
    batch = next(evaluation_batches(data.validation, batch_size=5))
    assert batch["image"].dtype == torch.float32 and batch["image"].shape == (5, 2)
    assert ("label" in batch) == (variant not in ("swiss_roll", "avae"))


def test_toy2d_ring_and_grid_have_the_stated_modes():
    ring = load_builtin("builtin:toy2d", None, "train")
    for mode in range(8):
        points = ring.pixels[ring.labels == mode]
        centre = (2 * math.cos(math.pi * mode / 4), 2 * math.sin(math.pi * mode / 4))
        assert points.mean(0) == pytest.approx(centre, abs=0.005)
        assert points.std(0) == pytest.approx(0.05, rel=0.05)
    grid = load_builtin("builtin:toy2d", "grid25", "train")
    centres = {tuple(grid.pixels[grid.labels == mode].mean(0).round(1).tolist()) for mode in range(25)}
    assert centres == {(x, y) for x in (-4.0, -2.0, 0.0, 2.0, 4.0) for y in (-4.0, -2.0, 0.0, 2.0, 4.0)}


def test_toy2d_circles_have_the_stated_radii():
    for variant, radii in (("circles", (0.5, 1.0)), ("rings", (0.75, 1.5, 2.25, 3.0))):
        split = load_builtin("builtin:toy2d", variant, "test")
        distance = np.linalg.norm(split.pixels, axis=1)
        measured = [np.median(distance[split.labels == ring]) for ring in range(len(radii))]
        assert measured == pytest.approx(radii, abs=0.02)


def test_avae_points_have_the_moments_of_their_definition():
    x, y = load_builtin("builtin:toy2d", "avae", "train").pixels.astype(np.float64).T
    assert x.var() == pytest.approx(9.01, rel=0.03)
    # E[y] by quadrature over z1, z2.
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    z1, z2 = np.meshgrid(nodes, nodes, indexing="ij")
    weight = np.outer(weights, weights) / (2 * math.pi)
    branch = np.cos(3 * z1 + np.tanh(3 * z2))
    assert y.mean() == pytest.approx((weight * branch).sum(), abs=0.01)
    # The second coordinate follows the first with the phase tanh(3 z2); 0.1 e1 damps cos(x) by exp(-0.1^2 / 2).
    aligned = (weight * branch * np.cos(3 * z1)).sum() * math.exp(-0.005)
    assert (y * np.cos(x)).mean() == pytest.approx(aligned, abs=0.01)
    assert y.var() == pytest.approx((weight * branch**2).sum() - (weight * branch).sum() ** 2 + 0.01, rel=0.03)


def test_shapes_hold_distinct_factors_and_their_labels():
    data = load_data(DataArguments(dataset_name="builtin:shapes"), seed=0)
    assert data.spec.shape == (1, 64, 64) and data.spec.class_names == ("square", "ellipse", "heart")
    batch = next(evaluation_batches(data.validation, batch_size=100))
    assert set(batch["image"].unique().tolist()) == {-1.0, 1.0}
    assert batch["factors"].dtype == torch.float32 and batch["factors"].shape == (100, 5)
    assert torch.equal(batch["factors"][:, 0].long(), batch["label"])
    factors = np.concatenate([data.train.extras["factors"], data.validation.extras["factors"]])
    assert len(np.unique(factors, axis=0)) == 12_000
    assert [len(np.unique(column)) for column in factors.T] == [3, 6, 40, 32, 32]


def test_shapes_are_drawn_where_and_as_large_as_their_factors_say():
    for shape, area in ((0, 2.0), (1, math.pi / 2)):
        small, large = render(np.array([[shape, 0.5, 0.7, 0.25, 0.75], [shape, 1.0, 0.7, 0.25, 0.75]]))[:, 0] > 0
        assert small.sum() == pytest.approx(area * 7**2, rel=0.08)
        assert large.sum() == pytest.approx(area * 14**2, rel=0.03)
        rows, columns = np.nonzero(large)
        assert (columns + 0.5).mean() == pytest.approx(14 + 0.25 * 36, abs=0.3)
        assert (rows + 0.5).mean() == pytest.approx(14 + 0.75 * 36, abs=0.3)


def test_no_shape_is_cut_off_by_its_radius():
    angles = FACTOR_VALUES[2]
    hearts = np.array([[2, 1.0, angle, 0.5, 0.5] for angle in angles])
    areas = (render(hearts)[:, 0] > 0).sum((1, 2))
    rows, columns = np.nonzero((render(hearts)[:, 0] > 0).any(0))
    assert areas.std() / areas.mean() < 0.03
    assert np.hypot(rows + 0.5 - 32, columns + 0.5 - 32).max() <= 14
    assert np.hypot(rows + 0.5 - 32, columns + 0.5 - 32).max() > 13


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset_name": "builtin:faces"}, ["faces", "digits, edges, polarimetric, shapes, textures, toy2d"]),
        ({"dataset_name": "builtin:toy2d", "dataset_config_name": "ring9"}, ["ring9", "ring8, grid25"]),
        ({"dataset_name": "builtin:shapes", "dataset_config_name": "ring8"}, ["builtin:shapes", "no variants"]),
        ({"dataset_name": "builtin:shapes", "train_split": "dev"}, ["'dev'", "train, test"]),
        ({"dataset_name": "builtin:toy2d", "resolution": 8}, ["builtin:toy2d", "--resolution"]),
        ({"dataset_name": "builtin:toy2d", "random_flip": True}, ["builtin:toy2d", "--random_flip"]),
        ({"dataset_name": "builtin:toy2d", "streaming": True}, ["builtin:toy2d", "--streaming"]),
        (
            {"dataset_name": "builtin:digits", "label_column": "nothing"},
            ["builtin:digits has no column 'nothing'", "--label_column"],
        ),
        ({"dataset_name": "builtin:digits", "exclude_label": "10"}, ["--exclude_label 10", "0, 1, 2"]),
        (
            {"dataset_name": "builtin:toy2d", "dataset_config_name": "avae", "exclude_label": "0"},
            ["--exclude_label 0", "no column 'label'"],
        ),
        ({}, ["--dataset_name", "--train_data_dir"]),
        ({"dataset_name": "builtin:digits", "train_data_dir": "x"}, ["--dataset_name", "--train_data_dir"]),
        ({"dataset_name": "builtin:digits", "resolution": 0}, ["--resolution 0"]),
        ({"dataset_name": "builtin:digits", "resolution": [8, 0]}, ["--resolution 8 0"]),
        ({"dataset_name": "builtin:digits", "resolution": (8, 8, 8)}, ["--resolution 8 8 8", "height and width"]),
        ({"dataset_name": "builtin:digits", "resolution": 8.5}, ["--resolution 8.5"]),
        ({"dataset_name": "builtin:digits", "max_train_samples": -1}, ["--max_train_samples -1"]),
    ],
)
def test_mistakes_are_one_line(options, words):
    with refused() as caught:
        load_data(DataArguments(**options), seed=0)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("label", ["heart", "2"])
def test_an_excluded_class_is_missing_from_training_and_validation_only(label):
    args = DataArguments(dataset_name="builtin:shapes", exclude_label=label)
    data = load_data(args, seed=0)
    assert set(data.train.labels) == set(data.validation.labels) == {0, 1}
    assert data.spec.class_names == ("square", "ellipse", "heart")
    assert len(data.train) == data.spec.num_examples
    assert set(load_split(args, "test").labels) == {0, 1, 2}


def test_max_train_samples_draws_a_subset_with_the_seed():
    args = DataArguments(dataset_name="builtin:toy2d", max_train_samples=100)
    whole = load_data(DataArguments(dataset_name="builtin:toy2d"), seed=0)
    one, same, other = (load_data(args, seed=seed) for seed in (3, 3, 4))
    assert one.spec.num_examples == 100 and one.spec == same.spec != other.spec
    assert np.array_equal(one.train.pixels, same.train.pixels)
    assert {tuple(point) for point in one.train.pixels} < {tuple(point) for point in whole.train.pixels}
    assert one.validation.spec == whole.validation.spec


def test_fingerprint_depends_on_content_and_not_on_the_process():
    train = load_data(DataArguments(dataset_name="builtin:toy2d"), seed=0).spec
    moons = load_data(DataArguments(dataset_name="builtin:toy2d", dataset_config_name="moons"), seed=0).spec
    assert train.fingerprint != moons.fingerprint
    # Written down once: neither the process nor its hash seed has a part in it.
    assert fingerprint("set", None, "train", (1, 8, 8), 10, 5) == "ae36a9ca9d70"


def test_extra_columns_follow_their_images():
    data = load_data(DataArguments(dataset_name="builtin:shapes", max_train_samples=64), seed=0)
    batch = next(TrainingBatches(data.train, batch_size=16).start(0))
    drawn = render(batch["factors"].double().numpy())
    assert (torch.from_numpy(drawn).float() / 255 * 2 - 1 != batch["image"]).float().mean() < 0.002
