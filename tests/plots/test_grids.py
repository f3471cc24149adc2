from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels.plots import PALETTE, image_grid, stack_pictures
from tests.testing_utils.pictures import colored


def test_grid_keeps_values_and_order() -> None:
    images = torch.linspace(0, 1, 6)[:, None, None, None].expand(6, 1, 60, 70)
    picture = image_grid(images, columns=3)
    assert picture.mode == "L"
    assert picture.size == (3 * 72 + 2, 2 * 62 + 2)
    centers = [picture.getpixel((2 + 72 * column + 35, 2 + 62 * row + 30)) for row in range(2) for column in range(3)]
    assert centers == [0, 51, 102, 153, 204, 255]


def test_grid_enlarges_small_images_by_a_whole_factor() -> None:
    images = torch.rand(1, 3, 8, 8)
    picture = image_grid(images)
    assert picture.mode == "RGB" and picture.size == (60, 60)
    expected = (images[0].permute(1, 2, 0) * 255).round().numpy().repeat(7, axis=0).repeat(7, axis=1)
    np.testing.assert_array_equal(np.asarray(picture)[2:58, 2:58], expected)


def test_grid_leaves_unfilled_places_white_and_clips() -> None:
    picture = image_grid(torch.full((3, 3, 64, 64), -1.0), columns=2)
    assert picture.getpixel((2 + 32, 2 + 32)) == (0, 0, 0)
    assert picture.getpixel((2 + 66 + 32, 2 + 66 + 32)) == (255, 255, 255)


def test_grid_shows_other_channel_counts_side_by_side() -> None:
    channels = torch.tensor([0.0, 0.2, 0.4, 1.0])
    picture = image_grid(channels[None, :, None, None].expand(1, 4, 56, 56))
    assert picture.mode == "L" and picture.size == (4 * 56 + 4, 60)
    assert [picture.getpixel((2 + 56 * index + 28, 30)) for index in range(4)] == [0, 51, 102, 255]


@pytest.mark.parametrize("shape", [(3, 8, 8), (0, 1, 8, 8)])
def test_grid_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image_grid needs"):
        image_grid(torch.zeros(shape))


def test_pictures_are_stacked_in_order_under_their_names() -> None:
    grey, blue = Image.new("L", (40, 30), 100), Image.new("RGB", (200, 10), PALETTE[0])
    sheet = stack_pictures({"samples": grey, "reconstructions": blue})
    first, second = colored(sheet, (100, 100, 100)), colored(sheet, PALETTE[0])
    assert len(second) == 2000 and np.ptp(second[:, 0]) == 9 and np.ptp(second[:, 1]) == 199
    assert np.ptp(first[:, 1]) >= 39 and first[:, 0].min() < 30 < second[:, 0].min()
    assert (np.asarray(sheet)[: sheet.height - 20] < 100).any(), "the names are written"
    assert stack_pictures({"a name much wider than its picture": grey}).width > 200
    with pytest.raises(ValueError, match="at least one"):
        stack_pictures({})
