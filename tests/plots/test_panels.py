"""Panels: what is drawn lies where the axes say, and nowhere else."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from hf_genmodels.plots import PALETTE, Panel, sheet
from hf_genmodels.plots.panels import ARROW, COLD, WARM
from tests.testing_utils.pictures import colored


def test_bands_have_the_largest_y_at_the_top() -> None:
    panel = Panel("", (-1, 1), (-1, 1))
    panel.bands(torch.tensor([[-9.0, -2.0], [3.0, 9.0]]), 0.5)
    picture = np.asarray(panel.finished()).astype(int)

    def at(x: float, y: float) -> np.ndarray:
        column, row = panel.axes.place((x, y))
        return picture[round(row), round(column)]

    assert np.abs(at(-0.5, 0.5) - COLD).max() < 3 and np.abs(at(0.5, -0.5) - WARM).max() < 3
    least, greatest = at(0.5, 0.5), at(-0.5, -0.5)
    assert least[0] < least[2] and greatest[0] > greatest[2]  # blueish, and orange


def test_bands_are_white_at_0() -> None:
    panel = Panel("", (0, 1), (0, 1))
    panel.bands(torch.full((3, 3), -0.4), 0.5)
    assert len(colored(panel.finished(), (255, 255, 255))) > 10000


def test_a_curve_ends_where_it_leaves_the_ranges() -> None:
    panel = Panel("", (0, 1), (0, 1))
    panel.curve(torch.tensor([[0.1, 0.5], [0.3, 0.5], [0.5, 5.0], [0.7, 0.5], [0.9, 0.5]]), PALETTE[0])
    columns = set(colored(panel.finished(), PALETTE[0])[:, 1])
    inside, between = (panel.axes.place((x, 0.5))[0] for x in (0.2, 0.5))
    assert round(inside) in columns and round(between) not in columns


def test_arrows_have_one_length_and_a_head() -> None:
    pictures = []
    for direction in ([5.0, 0.0], [0.01, 0.0], [0.0, 0.0]):
        panel = Panel("", (0, 1), (0, 1))
        before = np.asarray(panel.finished()).astype(int)
        panel.arrows(torch.tensor([[0.5, 0.5]]), torch.tensor([direction]), length=0.4)
        pictures.append(np.asarray(panel.finished()).astype(int))
    assert (pictures[0] == pictures[1]).all() and (pictures[2] == before).all()
    changed = np.argwhere((pictures[0] != before).any(axis=2))
    start, end = (panel.axes.place((x, 0.5))[0] for x in (0.3, 0.7))
    assert abs(changed[:, 1].min() - start) <= 4 and abs(changed[:, 1].max() - end) <= 4
    rows = [np.ptp(changed[np.abs(changed[:, 1] - place) < 6][:, 0]) for place in (start + 6, end - 6)]
    assert rows[1] > rows[0]
    assert max(ARROW) < 200


def test_names_of_curves_are_in_the_legend() -> None:
    plain, named = Panel("", (0, 1), (0, 1)), Panel("", (0, 1), (0, 1))
    for panel, name in ((plain, ""), (named, "KL")):
        panel.curve(torch.tensor([[0.1, 0.1], [0.2, 0.1]]), PALETTE[1], name)
    top = np.s_[30:46]  # above the marks of the axis
    above = [np.asarray(panel.finished()).astype(int)[top] for panel in (plain, named)]
    assert (above[0] == 255).all() and (above[1] < 128).any()


def test_a_sheet_has_rows() -> None:
    tiles = [Image.new("RGB", (3, 2), color) for color in ("red", "lime", "blue")]
    made = sheet(tiles, columns=2)
    assert made.size == (6, 4)
    assert [made.getpixel(place) for place in ((0, 0), (3, 0), (0, 2), (3, 2))] == [
        (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    ]  # fmt: skip
