"""Sixty-four ranks, one after the other and without networks: together they see what one process sees."""

from __future__ import annotations

import itertools
import random as dice

import numpy as np
import pytest
import torch

from hf_genmodels.data import DataArguments, Layout, TrainingBatches, load_data
from hf_genmodels.data.sets import ArrayDataset, LazyDataset, augmentation_draws, order
from hf_genmodels.objectives.base import Noise

COUNT, GLOBAL = 160, 128  # an epoch has a batch, and a rest
SPLITS = [(64, 1), (16, 4), (1, 64)]


@pytest.fixture(params=["memory", "lazy", "pair", "domains"], scope="module")
def dataset(request, tmp_path_factory):
    """Examples that are cropped, mirrored, or have partners."""
    if request.param in ("memory", "lazy"):
        from PIL import Image

        root, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
        for i in range(COUNT):
            width = 9 + (i % 3 if request.param == "lazy" else 0)
            Image.fromarray(draw.integers(0, 256, (6, width), dtype=np.uint8)).save(root / f"{i:03}.png")
        cache = str(tmp_path_factory.mktemp("cache"))
        args = DataArguments(train_data_dir=str(root), resolution=6, random_flip=True, cache_dir=cache)
        train = load_data(args, 0).train
        assert isinstance(train, ArrayDataset if request.param == "memory" else LazyDataset)
    else:
        args = DataArguments(
            dataset_name="builtin:edges",
            resolution=8,
            random_flip=True,
            max_train_samples=COUNT,
            validation_split=None,
        )
        train = load_data(args, 0, Layout(request.param)).train
    assert len(train) == COUNT and train.augmented
    return train


def take(dataset, count, position, **options):
    return list(itertools.islice(TrainingBatches(dataset, seed=3, **options).start(position), count))


@pytest.mark.parametrize(("world_size", "accumulation"), SPLITS)
@pytest.mark.parametrize("epoch", [0, 10**6])
def test_the_union_of_the_ranks_is_the_batch_of_one(dataset, world_size, accumulation, epoch):
    size = GLOBAL // world_size // accumulation
    whole = take(dataset, 3, epoch, batch_size=GLOBAL)
    ranks = list(range(world_size))
    dice.Random(0).shuffle(ranks)
    options = {"batch_size": size, "accumulation": accumulation, "world_size": world_size}
    found = {rank: take(dataset, 3 * accumulation, epoch * accumulation, rank=rank, **options) for rank in ranks}
    for update, expected in enumerate(whole):
        micro = range(update * accumulation, (update + 1) * accumulation)
        parts = [found[rank][each] for each in micro for rank in range(world_size)]
        assert parts[0].keys() == expected.keys()
        for name, column in expected.items():
            assert torch.equal(torch.cat([part[name] for part in parts]), column)
    assert not torch.equal(whole[0]["index"], whole[1]["index"])


@pytest.mark.parametrize(("world_size", "accumulation"), SPLITS)
def test_so_is_their_noise(world_size, accumulation):
    like, shares = torch.empty(0), world_size * accumulation
    size = GLOBAL // shares
    calls = [("normal", (3, 5, 5)), ("uniform", ()), ("normal", (1,)), ("uniform", (2, 7)), ("normal", (6,))]
    whole = Noise(11)
    expected = [getattr(whole, name)((GLOBAL, *shape), like) for name, shape in calls]
    order_of_shares = list(range(shares))
    dice.Random(1).shuffle(order_of_shares)
    found = {}
    for share in order_of_shares:
        noise = Noise(11, share, shares)
        found[share] = [getattr(noise, name)((size, *shape), like) for name, shape in calls]
    for call, everything in enumerate(expected):
        assert torch.equal(torch.cat([found[share][call] for share in range(shares)]), everything)


def test_an_epoch_goes_through_all_examples_in_an_order_of_its_own():
    everything = np.arange(COUNT)
    epochs = [order(3, epoch, everything, COUNT) for epoch in (0, 1, 2, 10**9)]
    assert all(sorted(each.tolist()) == everything.tolist() for each in epochs)
    assert all((one == other).mean() < 0.1 for one, other in itertools.combinations(epochs, 2))
    assert (order(4, 0, everything, COUNT) == epochs[0]).mean() < 0.1


def test_augmentation_is_of_the_example_and_the_epoch():
    drawn = augmentation_draws(3, 5, np.arange(100))
    assert drawn.shape == (7, 100) and drawn.dtype == np.float64 and drawn.min() >= 0 and drawn.max() < 1
    assert np.array_equal(augmentation_draws(3, 5, np.array([42, 7])), drawn[:, [42, 7]])
    for other in (augmentation_draws(3, 6, np.arange(100)), augmentation_draws(4, 5, np.arange(100))):
        assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < 0.2
