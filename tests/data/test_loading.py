"""Folders, parquet files and arrays keep their channels, precision and labels."""

from __future__ import annotations

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from hf_genmodels import UserError
from hf_genmodels.data import DataArguments, TrainingBatches, evaluation_batches, load_data, load_split
from hf_genmodels.data.sets import ArrayDataset, LazyDataset
from hf_genmodels.data.streams import StreamedDataset

INTEGER = datasets.Value("int64")


def everything(dataset):
    batches = list(evaluation_batches(dataset, batch_size=3))
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def to_unit(pixels, scale):
    """What a batch should hold, `(images, channels, height, width)` from `(images, height, width[, channels])`."""
    pixels = torch.from_numpy(np.asarray(pixels).astype(np.float64))
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return pixels / scale * 2 - 1


def same(images, expected):
    """Equal to the last bits of float32, far less than one 16-bit step."""
    assert images.dtype == torch.float32 and images.shape == expected.shape
    return (images.double() - expected).abs().max() < 3e-7


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("option", ["dataset_name", "train_data_dir"])
def test_image_folder_with_classes(folder, arguments, random, option, streaming):
    pixels = random.integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
    root = folder({f"{'cat' if i < 2 else 'ant'}/{i}.png": image for i, image in enumerate(pixels)})
    data = load_data(arguments(**{option: str(root)}, streaming=streaming), seed=0)
    assert data.spec.shape == (3, 5, 5) and data.spec.value_scale == 255 and data.spec.name == "images"
    assert data.spec.class_names == ("ant", "cat") and data.validation is None
    assert data.spec.num_examples == (None if streaming else 6)
    assert isinstance(data.train, StreamedDataset if streaming else ArrayDataset)
    found = everything(data.train)
    assert found["label"].tolist() == [0, 0, 0, 0, 1, 1] and found["index"].tolist() == list(range(6))
    assert same(found["image"], to_unit(pixels[[2, 3, 4, 5, 0, 1]], 255))


def test_splits_of_a_folder(folder, arguments):
    grey = np.zeros((4, 4), dtype=np.uint8)
    root = folder({"train/a/1.png": grey, "train/b/2.png": grey, "test/b/3.png": grey + 7})
    data = load_data(arguments(dataset_name=str(root)), seed=0)
    assert len(data.train) == 2 and everything(data.validation)["label"].tolist() == [1]
    swapped = load_data(arguments(dataset_name=str(root), train_split="test", validation_split="train"), seed=0)
    assert len(swapped.train) == 1 and len(swapped.validation) == 2
    assert load_data(arguments(dataset_name=str(root), train_split="test"), seed=0).validation is None


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("ending", ["png", "npy"])
def test_splits_of_a_folder_without_classes(folder, arguments, ending, streaming):
    grey = np.zeros((4, 4), dtype=np.uint8)
    root = folder({f"train/1.{ending}": grey, f"train/2.{ending}": grey, f"test/3.{ending}": grey + 7})
    data = load_data(arguments(dataset_name=str(root), streaming=streaming), seed=0)
    assert data.spec.class_names is None and data.validation is not None
    assert everything(data.train).keys() == everything(data.validation).keys() == {"image", "index"}


def test_a_test_split_may_keep_its_labels_secret(parquet, arguments):
    images = {"image": [Image.new("L", (4, 4))] * 2}
    root = parquet(
        {"train": {**images, "label": [0, 1]}, "test": {**images, "label": [None, None]}},
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])},
    )
    for streaming in (False, True):
        data = load_data(arguments(dataset_name=str(root), streaming=streaming), seed=0)
        assert everything(data.train)["label"].tolist() == [0, 1] and "label" not in everything(data.validation)


def labelled_parquet(folder, **splits):
    """A folder whose column of three classes holds labels that `datasets` itself would not write."""
    folder.mkdir()
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])}
    metadata = datasets.Features(features).arrow_schema.metadata
    for name, labels in splits.items():
        columns = {"image": [Image.new("L", (4, 4))] * len(labels), "label": labels}
        table = datasets.Dataset.from_dict(columns, features=datasets.Features(features | {"label": INTEGER})).data
        pq.write_table(table.table.replace_schema_metadata(metadata), folder / f"{name}.parquet")
    return str(folder)


@pytest.mark.parametrize("wrong", [-1, -2, 3])
@pytest.mark.parametrize("streaming", [False, True])
def test_labels_that_are_no_class_are_refused(tmp_path, arguments, wrong, streaming):
    place = labelled_parquet(tmp_path / "tables", train=[0, 2, wrong, 1], test=[0])
    with pytest.raises(UserError) as error:
        everything(load_data(arguments(dataset_name=place, streaming=streaming), seed=0).train)
    assert str(error.value) == (
        f"row 2 of split 'train' of tables has label {wrong} in column 'label', whose 3 classes are 0 to 2: "
        "correct it or remove the row"
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_a_split_of_classes_may_be_unlabelled_with_minus_ones(tmp_path, arguments, streaming):
    place = labelled_parquet(tmp_path / "tables", train=[0, 2, 1], test=[-1, -1])
    data = load_data(arguments(dataset_name=place, streaming=streaming), seed=0)
    assert everything(data.train)["label"].tolist() == [0, 2, 1] and "label" not in everything(data.validation)
    swapped = load_data(arguments(dataset_name=place, train_split="test", streaming=streaming), seed=0)
    assert swapped.spec.class_names is None and "label" not in everything(swapped.train)


def test_minus_one_is_a_class_in_a_column_of_integers(parquet, arguments):
    columns = {"image": [Image.new("L", (4, 4))] * 2, "label": [-1, -1]}
    root = parquet({"train": columns}, {"image": datasets.Image(), "label": INTEGER})
    data = load_data(arguments(dataset_name=str(root)), seed=0)
    assert data.spec.class_names == ("-1",) and data.train.labels.tolist() == [0, 0]


def test_validation_is_preferred_to_test(parquet, arguments):
    images = [Image.new("L", (4, 4), grey) for grey in range(3)]
    features = {"image": datasets.Image()}
    root = parquet(
        {"train": {"image": images}, "validation": {"image": images[:1]}, "test": {"image": images[:2]}}, features
    )
    data = load_data(arguments(dataset_name=str(root)), seed=0)
    assert len(data.validation) == 1 and "label" not in everything(data.train)


@pytest.mark.parametrize(
    ("mode", "channels", "scale"),
    [("1", 1, 255), ("L", 1, 255), ("P", 3, 255), ("RGB", 3, 255), ("I;16", 1, 65535), ("I", 1, 65535), ("F", 1, 1)],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_modes_keep_their_channels_and_precision(folder, arguments, random, mode, channels, scale, streaming):
    if mode == "P":
        images = [Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).quantize(9) for _ in range(3)]
        expected = np.stack([np.asarray(image.convert("RGB")) for image in images])
    elif mode == "1":
        expected = 255 * random.integers(0, 2, (3, 6, 6), dtype=np.uint8)
        images = [Image.fromarray(image).convert("1") for image in expected]
    else:
        shape = (3, 6, 6, 3) if mode == "RGB" else (3, 6, 6)
        kinds = {"F": np.float32, "I": np.int32, "I;16": np.uint16}
        expected = (random.random(shape) * scale).astype(kinds.get(mode, np.uint8))
        images = [Image.fromarray(image) for image in expected]
    ending = "tif" if mode in ("F", "I") else "png"
    root = folder({f"{i}.{ending}": image for i, image in enumerate(images)})
    assert Image.open(root / f"0.{ending}").mode == mode
    data = load_data(arguments(train_data_dir=str(root), streaming=streaming), seed=0)
    assert data.spec.channels == channels and data.spec.value_scale == scale
    assert same(everything(data.train)["image"], to_unit(expected, scale))


@pytest.mark.parametrize(
    ("dtype", "scale"), [("uint8", 255), ("uint16", 65535), ("float32", 1), ("float64", 1), ("bool", 1)]
)
@pytest.mark.parametrize("channels", [None, 4])
@pytest.mark.parametrize("streaming", [False, True])
def test_npy_files_are_read_without_loss(folder, arguments, random, dtype, scale, channels, streaming):
    shape = (4, 6, 6) if channels is None else (4, 6, 6, channels)
    pixels = (random.random(shape) * (2 if dtype == "bool" else scale)).astype(int if dtype == "bool" else dtype)
    pixels = pixels.astype(dtype)
    root = folder({f"{'a' if i < 3 else 'b'}/{i}.npy": image for i, image in enumerate(pixels)})
    data = load_data(arguments(dataset_name=str(root), streaming=streaming), seed=0)
    assert data.spec.shape == (channels or 1, 6, 6) and data.spec.value_scale == scale
    assert data.spec.class_names == ("a", "b")
    found = everything(data.train)
    assert found["label"].tolist() == [0, 0, 0, 1]
    assert same(found["image"], to_unit(pixels, scale))


def test_npy_folder_with_splits(folder, arguments):
    grey = np.full((4, 4), 0.5, dtype=np.float32)
    root = folder({"train/a/1.npy": grey, "train/b/2.npy": grey, "test/b/3.npy": grey})
    data = load_data(arguments(train_data_dir=str(root)), seed=0)
    assert len(data.train) == 2 and everything(data.validation)["label"].tolist() == [1]
    (root / "train" / "a" / "1.npy").rename(root / "train" / "1.npy")
    assert load_data(arguments(train_data_dir=str(root)), seed=0).spec.class_names is None


def test_array_columns_and_vectors(parquet, arguments, random):
    pixels = random.random((4, 3, 3, 2), dtype=np.float32)
    points = random.standard_normal((4, 5)).astype(np.float32)
    root = parquet(
        {"train": {"array": pixels.tolist(), "point": points.tolist()}},
        {"array": datasets.Array3D((3, 3, 2), "float32"), "point": datasets.List(datasets.Value("float32"))},
    )
    for streaming in (False, True):
        data = load_data(arguments(dataset_name=str(root), image_column="array", streaming=streaming), seed=0)
        assert data.spec.shape == (2, 3, 3)
        assert same(everything(data.train)["image"], to_unit(pixels, 1))
        data = load_data(arguments(dataset_name=str(root), image_column="point", streaming=streaming), seed=0)
        assert data.spec.shape == (5,) and not data.spec.is_image
        assert torch.equal(everything(data.train)["image"], torch.from_numpy(points))


@pytest.mark.parametrize("values", [["b", "a", "b", "c"], [7, 3, 7, 30], [True, False, True, True]])
def test_labels_are_the_sorted_values_of_all_splits(parquet, arguments, values):
    images = [Image.new("L", (4, 4))] * 4
    root = parquet(
        {"train": {"image": images[:3], "kind": values[:3]}, "test": {"image": images[:1], "kind": values[3:]}},
        {
            "image": datasets.Image(),
            "kind": datasets.Value(datasets.Dataset.from_dict({"k": values}).features["k"].dtype),
        },
    )
    args = arguments(dataset_name=str(root), label_column="kind", exclude_label=str(values[1]))
    data = load_data(args, seed=0)
    assert data.spec.class_names == tuple(str(value) for value in sorted(set(values)))
    assert data.train.labels.tolist() == [1, 1]
    assert data.validation.labels.tolist() == [sorted(set(values)).index(values[3])]
    assert load_split(args, "train").labels.tolist() == [1, 0, 1]


def test_integer_labels_pass_a_stream_unchanged(parquet, arguments):
    columns = {"image": [Image.new("L", (4, 4))] * 3, "label": [4, 2, 4]}
    root = parquet({"train": columns}, {"image": datasets.Image(), "label": datasets.Value("int32")})
    data = load_data(arguments(dataset_name=str(root), streaming=True, exclude_label="2"), seed=0)
    assert data.spec.class_names is None
    found = everything(data.train)
    assert found["label"].tolist() == [4, 4] and found["label"].dtype == torch.int64
    assert found["index"].tolist() == [0, 2]


def test_a_label_column_without_classes_is_left_alone_unless_asked_for(parquet, arguments):
    columns = {"image": [Image.new("L", (4, 4))] * 2, "label": [0.5, 1.5]}
    root = parquet({"train": columns}, {"image": datasets.Image(), "label": datasets.Value("float32")})
    assert "label" not in everything(load_data(arguments(dataset_name=str(root)), seed=0).train)


def test_a_saved_data_set_and_a_single_parquet_file(tmp_path, parquet, arguments):
    images = [Image.new("L", (4, 4), grey) for grey in (0, 255)]
    table = datasets.Dataset.from_dict({"image": images}, features=datasets.Features({"image": datasets.Image()}))
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk(tmp_path / "saved")
    table.save_to_disk(tmp_path / "one")
    file = parquet({"train": {"image": images}}, {"image": datasets.Image()}) / "train-00000-of-00001.parquet"
    for name in ("saved", "one", str(file)):
        for streaming in (False, True):
            data = load_data(arguments(dataset_name=str(tmp_path / name), streaming=streaming), seed=0)
            assert everything(data.train)["image"][:, 0, 0, 0].tolist() == [-1, 1]
            assert (data.validation is not None) == (name == "saved")


def test_names_in_the_spec_hold_no_path(folder, arguments, tmp_path):
    root = folder({"1.png": np.zeros((4, 4), dtype=np.uint8)})
    here = load_data(arguments(dataset_name=str(root)), seed=0).spec
    moved = root.rename(tmp_path / "elsewhere") / ".." / "elsewhere"
    assert load_data(arguments(dataset_name=str(moved)), seed=0).spec.name == "elsewhere"
    (tmp_path / "deep").mkdir()
    again = (tmp_path / "elsewhere").rename(tmp_path / "deep" / "images")
    assert load_data(arguments(dataset_name=str(again)), seed=0).spec == here


def test_fingerprint_follows_the_content(folder, arguments):
    root = folder({"1.npy": np.zeros((4, 4), dtype=np.uint8)})
    before = load_data(arguments(dataset_name=str(root)), seed=0).spec
    np.save(root / "1.npy", np.eye(4, dtype=np.uint8))
    after = load_data(arguments(dataset_name=str(root)), seed=0).spec
    assert before.fingerprint != after.fingerprint
    assert before == load_data(arguments(dataset_name=str(folder({"1.npy": np.zeros((4, 4), np.uint8)}))), 0).spec


def test_resolution_resizes_the_shorter_side_and_crops_the_centre(folder, arguments, random):
    pixels = random.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    root = folder({"wide.png": pixels, "tall.png": pixels.transpose(1, 0, 2), "small.png": pixels[:8, :8]})
    data = load_data(arguments(train_data_dir=str(root), resolution=8, center_crop=True), seed=0)
    expected = [
        np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
        for image, size in ((pixels, (12, 8)), (pixels.transpose(1, 0, 2), (8, 12)))
    ]
    expected = [pixels[:8, :8], expected[1][2:10], expected[0][:, 2:10]]
    assert isinstance(data.train, ArrayDataset)
    assert same(everything(data.train)["image"], to_unit(np.stack(expected), 255))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_resized_high_precision_images_keep_it(folder, arguments, dtype):
    scale = 65535 if dtype == "uint16" else 1
    ramp = np.tile(np.linspace(0, scale, 64), (64, 1))
    root = folder({"ramp.npy": ramp.astype(dtype)})
    data = load_data(arguments(train_data_dir=str(root), resolution=32), seed=0)
    image = everything(data.train)["image"][0, 0]
    # A Lanczos filter leaves a ramp a ramp away from the border.
    wanted = torch.from_numpy((ramp[::2, ::2] + ramp[::2, 1::2]) / 2 / scale * 2 - 1)
    assert (image - wanted)[:, 4:-4].abs().max() < 2e-4
    assert image.min() >= -1 and image.max() <= 1


def test_images_of_several_shapes_are_cropped_lazily(folder, arguments, random, tmp_path):
    files = {f"{i}.png": random.integers(0, 256, (8, 8 + i), dtype=np.uint8) for i in range(5)}
    data = load_data(arguments(train_data_dir=str(folder(files)), resolution=8), seed=0)
    assert isinstance(data.train, LazyDataset) and data.spec.shape == (1, 8, 8)
    # Cut at the centre they all have one shape.
    assert isinstance(
        load_split(arguments(train_data_dir=str(tmp_path / "images"), resolution=8), "train"), ArrayDataset
    )
    centred = np.stack([image[:, i // 2 : i // 2 + 8] for i, image in enumerate(files.values())])
    assert same(everything(data.train)["image"], to_unit(centred, 255))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("size", [(4, 12), (12, 4), (6, 6)])
def test_resolution_of_height_and_width(folder, arguments, random, streaming, size):
    images = {name: random.integers(0, 256, (*shape, 3), dtype=np.uint8) for name, shape in
              {"0.png": (16, 24), "1.png": (24, 16), "2.png": (8, 24)}.items()}  # fmt: skip
    root = folder(images)
    options = {"train_data_dir": str(root), "resolution": list(size), "streaming": streaming}
    data = load_data(arguments(**options), seed=0)
    height, width = size
    assert data.spec.size == size and data.spec.shape == (3, height, width)
    resized, middles = [], []
    for image in images.values():
        scale = max(height / image.shape[0], width / image.shape[1])
        tall, wide = round(image.shape[0] * scale), round(image.shape[1] * scale)
        resized.append(np.asarray(Image.fromarray(image).resize((wide, tall), Image.Resampling.LANCZOS)))
        top, left = (tall - height) // 2, (wide - width) // 2
        middles.append(resized[-1][top : top + height, left : left + width])
    split = load_split(arguments(**options), "train")
    assert same(everything(split)["image"], to_unit(np.stack(middles), 255))
    batch = next(TrainingBatches(data.train, batch_size=3).start(0))
    for image, index in zip(batch["image"], batch["index"].tolist(), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(resized[index], size, axis=(0, 1)).reshape(-1, 3, *size)
        assert (torch.from_numpy(windows / 127.5 - 1) - image).abs().amax((1, 2, 3)).min() < 1e-6


def test_random_crops_of_a_rectangle_go_everywhere(folder, arguments, random):
    pixels = random.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    data = load_data(arguments(train_data_dir=str(folder({"tall.png": pixels})), resolution=(2, 4)), seed=0)
    batches = TrainingBatches(data.train, batch_size=1).start(0)
    crops = [((next(batches)["image"][0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy() for _ in range(40)]
    assert {crop.tobytes() for crop in crops} == {pixels[top : top + 2].tobytes() for top in range(4)}


def test_images_of_one_shape_stay_as_they_are(folder, arguments, random):
    images = {f"{i}.png": random.integers(0, 256, (4, 6), dtype=np.uint8) for i in range(3)}
    data = load_data(arguments(train_data_dir=str(folder(images))), seed=0)
    assert data.spec.shape == (1, 4, 6) and data.spec.sample_size == (4, 6) and not data.train.augmented
    assert same(everything(data.train)["image"], to_unit(np.stack(list(images.values())), 255))


@pytest.mark.parametrize(("given", "kept"), [(8, 8), ([8], 8), ((8, 8), 8), ([8, 16], [8, 16]), (None, None)])
def test_resolution_is_kept_as_one_number_for_a_square(given, kept):
    assert DataArguments(resolution=given).resolution == kept


def test_photographs_are_turned_as_their_camera_says(folder, arguments, random):
    pixels = random.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    root = folder({})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(root / "turned.png", exif=exif)
    for streaming in (False, True):
        args = arguments(train_data_dir=str(root), resolution=4, center_crop=True, streaming=streaming)
        image = everything(load_data(args, seed=0).train)["image"]
        assert same(image, to_unit(np.rot90(pixels, -1)[None, 1:5], 255))


def test_fashion_mnist(data_root, tmp_path, arguments):
    import hashlib

    args = arguments(dataset_name=str(data_root / "fashion_mnist"), max_train_samples=500)
    data = load_data(args, seed=0)
    assert data.spec.shape == (1, 28, 28) and data.spec.num_examples == 500
    assert data.spec.class_names[0] == "T-shirt/top" and set(data.train.labels) == set(range(10))
    # As published by the data set's authors.
    assert hashlib.md5(data.validation.pixels.tobytes()).hexdigest() == "b7656a891b218fc13e45205c48a92cae"
    assert np.bincount(data.validation.labels).tolist() == [1000] * 10
    streamed = load_data(arguments(dataset_name=str(data_root / "fashion_mnist"), streaming=True), seed=0)
    batch = next(evaluation_batches(streamed.validation, batch_size=50))
    assert torch.equal(batch["image"], next(evaluation_batches(data.validation, batch_size=50))["image"])
    assert streamed.spec.num_examples is None and streamed.spec.class_names == data.spec.class_names
