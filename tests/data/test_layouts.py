"""Examples of two images: what belongs together stays together, what does not is drawn apart."""

from __future__ import annotations

import itertools

import datasets
import numpy as np
import pytest
import torch

from hf_genmodels.data import DataArguments, Layout, TrainingBatches, evaluation_batches, load_data, load_split
from hf_genmodels.data.sets import ArrayDataset, LazyDataset
from tests.testing_utils.refusals import refused

COUNT = 24


def error_of(function, *args, **kwargs) -> str:
    with refused() as caught:
        function(*args, **kwargs)
    return str(caught.value)


def take(dataset, count, **options):
    return list(itertools.islice(TrainingBatches(dataset, batch_size=8, **options).start(0), count))


def joined(batches):
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


@pytest.fixture
def pairs(folder, random):
    """An image folder whose rows have two images, wider than high: B is A with other values, 128 higher."""
    a = random.integers(0, 120, (COUNT, 8, 12), dtype=np.uint8)
    files = {f"a/{i:02}.png": image for i, image in enumerate(a)} | {
        f"b/{i:02}.png": np.stack([image + 128, image, image], 2) for i, image in enumerate(a)
    }
    rows = [
        f'{{"conditioning_image_file_name": "a/{i:02}.png", "target_image_file_name": "b/{i:02}.png"}}'
        for i in range(COUNT)
    ]
    return folder(files | {"metadata.jsonl": "\n".join(rows)})


def test_pairs_are_cropped_and_mirrored_alike(pairs, arguments):
    args = arguments(train_data_dir=str(pairs), resolution=8, random_flip=True)
    data = load_data(args, 0, Layout("pair"))
    assert data.spec.shape == (1, 8, 8) and data.spec.other.shape == (3, 8, 8)
    batch = joined(take(data.train, 3))
    assert batch.keys() == {"conditioning_image", "target_image", "index"}
    condition, target = ((batch[name] + 1) * 127.5 for name in ("conditioning_image", "target_image"))
    torch.testing.assert_close(condition[:, 0] + 128, target[:, 0], rtol=0, atol=1e-4)
    whole = next(evaluation_batches(load_split(args, "train", Layout("pair")), batch_size=COUNT))
    centred = (whole["conditioning_image"][batch["index"]] + 1) * 127.5
    moved = (condition - centred).abs().amax((1, 2, 3)) > 1
    assert moved.any()  # by crops and flips


def test_pairs_that_do_not_fit_into_memory_are_the_same(pairs, arguments, monkeypatch):
    args = arguments(train_data_dir=str(pairs), resolution=8, random_flip=True)
    here = load_data(args, 3, Layout("pair")).train
    monkeypatch.setattr("hf_genmodels.data.columns.IN_MEMORY_BYTES", 1000)
    lazy = load_data(args, 3, Layout("pair")).train
    assert isinstance(here.first, ArrayDataset) and isinstance(lazy.first, LazyDataset)
    for one, other in zip(take(here, 4), take(lazy, 4), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_bad_image_takes_its_pair_with_it(pairs, arguments):
    (pairs / "b" / "03.png").write_text("no image")
    args = arguments(train_data_dir=str(pairs), resolution=8)
    assert "03.png" in error_of(load_data, args, 0, Layout("pair"))
    args = arguments(train_data_dir=str(pairs), resolution=8, on_bad_image="skip")
    train = load_data(args, 0, Layout("pair")).train
    assert len(train) == len(train.second) == COUNT - 1
    batch = next(evaluation_batches(train, batch_size=COUNT))
    shift = (batch["target_image"][:, :1] - batch["conditioning_image"]) * 127.5
    torch.testing.assert_close(shift, torch.full_like(shift, 128), rtol=0, atol=1e-4)


def test_two_folders_hold_pairs_if_their_files_have_the_same_names(folder, arguments, random):
    images = random.integers(0, 255, (3, 4, 4), dtype=np.uint8)
    root = folder({f"{side}/{i}.png": image for side in "ab" for i, image in enumerate(images)})
    both = {"train_data_dir": str(root / "a"), "train_data_dir_b": str(root / "b")}
    batch = next(evaluation_batches(load_data(arguments(**both), 0, Layout("pair")).train, batch_size=3))
    assert torch.equal(batch["conditioning_image"], batch["target_image"])
    (root / "b" / "2.png").rename(root / "b" / "other.png")
    message = error_of(load_data, arguments(**both), 0, Layout("pair"))
    assert "2 stands beside other" in message and "no pairs" in message
    (root / "b" / "other.png").unlink()
    assert "'train' of a has 3 images and of b 2" in error_of(load_data, arguments(**both), 0, Layout("pair"))


def test_images_without_file_names_cannot_be_paired(folder, parquet, arguments, random):
    images = random.integers(0, 255, (3, 4, 4), dtype=np.uint8)
    root = folder({f"{i}.png": image for i, image in enumerate(images)})
    arrays = parquet({"train": {"image": images}}, {"image": datasets.Array2D((4, 4), "uint8")})
    message = error_of(load_data, arguments(train_data_dir=str(root), dataset_name_b=str(arrays)), 0, Layout("pair"))
    assert "have no file names" in message and "columns of one data set" in message


@pytest.fixture
def two_folders(folder, random):
    """Two folders of 12 files with the same names; B is A, 100 higher."""
    images = random.integers(0, 150, (12, 4, 4), dtype=np.uint8)
    sides = {"a": images, "b": images + 100}
    root = folder({f"{side}/im{i:02}.png": image for side, stack in sides.items() for i, image in enumerate(stack)})
    return root, {"train_data_dir": str(root / "a"), "train_data_dir_b": str(root / "b")}


def assert_pairs(train, count):
    assert len(train) == len(train.second) == count
    batch = next(evaluation_batches(train, batch_size=count))
    shift = (batch["target_image"] - batch["conditioning_image"]) * 127.5
    torch.testing.assert_close(shift, torch.full_like(shift, 100), rtol=0, atol=1e-4)


def test_of_two_folders_a_bad_image_takes_its_pair_with_it(two_folders, arguments):
    root, both = two_folders
    (root / "b" / "im03.png").write_text("no image")
    (root / "a" / "im07.png").write_text("no image")
    assert "im07.png is no image" in error_of(load_data, arguments(**both), 0, Layout("pair"))
    assert_pairs(load_data(arguments(**both, on_bad_image="skip"), 0, Layout("pair")).train, 10)


def test_no_pair_is_left(two_folders, arguments):
    root, both = two_folders
    for i in range(12):
        (root / "ab"[i % 2] / f"im{i:02}.png").write_text("no image")
    args = arguments(**both, on_bad_image="skip")
    assert "no pair is left in split 'train'" in error_of(load_data, args, 0, Layout("pair"))


def test_of_two_folders_the_same_subset_is_taken(two_folders, arguments):
    root, both = two_folders
    args = arguments(**both, max_train_samples=4)
    assert_pairs(load_data(args, 0, Layout("pair")).train, 4)
    # Which pairs there are does not depend on which are drawn.
    (root / "b" / "im02.png").unlink()
    assert "'train' of a has 12 images and of b 11" in error_of(load_data, args, 0, Layout("pair"))
    (root / "a" / "im11.png").unlink()
    args.max_train_samples = 1
    for seed in range(3):
        assert "im02 stands beside im03" in error_of(load_data, args, seed, Layout("pair"))


def test_a_validation_split_is_chosen_from_those_both_sets_have(folder, arguments):
    grey = np.zeros((4, 4), np.uint8)
    splits = {"a": ("train", "validation", "test"), "b": ("train", "test"), "c": ("train",)}
    root = folder({f"{side}/{split}/{i}.png": grey for side in splits for split in splits[side] for i in range(2)})

    def loaded(second, **options):
        both = {"train_data_dir": str(root / "a"), "train_data_dir_b": str(root / second)}
        return load_data(arguments(**both, **options), 0, Layout("domains"))

    assert loaded("b").validation_split == "test" and len(loaded("b").validation) == 2
    assert loaded("c").validation_split is None and loaded("c").validation is None
    message = error_of(loaded, "b", validation_split="validation")
    assert message == "b has no split 'validation': choose --validation_split from train, test"
    message = error_of(loaded, "c", train_split="test")
    assert message == "c has no split 'test': choose --train_split from train"
    (root / "c" / "train").rename(root / "c" / "validation")
    args = arguments(train_data_dir=str(root / "b" / "test"), train_data_dir_b=str(root / "c"))
    message = error_of(load_data, args, 0, Layout("domains"))
    assert "no split of the same name: test has train, c has validation" in message


def test_errors_about_the_second_set_name_its_option(folder, arguments, tmp_path):
    root = folder({"a/1.png": np.zeros((4, 4), np.uint8), "notes.txt": "", "saved/state.json": "{"})
    (tmp_path / "hollow").mkdir()
    for option, given, words in (
        ("train_data_dir_b", root / "none", "there is no such folder"),
        ("dataset_name_b", root / "none", "there is no such folder"),
        ("train_data_dir_b", tmp_path / "hollow", "is an empty folder"),
        ("dataset_name_b", root / "notes.txt", "is a file"),
        ("dataset_name_b", root / "saved", "cannot be read as a saved data set"),
        ("dataset_name_b", "me/none", "no data set could be read from there"),
    ):
        args = arguments(train_data_dir=str(root / "a"), **{option: str(given)})
        message = error_of(load_data, args, 0, Layout("domains"))
        assert message.startswith(f"--{option} {given}") and words in message


@pytest.mark.parametrize("kind", ["pair", "domains"])
def test_one_folder_with_one_column_needs_a_second_set(folder, arguments, kind):
    root = folder({"1.png": np.zeros((4, 4), np.uint8)})
    second = ", or give the second set with --train_data_dir_b or --dataset_name_b"
    beside = ", pass --side_by_side if each image shows A and B beside each other"
    message = error_of(load_data, arguments(train_data_dir=str(root)), 0, Layout(kind))
    assert message.endswith(f"choose --conditioning_image_column from image{beside}{second}")
    args = arguments(train_data_dir=str(root), conditioning_image_column="image")
    message = error_of(load_data, args, 0, Layout(kind))
    assert message.endswith(f"choose --target_image_column from image{beside}{second}")
    # Pairs are never in two sets of which one is built in.
    message = error_of(load_data, DataArguments(dataset_name="builtin:digits"), 0, Layout(kind))
    assert message.endswith("from image" if kind == "pair" else second)
    args = arguments(train_data_dir=str(root), image_column="x")
    assert error_of(load_data, args, 0).endswith("choose --image_column from image")


def test_domains_draw_their_partners(folder, arguments, random):
    a, b = (random.integers(0, 255, (count, 4, 4), dtype=np.uint8) for count in (16, 5))
    root = folder({f"a/{i:02}.png": x for i, x in enumerate(a)} | {f"b/{i:02}.png": x for i, x in enumerate(b)})
    args = arguments(train_data_dir=str(root / "a"), train_data_dir_b=str(root / "b"))
    data = load_data(args, 0, Layout("domains"))
    assert data.spec.name == "a" and data.spec.other.name == "b" and data.spec.other.num_examples == 5
    batch = joined(take(data.train, 40))
    assert batch.keys() == {"image_a", "image_b", "index"}

    def rows(images, stored):
        stored = torch.from_numpy(stored / 127.5 - 1).float()
        return [int((stored - image).abs().amax((1, 2)).argmin()) for image in images[:, 0]]

    assert rows(batch["image_a"], a) == batch["index"].tolist()
    partners = np.array(rows(batch["image_b"], b))
    counts = np.bincount(partners, minlength=5)
    assert counts.min() > 320 / 5 - 4 * np.sqrt(320 / 5)  # every image of B is as likely as the others
    of_first = partners[batch["index"].numpy() == 0]
    assert len(set(of_first)) > 1  # and not tied to one of A


@pytest.mark.parametrize(("num_a", "num_b"), [(5, 2), (2, 5), (4, 4)])
@pytest.mark.parametrize("world_size", [1, 2])
def test_an_evaluation_goes_once_through_either_side(folder, arguments, random, num_a, num_b, world_size):
    sides = {"a": num_a, "b": num_b}
    pixels = {side: random.integers(0, 255, (count, 4, 4), dtype=np.uint8) for side, count in sides.items()}
    root = folder({f"{side}/{i}.png": image for side, stack in pixels.items() for i, image in enumerate(stack)})
    args = arguments(train_data_dir=str(root / "a"), train_data_dir_b=str(root / "b"))
    dataset = load_split(args, "train", Layout("domains"))
    batches = [
        list(evaluation_batches(dataset, batch_size=2, rank=r, world_size=world_size)) for r in range(world_size)
    ]
    for side, stack in pixels.items():
        seen = torch.cat([batch[f"image_{side}"] for rank in batches for batch in rank])
        expected = torch.from_numpy(stack.astype(np.float32) / 127.5 - 1)[:, None]
        order = [int((expected - image).abs().amax((1, 2, 3)).argmin()) for image in seen]
        assert sorted(order) == list(range(len(stack)))
        torch.testing.assert_close(seen, expected[order])
    assert sum(len(batch["index"]) for rank in batches for batch in rank) == num_a


@pytest.mark.parametrize("kind", ["domains", "reserved"])
def test_batches_do_not_depend_on_the_number_of_processes(kind):
    train = load_data(DataArguments(dataset_name="builtin:edges", resolution=8), 0, Layout(kind)).train
    (whole,) = take(train, 1)
    halves = [next(TrainingBatches(train, batch_size=4, rank=rank, world_size=2).start(0)) for rank in range(2)]
    for name, values in whole.items():
        assert torch.equal(values, torch.cat([half[name] for half in halves]))


def test_a_fifth_is_held_in_reserve():
    args = DataArguments(dataset_name="builtin:digits")
    data = load_data(args, 0, Layout("reserved"))
    assert len(data.train.first) == 1442 - 288 and len(data.train.second) == 288
    whole = load_data(args, 0).train.pixels
    parts = np.concatenate([data.train.first.pixels, data.train.second.pixels])
    assert sorted(map(bytes, whole)) == sorted(map(bytes, parts))
    again = load_data(args, 5, Layout("reserved")).train
    assert np.array_equal(again.second.pixels, data.train.second.pixels)  # whatever the seed
    assert take(data.train, 1)[0].keys() == {"image", "constraint_image", "index", "label"}
    args.max_train_samples = 50
    few, same, others = (load_data(args, seed, Layout("reserved")).train for seed in (0, 0, 1))
    assert len(few.first) == 40 and len(few.second) == 10
    assert np.array_equal(few.second.pixels, same.second.pixels)
    assert not np.array_equal(few.second.pixels, others.second.pixels)  # of examples drawn with the seed


def test_a_mirrored_polarimetric_image_exchanges_45_and_135_degrees(folder, arguments, random):
    names = ("i000", "i045", "i090", "i135")
    angles = random.integers(0, 255, (4, 6, 5, 5), dtype=np.uint8)
    files = {
        f"{name}/{i}.png": image for name, stack in zip(names, angles, strict=True) for i, image in enumerate(stack)
    }
    rows = ["{" + ", ".join(f'"{name}_file_name": "{name}/{i}.png"' for name in names) + "}" for i in range(6)]
    root = folder(files | {"metadata.jsonl": "\n".join(rows)})
    args = arguments(
        train_data_dir=str(root), conditioning_image_column="i000", image_columns=list(names), random_flip=True
    )
    train = load_data(args, 0, Layout("domains", mirrored_channels=(0, 3, 2, 1))).train
    assert train.spec.shape == (1, 5, 5) and train.spec.other.shape == (4, 5, 5)
    stored = torch.from_numpy(angles.astype(np.float32) / 127.5 - 1).transpose(0, 1)
    mirrored = stored.flip(-1)[:, [0, 3, 2, 1]]
    batch = joined([next(TrainingBatches(train, batch_size=6, seed=seed).start(0)) for seed in range(4)])
    found = batch["image_b"][:, None]
    plain, turned = ((found - images).abs().amax((2, 3, 4)).amin(1) < 1e-5 for images in (stored, mirrored))
    assert (plain ^ turned).all() and plain.any() and turned.any()


def test_stacked_columns_are_the_channels_of_one_image(parquet, arguments, random):
    images = {name: random.integers(0, 60000, (4, 3, 3), dtype=np.uint16) for name in ("x", "y")}
    features = {name: datasets.Array2D((3, 3), "uint16") for name in images}
    root = parquet({"train": images}, features)
    data = load_data(arguments(dataset_name=str(root), image_columns=["y", "x"]), 0)
    assert data.spec.shape == (2, 3, 3) and data.spec.value_scale == 65535
    batch = next(evaluation_batches(data.train, batch_size=4))
    expected = np.stack([images["y"], images["x"]], 1) / 65535 * 2 - 1
    torch.testing.assert_close(batch["image"].double(), torch.from_numpy(expected), rtol=0, atol=3e-7)


def test_stacked_columns_must_be_alike(parquet, arguments):
    columns = {"x": np.zeros((2, 3, 3), np.uint8), "y": np.zeros((2, 4, 4), np.uint8)}
    features = {name: datasets.Array2D(values.shape[1:], "uint8") for name, values in columns.items()}
    root = parquet({"train": columns}, features)
    args = arguments(dataset_name=str(root), image_columns=["x", "y"])
    message = error_of(load_data, args, 0)
    assert "columns x, y" in message and "must be alike" in message and "4x4" in message


def test_a_column_of_a_builtin_set():
    args = DataArguments(dataset_name="builtin:edges", image_column="conditioning_image")
    assert load_split(args, "test").spec.shape == (1, 64, 64)
    args = DataArguments(dataset_name="builtin:edges", image_column="other")
    assert "no column 'other': choose --image_column from image, " in error_of(load_split, args, "test")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"dataset_name_b": "builtin:digits"}, "image", "--dataset_name_b has no meaning here"),
        ({"target_image_column": "x"}, "image", "--target_image_column has no meaning here"),
        ({"image_column": "x"}, "pair", "--image_column has no meaning here"),
        (
            {"dataset_name_b": "builtin:edges", "target_image_column": "x"},
            "domains",
            "--target_image_column has no meaning with --dataset_name_b or --train_data_dir_b",
        ),
        ({"dataset_name_b": "builtin:edges"}, "pair", "built-in sets hold pairs in one set"),
        ({"dataset_name_b": "a/b", "train_data_dir_b": "c"}, "pair", "at most one of --dataset_name_b and"),
        ({"streaming": True}, "domains", "cannot be streamed"),
        ({"target_image_column": "nothing"}, "pair", "no column 'nothing': choose --target_image_column from"),
        ({"image_columns": ["a", "b"]}, "pair", "holds whole images: leave out --image_columns"),
    ],
)
def test_bad_options(options, kind, message):
    args = DataArguments(dataset_name="builtin:edges", **options)
    assert message in error_of(load_data, args, 0, Layout(kind))


def test_pairs_need_the_same_proportions_and_size(folder, arguments):
    grey = np.zeros((8, 8), np.uint8)
    rows = '{"conditioning_image_file_name": "a.png", "target_image_file_name": "b.png"}'
    root = folder({"a.png": grey, "b.png": grey[:4, :4], "metadata.jsonl": rows})
    message = error_of(load_data, arguments(train_data_dir=str(root)), 0, Layout("pair"))
    assert "have shape (1, 8, 8), their targets (1, 4, 4): pass --resolution" in message
    data = load_data(arguments(train_data_dir=str(root), resolution=4), 0, Layout("pair"))
    assert data.spec.shape == data.spec.other.shape
    root = folder({"b.png": grey[:4]})
    message = error_of(load_data, arguments(train_data_dir=str(root), resolution=4), 0, Layout("pair"))
    assert "a.png is 8x8 (height x width), its target 4x8" in message


def test_four_examples_have_no_fifth(folder, arguments):
    root = folder({f"{i}.png": np.zeros((4, 4), np.uint8) for i in range(4)})
    message = error_of(load_data, arguments(train_data_dir=str(root)), 0, Layout("reserved"))
    assert "has 4 examples, of which one in 5" in message
