"""Pictures of known pixels: green where they are kept, red where they are missed."""

from __future__ import annotations

import torch

from hf_genmodels.plots import constraint_picture
from tests.testing_utils.refusals import refused


def test_green_red_and_black():
    kept = torch.tensor([[[1, -1], [0, 0]]], dtype=torch.int8)
    picture = constraint_picture(kept)
    assert picture.shape == (1, 3, 2, 2) and picture.min() >= 0 and picture.max() <= 1
    red, green, blue = picture[0]
    assert green[0, 0] > 0.5 > red[0, 0] and red[0, 1] > 0.5 > green[0, 1]
    assert picture[0, :, 1].abs().sum() == 0 and blue.max() < 0.5


def test_another_shape():
    with refused(r"a constraint map is \(batch, height, width\), got \(2, 1, 8, 8\)"):
        constraint_picture(torch.zeros(2, 1, 8, 8))
