"""What is in a batch depends on the seed and the position, not on how the work is split."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from hf_genmodels.data import DataArguments, TrainingBatches, evaluation_batches, load_data
from hf_genmodels.data.sets import ArrayDataset, LazyDataset
from hf_genmodels.data.streams import StreamedDataset
from hf_genmodels.errors import UserError

COUNT = 50


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def joined(batches):
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def take(dataset, count, position=0, **options):
    return list(itertools.islice(TrainingBatches(dataset, **options).start(position), count))


@pytest.fixture(params=["memory", "lazy", "stream", "skipping stream"])
def dataset(request, folder, arguments, random):
    """Images that are wider than high, so that crops matter, in two classes."""
    widths = [12 + (i % 3 if request.param != "memory" else 0) for i in range(COUNT)]
    pixels = [random.integers(0, 256, (8, width), dtype=np.uint8) for width in widths]
    root = folder({f"{'a' if i % 2 else 'b'}/{i:02}.png": image for i, image in enumerate(pixels)})
    args = arguments(
        train_data_dir=str(root),
        resolution=8,
        random_flip=True,
        streaming="stream" in request.param,
        on_bad_image="skip" if request.param == "skipping stream" else "error",
    )
    train = load_data(args, seed=0).train
    assert isinstance(train, {"memory": ArrayDataset, "lazy": LazyDataset}.get(request.param, StreamedDataset))
    return train


def test_batches_are_determined_by_the_seed(dataset):
    one = take(dataset, 7, batch_size=8, seed=1)
    assert all(same(a, b) for a, b in zip(one, take(dataset, 7, batch_size=8, seed=1), strict=True))
    assert not same(one[0], take(dataset, 1, batch_size=8, seed=2)[0])
    assert one[0]["image"].shape == (8, 1, 8, 8) and one[0]["image"].dtype == torch.float32
    assert one[0]["index"].dtype == one[0]["label"].dtype == torch.int64


def test_an_epoch_visits_every_example_once_and_the_next_in_another_order(dataset):
    batches = take(dataset, 12, batch_size=8)
    first, second = joined(batches[:6])["index"], joined(batches[6:])["index"]
    assert len(first.unique()) == len(second.unique()) == 48
    assert first.tolist() != second.tolist() and first.tolist() != sorted(first.tolist())


@pytest.mark.parametrize(("world_size", "accumulation"), [(2, 1), (1, 3), (2, 2)])
def test_processes_and_accumulation_see_the_batches_of_one_process(dataset, world_size, accumulation):
    parts = world_size * accumulation
    whole = take(dataset, 5, batch_size=4 * parts)
    options = {"batch_size": 4, "accumulation": accumulation, "world_size": world_size}
    ranks = [take(dataset, 5 * accumulation, rank=rank, **options) for rank in range(world_size)]
    for update, expected in enumerate(whole):
        micro = [ranks[r][update * accumulation + m] for m in range(accumulation) for r in range(world_size)]
        assert same(joined(micro), expected)


@pytest.mark.parametrize("position", [1, 5, 6, 17])
def test_starting_at_a_position_equals_going_there(dataset, position):
    options = {"batch_size": 4, "accumulation": 2, "rank": 1, "world_size": 2, "seed": 5}
    whole = take(dataset, position + 3, **options)
    assert all(same(a, b) for a, b in zip(whole[position:], take(dataset, 3, position, **options), strict=True))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(dataset, num_workers):
    state = torch.get_rng_state()
    found = take(dataset, 7, 4, batch_size=8, num_workers=num_workers)
    assert all(same(a, b) for a, b in zip(take(dataset, 7, 4, batch_size=8), found, strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_augmentation_shows_crops_and_mirror_images_of_the_original(dataset, tmp_path):
    from PIL import Image

    batches = take(dataset, 30, batch_size=10)
    originals = sorted((tmp_path / "images").glob("*/*.png"))
    seen = {name: set() for name in ("flipped", "left")}
    for batch in batches:
        for image, index in zip(batch["image"], batch["index"], strict=True):
            original = torch.from_numpy(np.asarray(Image.open(originals[index])) / 127.5 - 1).float()
            crops = {
                (flipped, left): crop.flip(-1) if flipped else crop
                for flipped in (False, True)
                for left in range(original.shape[1] - 7)
                for crop in [original[:, left : left + 8]]
            }
            (match,) = (place for place, crop in crops.items() if torch.allclose(crop, image[0], atol=1e-6))
            seen["flipped"].add(match[0])
            seen["left"].add(match[1])
    assert seen["flipped"] == {False, True} and {0, 1, 2, 3, 4} <= seen["left"]


def test_augmentation_does_not_depend_on_the_batch_size(dataset):
    if dataset.spec.num_examples is None:
        small, large = take(dataset, 10, batch_size=5), take(dataset, 2, batch_size=25)
    else:
        small, large = take(dataset, 10, batch_size=5, world_size=1), take(dataset, 1, batch_size=50)
    by_index = {int(i): image for batch in small for i, image in zip(batch["index"], batch["image"], strict=True)}
    assert len(by_index) == 50
    for batch in large:
        for index, image in zip(batch["index"], batch["image"], strict=True):
            assert torch.equal(by_index[int(index)], image)


def test_half_of_the_images_are_mirrored():
    args = DataArguments(dataset_name="builtin:digits", random_flip=True)
    data = load_data(args, seed=0)
    original = torch.from_numpy(data.train.pixels).float() / 8 - 1
    (batch,) = take(data.train, 1, batch_size=1400)
    as_is = (batch["image"] == original[batch["index"]]).flatten(1).all(1)
    mirrored = (batch["image"].flip(-1) == original[batch["index"]]).flatten(1).all(1)
    assert (as_is | mirrored).all()
    assert mirrored.float().mean() == pytest.approx(0.5, abs=0.05)
    (validation,) = take(data.validation, 1, batch_size=355)
    assert torch.equal(validation["image"], torch.from_numpy(data.validation.pixels[validation["index"]]) / 8 - 1)


def test_evaluation_sees_every_example_once_in_order_without_augmentation(dataset):
    whole = joined(list(evaluation_batches(dataset, batch_size=7)))
    assert whole["index"].tolist() == list(range(COUNT))
    assert same(whole, joined(list(evaluation_batches(dataset, batch_size=16))))
    ranks = [list(evaluation_batches(dataset, batch_size=8, rank=rank, world_size=3)) for rank in range(3)]
    assert [batch["index"].tolist() for batch in ranks[1]] == [list(range(8, 16)), list(range(32, 40))]
    parts = joined([batch for rank in ranks for batch in rank])
    order = parts["index"].argsort()
    assert same(whole, {name: column[order] for name, column in parts.items()})


def test_a_batch_larger_than_the_data(dataset):
    with pytest.raises(UserError) as caught:
        next(TrainingBatches(dataset, batch_size=13, accumulation=2, world_size=2).start(0))
    assert " 52 " in str(caught.value) and " 50 " in str(caught.value) and "--train_batch_size" in str(caught.value)


def test_batches_per_epoch_drops_incomplete_global_batches(dataset):
    batches = TrainingBatches(dataset, batch_size=3, accumulation=2, rank=1, world_size=4)
    assert batches.batches_per_epoch == (None if isinstance(dataset, StreamedDataset) else 4)
    index = [batch["index"] for batch in itertools.islice(batches.start(0), 8)]
    assert len(torch.cat(index[:4]).unique()) == 12
    assert torch.cat(index[:4]).tolist() != torch.cat(index[4:]).tolist()


def test_a_stream_longer_than_its_buffer_is_shuffled_whole(parquet, arguments):
    import datasets

    points = [[float(i)] for i in range(2500)]
    root = parquet({"train": {"point": points}}, {"point": datasets.List(datasets.Value("float32"))})
    args = arguments(dataset_name=str(root), image_column="point", streaming=True)
    data = load_data(args, seed=0)
    values = joined(take(data.train, 25, batch_size=100))["image"].flatten()
    assert sorted(values.tolist()) == [float(i) for i in range(2500)]
    assert values[:1000].max() > 1500 and values[-500:].min() < 1500
    args.max_train_samples = 300
    limited = load_data(args, seed=0).train
    assert sorted(joined(take(limited, 3, batch_size=100))["image"].flatten().tolist()) == [
        float(i) for i in range(300)
    ]


def test_random_positions_cost_the_same():
    """A position of a billion is reached without walking there."""
    data = load_data(DataArguments(dataset_name="builtin:digits"), seed=0)
    (batch,) = take(data.train, 1, 10**9, batch_size=64)
    assert batch["image"].shape == (64, 1, 8, 8)
