"""Where the two images of an example come from: halves of one image, two domains in one folder, files of one name."""

from __future__ import annotations

import logging

import datasets
import numpy as np
import pytest
import torch

from hf_genmodels.data import Layout, TrainingBatches, evaluation_batches, load_data, load_split
from hf_genmodels.data.features import ImageColumn, file_names
from tests.testing_utils.refusals import refused

SIDES = ("image_a", "image_b")
PAIR = ("conditioning_image", "target_image")


def values(batch, names):
    """The grey value of each image, by side."""
    return [((batch[name][:, 0, 0, 0] + 1) * 127.5).round().int().tolist() for name in names]


def grey(value, shape=(4, 4)):
    return np.full(shape, value, dtype=np.uint8)


@pytest.mark.parametrize("folders", [("train", "test"), ("train", "val"), ("", None)], ids=str)
@pytest.mark.parametrize("direction", ["a_to_b", "b_to_a"])
@pytest.mark.parametrize("kind", ["pair", "domains"])
def test_images_side_by_side(folder, arguments, folders, direction, kind):
    first, second = folders
    both = {i: np.concatenate([grey(i), grey(100 + i)], 1) for i in range(6)}
    files = {f"{first}/{i}.png".lstrip("/"): both[i] for i in range(4)}
    if second is not None:
        files |= {f"{second}/{i}.png": both[i] for i in range(4, 6)}
    args = arguments(train_data_dir=str(folder(files)), side_by_side=True, direction=direction)
    names = PAIR if kind == "pair" else SIDES
    data = load_data(args, 0, Layout(kind))
    assert data.spec.shape == data.spec.other.shape == (1, 4, 4)
    assert data.validation_split == {"test": "test", "val": "validation", None: None}[second]
    expected = [[0, 1, 2, 3], [100, 101, 102, 103]]
    batch = next(evaluation_batches(data.train, batch_size=4))
    assert values(batch, names) == (expected if direction == "a_to_b" else expected[::-1])


def test_images_side_by_side_are_cropped_and_mirrored_alike(folder, arguments, random):
    a = random.integers(0, 120, (12, 8, 12), dtype=np.uint8)
    root = folder({f"{i:02}.png": np.concatenate([image, image + 100], 1) for i, image in enumerate(a)})
    args = arguments(train_data_dir=str(root), side_by_side=True, resolution=8, random_flip=True)
    batch = next(TrainingBatches(load_data(args, 0, Layout("pair")).train, batch_size=12).start(0))
    shift = (batch["target_image"] - batch["conditioning_image"]) * 127.5
    torch.testing.assert_close(shift, torch.full_like(shift, 100), rtol=0, atol=1e-4)


def test_a_bad_image_has_no_halves(folder, arguments):
    root = folder({"1.png": grey(1, (4, 8)), "2.png": grey(1, (4, 9)), "3.png": "no image"})
    args = arguments(train_data_dir=str(root), side_by_side=True)
    with refused("2.png is 9 pixels wide, and has no two halves side by side"):
        load_data(args, 0, Layout("pair"))
    args.on_bad_image = "skip"
    assert len(load_data(args, 0, Layout("pair")).train) == 1


@pytest.fixture
def domains(folder):
    """The layout of CycleGAN's authors."""
    counts = {"trainA": 5, "trainB": 3, "testA": 2, "TESTB": 4}
    start = {"A": 0, "B": 100}
    return folder(
        {f"{top}/{i}_{top}.png": grey(start[top[-1]] + i) for top, count in counts.items() for i in range(count)}
    )


@pytest.mark.parametrize("option", ["train_data_dir", "dataset_name"])
@pytest.mark.parametrize("direction", ["a_to_b", "b_to_a"])
def test_two_domains_in_one_folder(domains, arguments, option, direction):
    args = arguments(**{option: str(domains)}, direction=direction)
    data = load_data(args, 0, Layout("domains"))
    assert data.validation_split == "test" and data.spec.class_names is None and data.spec.name == "images"
    for dataset, expected in (
        (data.train, ([0, 1, 2, 3, 4], [100, 101, 102])),
        (load_split(args, "test", Layout("domains")), ([0, 1], [100, 101, 102, 103])),
    ):
        sides = [dataset.first, dataset.second][:: 1 if direction == "a_to_b" else -1]
        for side, wanted in zip(sides, expected, strict=True):
            (batch,) = evaluation_batches(side, batch_size=9)
            assert values(batch, ["image"]) == [wanted]


def test_two_domains_of_pairs_in_one_folder(folder, arguments):
    root = folder({f"train{side}/x/{i}.png": grey(i + 50 * (side == "B")) for side in "AB" for i in range(3)})
    (batch,) = evaluation_batches(
        load_data(arguments(train_data_dir=str(root)), 0, Layout("pair")).train, batch_size=3
    )
    assert values(batch, PAIR) == [[0, 1, 2], [50, 51, 52]]


@pytest.mark.parametrize("name", ["extra/1.png", "1.png", "train/1.png"])
def test_beside_two_domains_there_is_nothing_else(domains, folder, arguments, name):
    args = arguments(train_data_dir=str(folder({name: grey(0)})))
    with refused("such as trainA, trainB, testA and testB there must be no other images"):
        load_data(args, 0, Layout("domains"))


def test_pairs_of_two_folders_have_the_same_path(folder, arguments):
    pairs = {"cat/0": 1, "cat/1": 2, "dog/0": 3}
    files = {f"a/{name}.png": grey(value) for name, value in pairs.items()}
    files |= {f"b/{name}.tif": grey(value + 100) for name, value in pairs.items()}
    root = folder(files)
    both = arguments(train_data_dir=str(root / "a"), train_data_dir_b=str(root / "b"))
    (batch,) = evaluation_batches(load_data(both, 0, Layout("pair")).train, batch_size=3)
    assert values(batch, PAIR) == [[1, 2, 3], [101, 102, 103]] and batch["label"].tolist() == [0, 0, 1]
    (root / "b" / "dog").rename(root / "b" / "eel")
    with refused("no pairs: dog/0 stands beside eel/0"):
        load_data(both, 0, Layout("pair"))


def test_paths_of_pairs_begin_below_the_split(folder, arguments):
    names = [f"{split}/x/{i}" for split in ("train", "val") for i in range(2)]
    files = {f"a/{name}.png": grey(1) for name in names}
    files |= {f"b/{name.replace('train', 'Train')}.png": grey(2) for name in names}
    root = folder(files)
    both = arguments(train_data_dir=str(root / "a"), train_data_dir_b=str(root / "b"))
    data = load_data(both, 0, Layout("pair"))
    assert len(data.train) == len(data.validation) == 2


def test_of_no_known_folder_paths_begin_where_they_differ(tmp_path):
    """As those of a set on the Hub do, whose files lie in a cache."""
    paths = [str(tmp_path / side / "0.png") for side in ("cat", "dog")]
    split = datasets.Dataset.from_dict({"image": paths}, features=datasets.Features({"image": datasets.Image()}))
    column = ImageColumn(split, "image", "here")
    assert file_names(column, None) == ["cat/0", "dog/0"]
    assert file_names(column, tmp_path / "cat")[0] == "0"


def test_equal_columns_are_told_of(folder, arguments, caplog):
    columns = {"conditioning_image_column": "image", "target_image_column": "image"}
    with caplog.at_level(logging.WARNING, "hf_genmodels"):
        load_data(arguments(train_data_dir=str(folder({"1.png": grey(1)})), **columns), 0, Layout("pair"))
    assert "are both image: every image is its own target" in caplog.text


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"side_by_side": True}, "image", "--side_by_side has no meaning here"),
        ({"direction": "b_to_a"}, "image", "--direction has no meaning here"),
        ({"direction": "b_to_a"}, "pair", "--direction has no meaning without --side_by_side or a folder with trainA"),
        (
            {"side_by_side": True, "target_image_column": "x"},
            "pair",
            "--target_image_column has no meaning with --",
        ),
        ({"side_by_side": True, "train_data_dir_b": "x"}, "pair", "--train_data_dir_b has no meaning with --side_by"),
        ({"side_by_side": True, "image_columns": ["a"]}, "domains", "--image_columns has no meaning with --side_by"),
        ({"side_by_side": True, "streaming": True}, "pair", "cannot be streamed"),
        ({"side_by_side": True, "dataset_name": "builtin:edges", "train_data_dir": None}, "pair", "whole images"),
        ({"dataloader_num_workers": -1}, "image", "--dataloader_num_workers -1 is below 0"),
    ],
)
def test_bad_options(folder, arguments, options, kind, message):
    root = folder({"1.png": grey(1, (4, 8)), "x/1.png": grey(1)})
    with refused() as error:
        load_data(arguments(**{"train_data_dir": str(root), **options}), 0, Layout(kind))
    assert message in str(error.value)


@pytest.mark.parametrize("kind", ["pair", "domains"])
def test_a_folder_of_classes_is_offered_no_labels(folder, arguments, kind):
    root = folder({f"{name}/1.png": grey(1) for name in "ab"})
    with refused("choose --conditioning_image_column from image, pass --side_by_side if"):
        load_data(arguments(train_data_dir=str(root)), 0, Layout(kind))


def test_halves_have_the_precision_of_the_whole(folder, arguments):
    root = folder({"1.npy": np.linspace(0, 1, 32, dtype=np.float32).reshape(4, 8)})
    args = arguments(train_data_dir=str(root), side_by_side=True)
    (batch,) = evaluation_batches(load_data(args, 0, Layout("pair")).train, batch_size=1)
    whole = torch.cat([batch[name] for name in PAIR], 3).flatten()
    torch.testing.assert_close(whole, torch.linspace(-1, 1, 32), rtol=0, atol=1e-6)
