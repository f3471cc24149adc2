"""Tiles of large images, dropout as noise, sizes of users' images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hf_genmodels import Pix2PixPipeline, UNetTranslator, UserError
from hf_genmodels.pipelines.translation import dropout_as_noise, image_size, tile_starts, tiled
from tests.testing_utils.pipelines import tiny_pipeline
from tests.testing_utils.refusals import refused


def images(height: int, width: int, channels: int = 2, count: int = 2) -> torch.Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


# tiles ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "size", "overlap", "expected"),
    [
        (16, 16, 4, [0]),
        (17, 16, 4, [0, 1]),
        (28, 16, 4, [0, 12]),
        (29, 16, 4, [0, 12, 13]),
        (40, 16, 4, [0, 12, 24]),
        (10, 5, 0, [0, 5]),
        (3, 1, 0, [0, 1, 2]),
    ],
)
def test_where_tiles_begin(length, size, overlap, expected):
    assert tile_starts(length, size, overlap) == expected


@pytest.mark.parametrize("shape", [(16, 16), (37, 53), (17, 16), (64, 20)])
@pytest.mark.parametrize(("size", "overlap"), [(16, 0), (16, 5), (16, 8), (15, 7), (1, 0)])
def test_what_looks_at_single_pixels_is_as_without_tiles(shape, size, overlap):
    sample = images(*shape)

    def pointwise(x):
        return torch.cat([x.sin(), x.mean(1, keepdim=True)], 1)

    def constant(x):
        return torch.full_like(x, 0.75)

    torch.testing.assert_close(tiled(pointwise, sample, size, overlap), pointwise(sample), rtol=0, atol=1e-6)
    torch.testing.assert_close(tiled(constant, sample, size, overlap), constant(sample), rtol=0, atol=1e-6)


def test_tiles_are_squares_one_at_a_time():
    seen = []
    tiled(lambda x: seen.append((tuple(x.shape), x.is_contiguous())) or x, images(20, 28), 12, 4)
    assert seen == [((2, 2, 12, 12), True)] * 6


@pytest.mark.parametrize(("size", "overlap"), [(12, 4), (10, 3), (16, 0)])
def test_blending_is_linear_between_two_tiles(size, overlap):
    """Each tile is one number; beside the slow sums of weights that rise from a tile's edge."""
    length, calls = 2 * size - overlap, []

    def number(x):
        calls.append(x)
        return torch.full((1, 1, size, size), float(len(calls)))

    row = tiled(number, images(size, length, 1, 1), size, overlap)[0, 0, size // 2]
    expected = [1.0] * (size - overlap)
    for k in range(overlap):
        falling, rising = (overlap - k) / (overlap + 1), (k + 1) / (overlap + 1)
        expected.append((1 * falling + 2 * rising) / (falling + rising))
    expected += [2.0] * (size - overlap)
    assert len(calls) == 2 and row.tolist() == pytest.approx(expected, rel=1e-5)


def seen_whole(length: int, size: int, overlap: int, radius: int) -> torch.Tensor:
    """Which places are at least `radius` from every end that a tile over them has within the image."""
    fine = torch.ones(length, dtype=torch.bool)
    for start in tile_starts(length, size, overlap):
        if start > 0:
            fine[start : start + radius] = False
        if start + size < length:
            fine[start + size - radius : start + size] = False
    return fine


def test_a_small_neighbourhood_is_seen_whole_away_from_the_ends_of_tiles():
    torch.manual_seed(0)
    blur, sample = nn.Conv2d(2, 3, 5, padding=2), images(37, 53)
    with torch.no_grad():
        whole, parts = blur(sample), tiled(blur, sample, 16, 8)
    place = seen_whole(37, 16, 8, 2)[:, None] & seen_whole(53, 16, 8, 2)
    assert 0.1 < place.float().mean() < 0.9
    torch.testing.assert_close(parts[..., place], whole[..., place], rtol=0, atol=1e-5)
    assert (parts - whole)[..., ~place].abs().max() > 1e-3


def test_a_translator_without_norm_is_the_same_away_from_the_ends_of_tiles():
    """Tiles that begin at multiples of what the network halves; 12 pixels are as far as two levels see."""
    torch.manual_seed(0)
    network = UNetTranslator(1, 3, 32, width=4, num_downs=2, norm="none", dropout=0.0).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    pipeline, sample = Pix2PixPipeline(network), (images(60, 88, 1) + 1) / 2
    whole = pipeline(sample, output_type="pt").images
    parts = pipeline(sample, tile_size=32, tile_overlap=4, output_type="pt").images
    place = seen_whole(60, 32, 4, 12)[:, None] & seen_whole(88, 32, 4, 12)
    assert place.float().mean() > 0.1 and whole.std() > 0.05
    torch.testing.assert_close(parts[..., place], whole[..., place], rtol=0, atol=1e-5)
    assert (parts - whole).abs().max() > 1e-3
    one = pipeline(sample[..., :60], tile_size=60, tile_overlap=0, output_type="pt").images
    torch.testing.assert_close(one, pipeline(sample[..., :60], output_type="pt").images)


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [
        (0, 0, "tile_size 0 must be at least 1"),
        (16, 9, "tile_overlap 9 must lie between 0 and half of tile_size 16"),
        (16, -1, "tile_overlap -1 must lie between 0 and half of tile_size 16"),
    ],
)
def test_tiles_that_do_not_fit(size, overlap, message):
    with pytest.raises(UserError) as error:
        tiled(lambda x: x, images(16, 24), size, overlap)
    assert str(error.value) == message


@pytest.mark.parametrize(("height", "width"), [(5, 7), (3, 40), (15, 16), (16, 1)])
def test_images_smaller_than_a_tile(height, width):
    sample, seen = images(height, width), []

    def network(x):
        seen.append(tuple(x.shape[2:]))
        return x.sin()

    made = tiled(network, sample, 16, 4)
    torch.testing.assert_close(made, sample.sin(), rtol=0, atol=1e-6)
    assert set(seen) == {(16, 16)}


def test_an_image_of_any_size_is_translated_in_tiles():
    pipeline = Pix2PixPipeline(UNetTranslator(3, 3, 8, width=2, num_downs=2).eval())
    with refused(r"image is 7x13 \(height x width\), and UNetTranslator takes multiples of 4: give tile_size=8, or"):
        pipeline(Image.new("RGB", (13, 7)))
    (picture,) = pipeline(Image.new("RGB", (13, 7)), tile_size=8).images
    assert picture.size == (13, 7)


# dropout -------------------------------------------------------------------------------------------------------------


def noisy() -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5)).eval()


def test_only_dropout_is_in_training_mode_and_only_inside():
    network = noisy()
    with dropout_as_noise(network, True, None):
        assert [module.training for module in network.modules()] == [False, False, True]
    assert not any(module.training for module in network.modules())
    with pytest.raises(ValueError), dropout_as_noise(network, True, None):
        raise ValueError
    assert not any(module.training for module in network.modules())
    with dropout_as_noise(network, False, None):
        assert not any(module.training for module in network.modules())


def test_a_generator_decides_and_global_numbers_stay():
    network, sample = noisy(), torch.ones(1, 2, 8, 8)

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        with dropout_as_noise(network, True, generator):
            first = network(sample)
            second = network(sample)
        assert not torch.equal(first, second)
        return first

    torch.manual_seed(9)
    before = torch.get_rng_state()
    assert torch.equal(drawn(0), drawn(0)) and not torch.equal(drawn(0), drawn(1))
    assert torch.equal(torch.get_rng_state(), before)
    generator = torch.Generator().manual_seed(0)
    with dropout_as_noise(network, True, generator):
        one = network(sample)
    with dropout_as_noise(network, True, generator):
        assert not torch.equal(network(sample), one)


# users' images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (12, 8)),
        np.zeros((8, 12)),
        np.zeros((8, 12, 3)),
        np.zeros((5, 8, 12, 3)),
        torch.zeros(3, 8, 12),
        torch.zeros(5, 3, 8, 12),
    ],
)
def test_the_size_of_an_image(image):
    for form in (image, [image], (image, image)):
        assert image_size(form, 3) == (8, 12)


def test_the_size_of_grey_arrays():
    for array in (np.zeros((8, 12)), np.zeros((5, 8, 12)), np.zeros((8, 12, 1)), np.zeros((5, 8, 12, 1))):
        assert image_size(array, 1) == (8, 12)


@pytest.mark.parametrize("image", ["picture.png", None, [], torch.zeros(8, 12), np.zeros(8), [[1.0, 2.0]]])
def test_what_is_no_image(image):
    with refused(r"image must be PIL images, arrays .* got "):
        image_size(image, 3)


@pytest.mark.parametrize(
    "pictures",
    [
        [Image.new("RGB", (12, 8)), Image.new("RGB", (12, 8)), Image.new("RGB", (8, 12))],
        [np.zeros((8, 12, 3)), np.zeros((2, 8, 12, 3)), np.zeros((12, 8, 3))],
    ],
)
def test_images_of_several_sizes(pictures):
    with refused(r"image 2 is 12x8 \(height x width\), image 0 8x12: give images of one size in one call"):
        image_size(pictures, 3)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_arrays_of_colours_do_not_become_batches_of_grey_pictures(channels):
    with refused(f"has {channels} channels instead of 1"):
        tiny_pipeline("Pix2PixPipeline")(np.zeros((8, 8, channels), dtype=np.float32))


def test_an_overlap_without_tiles_is_refused():
    with refused("tile_overlap is of tiles: give tile_size, too"):
        tiny_pipeline("Pix2PixPipeline")(np.zeros((8, 8), dtype=np.float32), tile_overlap=2)
