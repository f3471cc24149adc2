"""Crops at full resolution, conversions of modes, ranges of values: what is asked for while images are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels.data import DataArguments, TrainingBatches, evaluation_batches, load_data, load_split
from hf_genmodels.data.sets import ArrayDataset, LazyDataset
from hf_genmodels.data.spec import Layout
from tests.testing_utils.refusals import refused


def pictures(data):
    """All images of a split as 8-bit arrays (images, height, width, channels)."""
    batches = [batch["image"] for batch in evaluation_batches(data, batch_size=3)]
    return ((torch.cat(batches).permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()


def windows(image, size):
    """Bytes of every part of an image that has this size."""
    views = np.lib.stride_tricks.sliding_window_view(image, size, axis=(0, 1))
    return {np.moveaxis(view, 0, 2).tobytes() for view in views.reshape(-1, image.shape[2], *size)}


def crops(data, count):
    """Training images as 8-bit arrays, and which they are."""
    batches = TrainingBatches(data.train, batch_size=1).start(0)
    for _ in range(count):
        batch = next(batches)
        yield ((batch["image"][0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy(), int(batch["index"])


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("shapes", [[(10, 12)] * 3, [(10, 12), (6, 20), (16, 9)]], ids=["one size", "several sizes"])
def test_crops_at_full_resolution(folder, arguments, random, shapes, streaming):
    images = [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    root = folder({f"{i}.png": image for i, image in enumerate(images)})
    options = {"train_data_dir": str(root), "crop_size": [6, 8], "streaming": streaming}
    data = load_data(arguments(**options), seed=0)
    assert data.spec.shape == (3, 6, 8)
    seen = set()
    for crop, index in crops(data, 12):
        assert crop.tobytes() in windows(images[index], (6, 8))
        seen.add(crop.tobytes())
    assert len(seen) > 6
    middles = [image[(h - 6) // 2 :, (w - 8) // 2 :][:6, :8] for image, (h, w) in zip(images, shapes, strict=True)]
    assert np.array_equal(pictures(load_split(arguments(**options), "train")), np.stack(middles))


def test_jitter_is_a_larger_resolution_and_a_crop(folder, arguments, random):
    image = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    root = str(folder({"1.png": image}))
    data = load_data(arguments(train_data_dir=root, resolution=12, crop_size=8), seed=0)
    resized = np.asarray(Image.fromarray(image).resize((16, 12), Image.Resampling.LANCZOS))
    assert data.spec.size == (8, 8)
    assert all(crop.tobytes() in windows(resized, (8, 8)) for crop, _ in crops(data, 8))
    centred = arguments(train_data_dir=root, resolution=12, crop_size=8, center_crop=True)
    assert np.array_equal(pictures(load_data(centred, seed=0).train)[0], resized[2:10, 4:12])
    # the same jitter of a set that comes with the library
    args = DataArguments(dataset_name="builtin:digits", resolution=12, crop_size=8, max_train_samples=1)
    data, whole = load_data(args, 0), load_data(DataArguments(**{**vars(args), "crop_size": None}), 0)
    (large,) = pictures(whole.train)
    assert all(crop.tobytes() in windows(large, (8, 8)) for crop, _ in crops(data, 8))


def test_both_images_of_a_pair_are_cropped_alike(folder, arguments, random):
    image = random.integers(0, 256, (10, 12), dtype=np.uint8)
    rows = '{"conditioning_image_file_name": "a.png", "target_image_file_name": "b.png"}'
    root = str(folder({"a.png": image, "b.png": 255 - image, "metadata.jsonl": rows}))
    data = load_data(arguments(train_data_dir=root, crop_size=4), 0, Layout("pair"))
    batches = TrainingBatches(data.train, batch_size=1).start(0)
    drawn = [next(batches) for _ in range(6)]
    assert all(torch.allclose(b["conditioning_image"], -b["target_image"], atol=1e-6) for b in drawn)
    assert len({b["target_image"].numpy().tobytes() for b in drawn}) > 2


def test_crops_of_pairs_of_two_sizes_show_different_things(folder, arguments, random):
    image = random.integers(0, 256, (16, 16), dtype=np.uint8)
    rows = '{"conditioning_image_file_name": "a.png", "target_image_file_name": "b.png"}'
    root = str(folder({"a.png": image, "b.png": image[::2, ::2], "metadata.jsonl": rows}))
    with refused(r"a.png is 16x16 \(height x width\), its target 8x8: crops of both would .*; pass --resolution"):
        load_data(arguments(train_data_dir=root, crop_size=4), 0, Layout("pair"))
    assert load_data(arguments(train_data_dir=root, resolution=8, crop_size=4), 0, Layout("pair")).spec.size == (4, 4)


MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "PA")


@pytest.mark.parametrize(("convert", "mode"), [("rgb", "RGB"), ("grey", "L")])
def test_modes_are_converted_on_request(folder, arguments, random, convert, mode):
    colour = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    images = {name: colour.convert("RGB").convert(name) if name != "PA" else colour.convert("P") for name in MODES}
    root = folder({})
    for name, image in images.items():
        image.save(root / f"{name}.{'tif' if name == 'CMYK' else 'png'}")
    clear = images["P"].copy()
    clear.info["transparency"] = 3
    clear.save(root / "transparent.png")
    with refused("give --convert rgb"):
        load_data(arguments(train_data_dir=str(root)), seed=0)
    data = load_data(arguments(train_data_dir=str(root), convert=convert), seed=0)
    paths = [record.path for record in data.train.images.fetch(data.train.rows)] if not data.train.in_memory else None
    assert paths is None and data.spec.shape == (3 if mode == "RGB" else 1, 4, 5) and len(data.train) == len(MODES) + 1
    made = {picture.tobytes() for picture in pictures(data.train)}
    assert made == {np.asarray(image.convert(mode)).tobytes() for image in images.values()}


@pytest.mark.parametrize("streaming", [False, True])
def test_sixteen_bits_stay_sixteen_bits(folder, arguments, random, streaming):
    grey = random.integers(0, 65536, (4, 4), dtype=np.uint16)
    root = folder({})
    Image.fromarray(grey).save(root / "1.png")
    options = {"train_data_dir": str(root), "streaming": streaming}
    for convert, channels in (("rgb", 3), ("grey", 1)):
        data = load_data(arguments(**options, convert=convert), seed=0)
        image = next(evaluation_batches(data.train, batch_size=1))["image"][0].double()
        expected = torch.from_numpy(grey / 65535 * 2 - 1)
        assert data.spec.value_scale == 65535 and image.shape == (channels, 4, 4)
        assert (image - expected).abs().max() < 1e-6


def test_arrays_are_converted_as_pillow_does(folder, arguments, random):
    colour = random.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    root = folder({"a.npy": colour, "b.npy": colour[:, :, :1]})
    data = load_data(arguments(train_data_dir=str(root), convert="grey"), seed=0)
    difference = pictures(data.train)[0][..., 0].astype(int) - np.asarray(Image.fromarray(colour).convert("L"))
    assert np.abs(difference).max() <= 1
    wide = folder({"c.npy": np.zeros((4, 4, 5), dtype=np.uint8)})
    with refused("5 channel.*: --convert rgb takes images of 1 or 3 channels"):
        load_data(arguments(train_data_dir=str(wide), convert="rgb"), seed=0)


RANGES = {
    "12 bits": (np.uint16, [0, 4095], [0, 1000, 4095, 5000], 4095.0),
    "black level": (np.uint16, [64, 4160], [0, 64, 2112, 4160, 9000], 1.0),
    "tomography": (np.int16, [-1000, 400], [-2000, -1000, -300, 400, 3000], 1.0),
    "floats": (np.float32, [-1, 3], [-2, -1, 0, 3, 8], 1.0),
    "32 bits": (np.int32, [0, 2**20], [0, 2**19, 2**20, 2**22], 1.0),
    "dark 8 bits": (np.uint8, [0, 3], [0, 1, 2, 3, 9], 3.0),
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", RANGES)
def test_ranges_of_values(folder, arguments, name, streaming):
    dtype, value_range, values, scale = RANGES[name]
    low, high = value_range
    stored = np.resize(np.array(values, dtype=dtype), (4, 4))
    options = {"train_data_dir": str(folder({"1.npy": stored})), "value_range": value_range, "streaming": streaming}
    data = load_data(arguments(**options), seed=0)
    image = next(evaluation_batches(data.train, batch_size=1))["image"][0, 0]
    expected = ((stored.astype(np.float64) - low) / (high - low)).clip(0, 1) * 2 - 1
    assert np.abs(image.numpy() - expected).max() < 1e-6 and data.spec.value_scale == scale


def test_a_range_of_files_of_32_bits(folder, arguments):
    root = folder({})
    counts = np.array([[-5, 0], [100_000, 300_000]], dtype=np.int32)
    Image.fromarray(counts).save(root / "1.tif")
    with refused("holds values from -5 to 300000, .* or give --value_range"):
        load_data(arguments(train_data_dir=str(root)), seed=0)
    data = load_data(arguments(train_data_dir=str(root), value_range=(0, 200_000)), seed=0)
    image = next(evaluation_batches(data.train, batch_size=1))["image"][0, 0]
    assert torch.equal(image, torch.tensor([[-1.0, -1.0], [0.0, 1.0]]))


def test_a_resized_image_of_a_range_stays_in_it(folder, arguments, random):
    root = folder({"1.npy": (random.random((16, 16)) > 0.5).astype(np.uint16) * 4095})
    data = load_data(arguments(train_data_dir=str(root), value_range=[0, 4095], resolution=8), seed=0)
    image = next(evaluation_batches(data.train, batch_size=1))["image"]
    assert image.min() >= -1 and image.max() <= 1 and image.std() > 0.1


@pytest.mark.parametrize(
    ("name", "image", "advice"),
    [
        ("12 bits", np.full((4, 4), 3900, np.uint16), "is 3900, where 65535 .*--value_range 0 4095"),
        ("14 bits", np.full((4, 4), 16383, np.uint16), "is 16383, where 65535 .*--value_range 0 16383"),
        ("labels", np.ones((4, 4), np.uint8), "is 1, where 255 .*--value_range 0 1"),
        ("floats", np.full((4, 4), 0.01, np.float32), "is 0.01, where 1 .*--value_range 0 0.01"),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_images_that_use_little_of_their_range_are_told_of(folder, arguments, caplog, name, image, advice, lazy):
    files = {"1.npy": image} | ({"2.npy": np.repeat(image, 2, axis=1)} if lazy else {})
    options = {"resolution": 4} if lazy else {}
    data = load_data(arguments(train_data_dir=str(folder(files)), **options), seed=0)
    assert isinstance(data.train, LazyDataset if lazy else ArrayDataset)
    (warning,) = [record.getMessage() for record in caplog.records if "--value_range" in record.getMessage()]
    assert warning.startswith("the largest value in split 'train' of images")
    with_range = advice.split(".*")[-1]
    assert with_range in warning and advice.split(",")[0] in warning


def test_images_that_use_their_range_are_not_told_of(folder, arguments, caplog):
    load_data(arguments(train_data_dir=str(folder({"1.npy": np.full((4, 4), 80, np.uint8)}))), seed=0)
    load_data(DataArguments(dataset_name="builtin:digits"), seed=0)
    assert not [record for record in caplog.records if "--value_range" in record.getMessage()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_size": [4, 0]}, "--crop_size 4 0 is neither a positive whole number nor two"),
        ({"crop_size": 8, "resolution": [16, 6]}, "--crop_size 8 is larger than --resolution 16 6"),
        ({"crop_size": 5}, r"is 4x4 \(height x width\), too small to cut 5x5 out of it: give a smaller --crop_size"),
        ({"crop_size": 5, "streaming": True}, "too small to cut 5x5"),
        ({"convert": "bgr"}, "--convert bgr is neither rgb nor grey"),
        ({"value_range": [3, 3]}, "--value_range 3 3 is no range"),
        ({"value_range": [0]}, "--value_range 0 is no range"),
        ({"value_range": [0, float("nan")]}, "--value_range 0 nan is no range"),
    ],
)
def test_mistakes_are_one_line(folder, arguments, options, message):
    args = arguments(train_data_dir=str(folder({"1.npy": np.zeros((4, 4), np.uint8)})), **options)
    with refused(message):
        data = load_data(args, seed=0)
        next(TrainingBatches(data.train, batch_size=1).start(0))


def test_a_range_does_not_hide_nan(folder, arguments):
    root = folder({"1.npy": np.array([[np.nan, 1.0], [np.inf, 0.0]], np.float32)})
    with refused("holds NaN or infinite values"):
        load_data(arguments(train_data_dir=str(root), value_range=[0, 1]), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset_name": "builtin:digits", "convert": "rgb"}, "has modes and values of its own: leave out --convert"),
        ({"dataset_name": "builtin:digits", "value_range": [0, 9]}, "leave out --value_range"),
        (
            {"dataset_name": "builtin:digits", "crop_size": 9},
            "images of 8x8 .*, too small to cut 9x9",
        ),
        ({"dataset_name": "builtin:toy2d", "crop_size": 2}, "holds vectors, not images: leave out --crop_size"),
    ],
)
def test_built_in_sets(options, message):
    with refused(message):
        load_data(DataArguments(**options), seed=0)
