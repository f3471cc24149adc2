from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hf_genmodels.losses.polarimetry import (
    calibration_matrix,
    intensities_from_stokes,
    left_inverse,
    project_intensities,
    stokes_vector,
)
from hf_genmodels.metrics import polarimetry as metrics
from tests.testing_utils.refusals import refused

A = calibration_matrix()
B = left_inverse(A)


def light(degrees, dolp, s0=1.0):
    """A Stokes vector (3,) by angle and degree of polarisation."""
    return [s0, s0 * dolp * math.cos(math.radians(2 * degrees)), s0 * dolp * math.sin(math.radians(2 * degrees))]


def row(*stokes):
    """One image, one row of these pixels."""
    return torch.tensor(stokes, dtype=torch.float64).T[None, :, None]


@pytest.fixture
def images():
    return torch.rand(5, 4, 6, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["authors", "orthogonal"])
def test_c1_of_each_image(images, kind):
    b = left_inverse(A, kind)
    found = metrics.c1_residual(images, A, b)
    a, inverse = A.double().numpy(), b.double().numpy()
    for image, value in zip(images.double().numpy(), found.tolist(), strict=True):
        y = image.reshape(4, -1)
        again = a @ inverse @ y
        expected = np.linalg.norm(y - again) / (np.linalg.norm(y) + np.linalg.norm(again))
        assert value == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(metrics.c1_residual(100 * images, A, b), found)
    assert metrics.c1_residual(torch.zeros(1, 4, 2, 2), A, b).item() == 0


def test_shares_of_violating_pixels():
    stokes = row(light(10, 0.5), light(20, 1.2), light(70, 0.999), [0, 0, 0], [0, 0.1, 0], [-1, 0, 0.5], [-1, 2, 0])
    y = intensities_from_stokes(stokes, A)
    assert metrics.c2_violation_rate(y, B).item() == pytest.approx(3 / 7)
    assert metrics.c3_violation_rate(y, B).item() == pytest.approx(2 / 7)


def test_tolerance_is_a_millionth_of_the_scale():
    stokes = row([0.5, 0.5 + 5e-7, 0], [0.5, 0, 0.5 + 2e-6], [-5e-7, 0, 0], [-2e-6, 0, 0])
    y = intensities_from_stokes(stokes, A)
    assert metrics.c2_violation_rate(y, B).item() == 0.25
    assert metrics.c3_violation_rate(y, B).item() == 0.25
    assert metrics.c2_violation_rate(255 * y, B, scale=255.0).item() == 0.25
    assert metrics.c3_violation_rate(255 * y, B, scale=255.0).item() == 0.25
    assert metrics.c2_violation_rate(y, B, scale=255.0).item() == 0


def test_mean_deviation_and_median():
    assert metrics.mean_std_median(torch.tensor([4.0, 0, 1, 3])) == pytest.approx((2, math.sqrt(2.5), 2))


def test_violations_of_images_and_their_spread(images):
    images[0] = intensities_from_stokes(row(*[light(0, 0.3)] * 42).reshape(1, 3, 6, 7), A)[0].float()
    stokes = stokes_vector(images, B).double()
    inside = (stokes[:, 1] ** 2 + stokes[:, 2] ** 2 <= stokes[:, 0] ** 2 + 1e-6).double()
    rates = 1 - inside.mean((1, 2)).numpy()
    assert rates[0] == 0 and rates[1:].min() > 0
    found = metrics.c2_violation_rate(images, B)
    assert found.numpy() == pytest.approx(rates)
    assert metrics.mean_std_median(found) == pytest.approx((rates.mean(), rates.std(), np.median(rates)))
    assert not metrics.c3_violation_rate(images, B).any()
    assert metrics.mean_std_median(found[:4]).median == pytest.approx(np.median(rates[:4]))


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_projected_images_violate_nothing_in_float32(images, scale):
    projected = project_intensities(scale * images, A, B)
    assert metrics.c1_residual(projected, A, B).mean() < 1e-6
    for rate in (metrics.c2_violation_rate, metrics.c3_violation_rate):
        assert not rate(projected, B, scale=scale).any()


def test_angles_are_compared_around_the_circle():
    reference = row(light(85, 0.5), light(10, 0.4), light(0, 0.3), light(45, 0.05))
    found = row(light(-85, 0.2), light(30, 0.9, s0=3), light(90, 0.1), light(-45, 1.0))
    assert metrics.angle_error(found, reference).item() == pytest.approx((10 + 20 + 90) / 3)
    assert metrics.angle_error(found, reference, threshold=0.35).item() == pytest.approx(15)
    assert metrics.angle_error(found, reference, threshold=0.01).item() == pytest.approx((120 + 90) / 4)
    both = torch.cat([reference, row(*[light(0, 0.01)] * 4)])
    errors = metrics.angle_error(both, both)
    assert errors[0] == 0 and errors[1].isnan()


def test_degrees_are_compared_up_to_one():
    reference = row(light(0, 0.5), light(40, 0.2), light(10, 0.9), light(0, 0))
    found = row(light(90, 0.6, s0=2), light(0, 0.2), light(10, 5.0), [-1, 1, 0])
    assert metrics.dolp_error(found, reference).item() == pytest.approx((0.1 + 0 + 0.1 + 1) / 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.c1_residual(torch.zeros(1, 3, 2, 2), A, B), ["(1, 3, 2, 2)"]),
        (lambda: metrics.c2_violation_rate(torch.zeros(1, 3, 2, 2), B), ["(1, 3, 2, 2)"]),
        (
            lambda: metrics.dolp_error(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 3)),
            ["(1, 3, 2, 2)", "(1, 3, 2, 3)"],
        ),
    ],
)
def test_mistakes_are_one_line(call, words):
    with refused() as caught:
        call()
    assert all(word in str(caught.value) for word in words)
