from __future__ import annotations

import colorsys
import math

import pytest
import torch

from hf_genmodels import UserError
from hf_genmodels.plots import hsv_to_rgb, polarization_picture


def test_hsv_against_the_standard_library():
    hsv = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hsv[0, 0, 0] = torch.arange(6) / 6
    hsv[1, 1, 0], hsv[1, 2, 1] = 0, 0
    rgb = hsv_to_rgb(hsv)
    for pixel, colour in zip(hsv.movedim(1, -1).reshape(-1, 3), rgb.movedim(1, -1).reshape(-1, 3), strict=True):
        assert colour.tolist() == pytest.approx(colorsys.hsv_to_rgb(*pixel.tolist()), abs=1e-12)


def test_colours_of_known_light():
    """0, 60 and 120 degrees, half polarised at 60 degrees, unpolarised, too much polarised, dark, none, negative."""
    cases = [
        (2.0, 1.0, 0, (1, 0, 0)),
        (2.0, 1.0, 60, (0, 1, 0)),
        (2.0, 1.0, 120, (0, 0, 1)),
        (2.0, 0.5, 60, (0.5, 1, 0.5)),
        (2.0, 0.0, 0, (1, 1, 1)),
        (2.0, 3.0, 0, (1, 0, 0)),
        (0.5, 1.0, 180, (0.25, 0, 0)),
        (0.0, 0.0, 0, (0, 0, 0)),
        (-1.0, 0.0, 0, (0, 0, 0)),
    ]
    stokes = torch.tensor(
        [
            [s0, s0 * dolp * math.cos(math.radians(2 * angle)), s0 * dolp * math.sin(math.radians(2 * angle))]
            for s0, dolp, angle, _ in cases
        ],
        dtype=torch.float64,
    ).T[None, :, None]
    picture = polarization_picture(stokes)
    assert picture.shape == (1, 3, 1, 9)
    for colour, case in zip(picture[0, :, 0].T.tolist(), cases, strict=True):
        assert colour == pytest.approx(case[-1], abs=1e-6), case


def test_every_image_is_as_bright_as_its_brightest_pixel():
    stokes = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    stokes[2] = 0
    picture = polarization_picture(stokes)
    assert picture.dtype == torch.float32 and picture.min() >= 0 and picture.max() <= 1
    assert picture.amax((1, 2, 3)).tolist() == [1, 1, 0]
    torch.testing.assert_close(polarization_picture(100 * stokes.float()), polarization_picture(stokes.float()))


def test_shapes_that_do_not_fit_are_an_error():
    with pytest.raises(UserError, match=r"\(1, 4, 2, 2\)"):
        polarization_picture(torch.zeros(1, 4, 2, 2))
