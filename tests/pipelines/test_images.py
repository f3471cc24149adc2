"""Conversion between users' images and networks' tensors; `testing_utils/pipelines.py` tests it through pipelines."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels.data.decoding import Encoded, opened
from hf_genmodels.pipelines.images import from_network, to_network
from hf_genmodels.pipelines.translation import image_size
from tests.testing_utils.refusals import refused

GREY, COLOUR, VECTOR = (1, 2, 3), (3, 2, 3), (4,)


def test_eight_bit_values_are_divided_by_255():
    array = np.array([[0, 51, 255], [102, 1, 128]], np.uint8)
    expected = [v / 255 * 2 - 1 for v in (0, 51, 255, 102, 1, 128)]
    for form in (array, array[..., None], array[None, ..., None], Image.fromarray(array), [array], (array,)):
        batch = to_network(form, GREY)
        assert batch.shape == (1, *GREY) and batch.dtype == torch.float32
        assert batch.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_sixteen_bit_values_are_divided_by_65535():
    array = np.array([[0, 1, 65535], [32768, 257, 1000]], np.uint16)
    picture = Image.fromarray(array)
    assert picture.mode == "I;16"
    expected = [v / 65535 * 2 - 1 for v in array.flatten().tolist()]
    for form in (array, picture):
        assert to_network(form, GREY).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_black_and_white_pictures_are_grey_ones():
    picture = Image.fromarray(np.array([[True, False, True], [False] * 3]))
    assert picture.mode == "1"
    assert to_network(picture, GREY).flatten().tolist() == [1, -1, 1, -1, -1, -1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_whole_numbers_mean_the_same_in_arrays_and_in_tensors(dtype):
    values = np.array([[0, 1, 1], [0, 0, 1]]).astype(dtype) * np.array(200 if dtype is np.uint8 else 1, dtype)
    array, tensor = to_network(values, GREY), to_network(torch.from_numpy(values)[None], GREY)
    assert torch.equal(array, tensor) and array.dtype == tensor.dtype == torch.float32
    white = {np.uint8: 200 / 255, np.uint16: 1 / 65535, bool: 1}[dtype]
    assert array.max().item() == pytest.approx(2 * white - 1, abs=1e-6)


@pytest.mark.parametrize("form", [np.asarray, lambda values: torch.from_numpy(values)[None], Image.fromarray])
def test_masks_of_eight_bits_are_told_of(form, caplog):
    values = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
    assert to_network(form(values), GREY).max().item() == pytest.approx(2 / 255 - 1, abs=1e-6)
    assert "0 and 1, which is 1/255 of white; give masks as booleans" in caplog.text
    caplog.clear()
    for harmless in (values * 2, values * 0, values.astype(bool), values.astype(np.float32)):
        to_network(harmless, GREY)
    assert not caplog.records


def test_sixteen_bits_are_in_units_of_the_data():
    counts = np.array([[0, 1, 4095], [2048, 257, 1000]], np.uint16)
    expected = torch.from_numpy(counts / 4095 * 2 - 1).float()
    for form in (counts, Image.fromarray(counts), torch.from_numpy(counts)[None]):
        torch.testing.assert_close(to_network(form, GREY, 4095.0)[0, 0], expected)
    # of 8-bit data and of floats they are not told
    of_type = torch.from_numpy(counts / 65535 * 2 - 1).float()
    for scale in (255.0, 1.0, 16.0):
        torch.testing.assert_close(to_network(counts, GREY, scale)[0, 0], of_type)
    (picture,) = from_network(to_network(counts, GREY, 4095.0), "pil", 4095.0)
    assert picture.mode == "I;16" and np.array_equal(np.asarray(picture), counts)
    with refused("images must lie in"):
        to_network(counts + np.uint16(9), GREY, 4095.0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_in_training(orientation, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3) if orientation < 5 else (3, 2, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "1.png", exif=exif)
    with opened(Encoded(None, str(tmp_path / "1.png"))) as (header, read):
        trained = read()
    picture = Image.open(tmp_path / "1.png")
    assert image_size(picture, 3) == (header.height, header.width) == (2, 3)
    shown = (to_network(picture, COLOUR)[0].permute(1, 2, 0) + 1) * 127.5
    assert np.array_equal(shown.round().byte().numpy(), trained)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_channels_of_arrays_are_last_and_of_tensors_first(dtype):
    values = np.linspace(0, 1, 18).reshape(2, 3, 3).astype(dtype)
    batch = to_network(values, COLOUR)
    for channel in range(3):
        expected = (values[..., channel].astype(np.float64) * 2 - 1).flatten()
        assert batch[0, channel].flatten().tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    tensor = torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)
    for form in (tensor, tensor[None], tensor.double(), [tensor]):
        torch.testing.assert_close(to_network(form, COLOUR), batch)


def test_flipped_arrays_are_taken_and_left_as_they_are():
    array = np.linspace(0, 1, 6).reshape(2, 3)
    before = array.copy()
    flipped = to_network(array[:, ::-1], GREY)
    torch.testing.assert_close(flipped, to_network(array, GREY).flip(3))
    assert np.array_equal(array, before)


def test_lists_keep_their_order():
    one, two = np.zeros((2, 3)), np.ones((2, 2, 3, 1))
    batch = to_network([one, torch.full((1, 2, 3), 0.5), two], GREY)
    assert batch[:, 0, 0, 0].tolist() == [-1, 0, 1, 1]


def test_vectors_pass_unchanged():
    vectors = np.array([[-7.0, 0.0, 300.0, 1.5], [0.0, 1.0, 2.0, 3.0]])
    for form in (vectors, torch.tensor(vectors), list(vectors), list(torch.tensor(vectors))):
        assert to_network(form, VECTOR).tolist() == vectors.tolist()
    assert to_network(vectors[0], VECTOR).tolist() == vectors[:1].tolist()


@pytest.mark.parametrize(
    ("images", "shape", "message"),
    [
        (
            Image.new("RGB", (3, 2)),
            GREY,
            "takes grey images: give image.convert('L')",
        ),
        (
            Image.new("RGBA", (3, 2)),
            COLOUR,
            "mode RGBA does not fit a network that takes RGB images: give image.conv",
        ),
        (
            Image.new("P", (3, 2)),
            COLOUR,
            "takes RGB images: give image.convert('RGB')",
        ),
        (
            Image.new("CMYK", (3, 2)),
            (4, 2, 3),
            "takes images of 4 channels: give arrays or tensors",
        ),
        (Image.new("L", (3, 2)), VECTOR, "mode L does not fit a network that takes vectors"),
        (Image.new("L", (2, 3)), GREY, "takes images of shape (1, 2, 3), got (1, 3, 2)"),
        (torch.zeros(2, 3), GREY, "got (2, 3)"),
        (torch.zeros(5), VECTOR, "got (5,)"),
        (torch.tensor(0.0), VECTOR, "got ()"),
        (np.zeros((2, 3, 3)), GREY, "got (3, 2, 3)"),
        (np.zeros(6), GREY, "must be ([batch,] height, width[, channels]), got shape (6,)"),
        (np.zeros((1, 1, 2, 3, 1)), GREY, "got shape (1, 1, 2, 3, 1)"),
        (np.zeros((2, 3), np.int64), GREY, "must be float in [0, 1], uint8 or uint16, got int64"),
        (torch.zeros(1, 2, 3, dtype=torch.int64), GREY, "tensors of images must be float in [0, 1], uint8 or uint16"),
        (np.zeros((2, 4), complex), VECTOR, "arrays of vectors must hold numbers, got complex128"),
        (np.full((2, 3), 255.0), GREY, "images must lie in [0, 1], got [255, 255]"),
        (torch.full((1, 2, 3), -0.5), GREY, "images must lie in [0, 1], got [-0.5, -0.5]"),
        (torch.full((1, 2, 3), float("nan")), GREY, "images must lie in [0, 1], got [nan, nan]"),
        (torch.zeros(0, *GREY), GREY, "there are no images"),
        ([], GREY, "or a list of them, got an empty list"),
        ("picture.png", GREY, "or a list of them, got str"),
        ([None], GREY, "or a list of them, got NoneType"),
    ],
)
def test_what_does_not_fit_is_a_one_line_error(images, shape, message):
    with refused(re.escape(message)):
        to_network(images, shape)


def test_samples_are_clipped_scaled_and_rounded():
    samples = torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 7.0]).reshape(1, 1, 2, 3)
    assert from_network(samples, "pt", 255.0).flatten().tolist() == [0, 0, 0.5, 0.75, 1, 1]
    (picture,) = from_network(samples, "pil", 255.0)
    assert np.asarray(picture).flatten().tolist() == [0, 0, 128, 191, 255, 255]
    (deep,) = from_network(samples, "pil", 65535.0)
    assert np.asarray(deep).flatten().tolist() == [0, 0, 32768, 49151, 65535, 65535]
    (colour,) = from_network(samples.expand(1, 3, 2, 3), "pil", 65535.0)
    assert colour.mode == "RGB", "Pillow has no colour pictures of 16 bits"


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_a_picture_survives_both_ways(mode):
    size, top = {"L": (8, 16), "RGB": (8, 16, 3), "I;16": (8, 16)}[mode], 65535 if mode == "I;16" else 255
    values = np.random.default_rng(0).integers(top + 1, size=size).astype(np.uint16 if mode == "I;16" else np.uint8)
    shape = (3 if mode == "RGB" else 1, 8, 16)
    (picture,) = from_network(to_network(Image.fromarray(values), shape), "pil", float(top))
    assert picture.mode == mode
    assert np.array_equal(np.asarray(picture), values)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_deep_pictures_are_taken_as_training_takes_them(mode):
    values = np.array([[1000, 40000]], dtype=np.uint16)
    if mode == "I;16B":
        picture = Image.frombytes(mode, (2, 1), values.byteswap().tobytes())
    else:
        picture = Image.fromarray((values / 65535).astype(np.float32) if mode == "F" else values)
        picture = picture.convert("I") if mode == "I" else picture
    assert picture.mode == mode
    expected = torch.tensor([1000, 40000]) / 65535 * 2 - 1
    torch.testing.assert_close(to_network(picture, (1, 1, 2), 65535.0).flatten(), expected)


def test_whole_numbers_beyond_sixteen_bits_are_refused():
    picture = Image.fromarray(np.array([[0, 70000]], dtype=np.int32))
    with refused("mode I holds values from 0 to 70000"):
        to_network(picture, (1, 1, 2), 65535.0)
