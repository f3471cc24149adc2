"""Label maps as targets: numbers of classes stay what they are, follow their image, and are told where wrong."""

from __future__ import annotations

import json
import re

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import LabelMaps
from hf_genmodels.data import Layout, TrainingBatches, columns, evaluation_batches, load_data, load_split
from hf_genmodels.data.label_maps import default_colors, nearest
from hf_genmodels.pipelines.label_map import palette_picture
from tests.testing_utils.refusals import refused

NAMES = ("background", "nucleus", "border")
COLORS = ((0, 0, 0), (0, 160, 255), (255, 200, 0))
LABELS = Layout("pair", label_maps=LabelMaps(NAMES))


def label_map(seed, shape=(8, 12)):
    labels = np.random.default_rng(seed).integers(0, 3, shape)
    labels[0, :2] = 255
    return labels


def grey(labels):
    """An image that shows its label map: 100 times the class."""
    return np.where(labels == 255, 255, 100 * labels).astype(np.uint8)


def files(stored, count=4, shape=(8, 12)):
    """A folder of images with their label maps, as `stored` makes them of numbers."""
    written, lines = {}, []
    for i in range(count):
        labels = label_map(i, shape)
        written |= {f"{i}.png": grey(labels), f"{i}_labels.{stored[0]}": stored[1](labels)}
        lines.append({"file_name": f"{i}.png", "labels_file_name": f"{i}_labels.{stored[0]}"})
    return {**written, "metadata.jsonl": "\n".join(map(json.dumps, lines))}


def palette(labels):
    return palette_picture(labels, COLORS)


STORED = {
    "palette": ("png", palette),
    "8-bit": ("png", lambda labels: labels.astype(np.uint8)),
    "16-bit": ("png", lambda labels: labels.astype(np.uint16)),
    "tiff": ("tif", lambda labels: labels.astype(np.uint16)),
}
COLUMNS = {"conditioning_image_column": "image", "target_image_column": "labels"}


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("stored", STORED)
def test_numbers_of_classes_are_kept(folder, arguments, monkeypatch, stored, in_memory):
    if not in_memory:
        monkeypatch.setattr(columns, "IN_MEMORY_BYTES", 0)
    root = folder(files(STORED[stored]))
    data = load_data(arguments(train_data_dir=str(root), **COLUMNS), 0, LABELS)
    assert data.train.in_memory == in_memory
    (batch,) = evaluation_batches(data.train, batch_size=4)
    expected = np.stack([label_map(i) for i in range(4)])
    assert batch["target_image"].dtype == torch.int64
    assert torch.equal(batch["target_image"], torch.from_numpy(expected[:, None]))
    spec = data.spec.other
    assert spec.shape == (1, 8, 12) and spec.label_maps.names == NAMES
    assert spec.label_maps.pixels == tuple(int((expected == k).sum()) for k in range(3))
    assert spec.label_maps.colors == (COLORS if stored == "palette" else default_colors(3))


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_crops_and_flips_follow_the_image(folder, arguments, monkeypatch, in_memory, workers):
    if not in_memory:
        monkeypatch.setattr(columns, "IN_MEMORY_BYTES", 0)
    root = folder(files(STORED["palette"]))
    args = arguments(train_data_dir=str(root), crop_size=6, random_flip=True, **COLUMNS)
    batches = TrainingBatches(load_data(args, 0, LABELS).train, batch_size=4, num_workers=workers).start(0)
    for _ in range(3):
        batch = next(batches)
        shown = ((batch["conditioning_image"] + 1) * 127.5).round().long()
        labels = batch["target_image"]
        assert torch.equal(shown, torch.where(labels == 255, 255, 100 * labels))
    batches.close()


def test_resizing_takes_the_nearest_pixel(folder, arguments):
    root = folder(files(STORED["palette"]))
    dataset = load_split(arguments(train_data_dir=str(root), resolution=[4, 6], **COLUMNS), "train", LABELS)
    (batch,) = evaluation_batches(dataset, batch_size=4)
    expected = np.stack([label_map(i)[1::2, 1::2] for i in range(4)])
    assert torch.equal(batch["target_image"][:, 0], torch.from_numpy(expected))
    enlarged = nearest(label_map(0)[:, :, None], (16, 24))[:, :, 0]
    assert np.array_equal(enlarged, label_map(0).repeat(2, 0).repeat(2, 1))
    odd = nearest(label_map(0)[:, :, None], (5, 7))[:, :, 0]
    assert np.array_equal(odd, np.asarray(palette(label_map(0)).resize((7, 5), Image.Resampling.NEAREST)))


def test_columns_of_arrays(parquet, arguments):
    images = [label_map(i, (8, 8)).astype(np.uint8) for i in range(4)]
    features = {name: datasets.Array2D((8, 8), "uint8") for name in ("image", "labels")}
    root = parquet({"train": {"image": images, "labels": images}}, features)
    dataset = load_split(arguments(dataset_name=str(root), **COLUMNS), "train", LABELS)
    (batch,) = evaluation_batches(dataset, batch_size=4)
    assert torch.equal(batch["target_image"][:, 0], torch.from_numpy(np.stack(images)).long())


def test_names_beside_the_data(folder, arguments):
    root = folder(files(STORED["palette"]) | {"id2label.json": json.dumps(dict(enumerate(NAMES)))})
    args = arguments(train_data_dir=str(root), **COLUMNS)
    assert load_data(args, 0, Layout("pair", label_maps=LabelMaps())).spec.other.label_maps.names == NAMES
    (root / "id2label.json").write_text('{"0": "a", "2": "b"}')
    with refused(re.escape("id2label.json must name the classes from 0 on without gaps")):
        load_data(args, 0, Layout("pair", label_maps=LabelMaps()))
    (root / "id2label.json").unlink()
    with refused(".*".join(map(re.escape, ("the classes of images have no names", "--label_names")))):
        load_data(args, 0, Layout("pair", label_maps=LabelMaps()))


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_label_without_a_class_is_told_before_training(folder, arguments, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(columns, "IN_MEMORY_BYTES", 0)
    wrong = label_map(2)
    wrong[3, 4] = 7
    root = folder(files(STORED["palette"]) | {"2_labels.png": palette(wrong)})
    args = arguments(train_data_dir=str(root), **COLUMNS)
    with refused(re.escape("2_labels.png holds the label 7, and the 3 classes are 0 to 2 (255 is ignored)")):
        load_data(args, 0, LABELS)
    args.on_bad_image = "skip"
    assert len(load_data(args, 0, LABELS).train) == 3


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"1_labels.png": np.zeros((8, 12, 3), np.uint8)}, "1_labels.png has mode RGB, and a label map"),
        ({"1_labels.png": grey(label_map(1, (4, 12)))}, "1_labels.png is 4x12 (height x width) where 8x12"),
    ],
    ids=["colour", "size"],
)
def test_files_that_are_no_label_maps(folder, arguments, broken, message):
    root = folder(files(STORED["8-bit"]) | broken)
    with refused(re.escape(message)):
        load_data(arguments(train_data_dir=str(root), **COLUMNS), 0, LABELS)


def test_jpegs_are_no_label_maps(folder, arguments):
    root = folder(files(("jpg", lambda labels: labels.clip(max=2).astype(np.uint8))))
    with refused(re.escape("0_labels.jpg is a JPEG, whose compression changes the numbers of classes")):
        load_data(arguments(train_data_dir=str(root), **COLUMNS), 0, LABELS)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (LabelMaps(("a",)), "--label_names: 1 classes; label maps need from 2"),
        (LabelMaps(("a", "b", "a")), "--label_names: two classes are called 'a'"),
        (LabelMaps(NAMES, ignore_index=1), "--ignore_index 1 is the class 'nucleus'"),
        (LabelMaps(NAMES, ignore_index=-1), "--ignore_index -1: pixels hold numbers from 0"),
    ],
)
def test_classes_that_cannot_be(folder, arguments, maps, message):
    root = folder(files(STORED["8-bit"]))
    with refused(re.escape(message)):
        load_data(arguments(train_data_dir=str(root), **COLUMNS), 0, Layout("pair", label_maps=maps))


def test_builtin_label_maps_are_no_images(arguments):
    args = arguments(dataset_name="builtin:polarimetric", dataset_config_name="32", target_image_column="labels")
    args.conditioning_image_column = "image"
    with refused(re.escape("column 'labels' of builtin:polarimetric holds label maps")):
        load_split(args, "test", Layout("pair"))
    args.target_image_column = "depth"
    with refused(re.escape("column 'depth' of builtin:polarimetric holds images, no label maps; choose another")):
        load_split(args, "test", LABELS)


def test_default_colours_are_all_different():
    colors = default_colors(300)
    assert colors[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)) and len(set(colors)) == 300
