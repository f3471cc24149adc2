from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from hf_genmodels.plots import PALETTE, image_grid, line_chart, scatter, stack_pictures


def colored(picture: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    """(n, 2) places, row and column, of the pixels of nearly this colour (edges are smoothed)."""
    return np.argwhere(np.abs(np.asarray(picture).astype(int) - color).max(axis=2) < 60)


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


def test_chart_has_a_panel_for_each_quantity() -> None:
    curve = [(step, 1.0 / step) for step in range(1, 20)]
    one = line_chart({"train loss": curve})
    both = line_chart({"train loss": curve, "validation loss": curve})
    three = line_chart({"train loss": curve, "train kl": curve, "validation kl": curve, "learning rate": curve})
    assert one.size == both.size, "train and validation share a panel"
    assert three.height > both.height
    assert len(colored(one, PALETTE[1])) == 0
    assert len(colored(both, PALETTE[1])) > 0


def test_chart_says_which_curve_is_held_out() -> None:
    """A panel's title drops the prefix, so a legend must have it, for a panel of one curve too."""
    curve = [(0, 1.0), (10, 2.0)]
    held_out, trained, plain = (
        np.asarray(line_chart({f"{prefix}mse": curve})).astype(int) for prefix in ("validation ", "train ", "")
    )
    assert len(colored(Image.fromarray(held_out.astype(np.uint8)), PALETTE[1])) > 0
    top = np.s_[10:38, 300:]  # beside the title, above the axes
    assert (plain[top] == 255).all()
    assert (held_out[top] < 128).any() and (trained[top] < 128).any()
    both = np.asarray(line_chart({"train mse": curve, "validation mse": curve})).astype(int)
    assert (both[top] != held_out[top]).any()


@pytest.mark.parametrize(
    ("points", "marks"),
    [
        ([(5, 1.0)], ["5"]),
        ([(2000, 1.0)], ["2,000"]),
        ([(1, 1.0), (2, 1.5)], ["1", "2"]),
        ([(0, 1.0), (3, 1.5)], ["0", "1", "2", "3"]),
        ([(0, 1.0), (3000, 1.5)], ["0", "500", "1,000", "1,500", "2,000", "2,500", "3,000"]),
        ([(0.5, 1.0), (1.5, 1.5)], ["0.6", "0.8", "1.0", "1.2", "1.4"]),
    ],
)
def test_marks_of_a_step_axis_are_whole(points, marks, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    draw_text = ImageDraw.ImageDraw.text

    def record(self, xy, text, *args, **options):
        if options["anchor"] == "ma":
            written.append(text)
        draw_text(self, xy, text, *args, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    line_chart({"loss": points}, x_label="step")
    assert [text for text in written if text not in ("", "step")] == marks


def test_chart_draws_values_where_they_belong() -> None:
    falling = colored(line_chart({"loss": [(0, 1.0), (100, 0.0)]}), PALETTE[0])
    rising = colored(line_chart({"loss": [(0, -5e6), (100, 5e6)]}), PALETTE[0])
    for places, sign in ((falling, 1), (rising, -1)):
        first, last = places[places[:, 1].argmin()], places[places[:, 1].argmax()]
        assert (last[0] - first[0]) * sign > 200
        assert last[1] - first[1] > 500


def test_chart_leaves_out_what_is_not_finite() -> None:
    finite = [(0, 1.0), (2, 3.0)]
    broken = [(0, 1.0), (1, float("nan")), (2, 3.0), (3, float("inf"))]
    assert line_chart({"loss": broken}).tobytes() == line_chart({"loss": finite}).tobytes()
    with pytest.raises(ValueError, match="finite"):
        line_chart({"loss": [(0, float("nan"))]})


@pytest.mark.parametrize("value", [0.0, 3.5, -1e9, 1e-9])
def test_chart_of_a_single_point_shows_a_dot(value: float) -> None:
    assert len(colored(line_chart({"loss": [(7, value)]}, title="title"), PALETTE[0])) > 0


def test_scatter_colors_by_label() -> None:
    points = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    picture = scatter(points, torch.tensor([3, 8]))
    plain = scatter(points)
    assert picture.width > plain.width, "room for the legend"
    low, high = (colored(picture.crop((0, 0, plain.width, plain.height)), color) for color in PALETTE[:2])
    assert low[:, 0].mean() > high[:, 0].mean() + 300, "the y axis points up"
    assert low[:, 1].mean() < high[:, 1].mean() - 300
    assert len(colored(plain, PALETTE[0])) > 0 and len(colored(plain, PALETTE[1])) == 0


def test_scatter_has_one_scale_for_both_axes() -> None:
    places = colored(scatter(torch.tensor([[0.0, 0.0], [10.0, 0.1]])), PALETTE[0])
    assert np.ptp(places[:, 0]) < 30 and np.ptp(places[:, 1]) > 300


def test_scatter_takes_many_labels_and_one_point() -> None:
    scatter(torch.randn(60, 2), torch.arange(60))
    assert len(colored(scatter(torch.zeros(1, 2)), PALETTE[0])) > 0


@pytest.mark.parametrize("shape", [(4, 3), (0, 2), (2,)])
def test_scatter_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="scatter needs"):
        scatter(torch.zeros(shape))
