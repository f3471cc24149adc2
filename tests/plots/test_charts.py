from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from hf_genmodels.plots import PALETTE, line_chart, scatter
from tests.testing_utils.pictures import colored


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
