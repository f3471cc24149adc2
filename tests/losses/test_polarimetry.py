"""Stokes vectors made by hand, against loops over pixels in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hf_genmodels.losses import polarimetry as p
from tests.testing_utils.refusals import refused

TILTED = torch.tensor([[0.5, 0.47, 0.02], [0.51, 0.01, 0.46], [0.49, -0.48, 0.0], [0.5, 0.03, -0.49]])
CAMERAS = [(p.calibration_matrix(), "authors"), (p.calibration_matrix(), "orthogonal"), (TILTED, "orthogonal")]

# (S0, S1, S2) and where the projection puts it: inside, on the cone, beside it (3), behind it, on its back, the tip.
CASES = [
    ((5.0, 3.0, 1.0), (5.0, 3.0, 1.0)),
    ((5.0, 3.0, -4.0), (5.0, 3.0, -4.0)),
    ((0.0, 3.0, 4.0), (2.5, 1.5, 2.0)),
    ((3.0, -3.0, 4.0), (4.0, -2.4, 3.2)),
    ((-1.0, 3.0, -4.0), (2.0, 1.2, -1.6)),
    ((-6.0, 3.0, 4.0), (0.0, 0.0, 0.0)),
    ((-5.0, 3.0, 4.0), (0.0, 0.0, 0.0)),
    ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
]


def column(vectors):
    """(pixels, channels) as one image of a column, float64."""
    return torch.tensor(vectors, dtype=torch.float64).T[None, :, :, None]


def random_images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_ideal_camera_and_its_inverses():
    a = p.calibration_matrix()
    angles = np.deg2rad([0, 45, 90, 135])
    expected = np.stack([np.ones(4), np.cos(2 * angles), np.sin(2 * angles)], axis=1) / 2
    np.testing.assert_allclose(a.numpy(), expected, atol=1e-7)
    authors, orthogonal = p.left_inverse(a), p.left_inverse(a, "orthogonal")
    assert authors.tolist() == [[1, 0, 1, 0], [1, 0, -1, 0], [0, 1, 0, -1]]
    np.testing.assert_allclose(orthogonal, [[0.5] * 4, [1, 0, -1, 0], [0, 1, 0, -1]], atol=1e-6)


@pytest.mark.parametrize(("a", "kind"), CAMERAS)
def test_stokes_vectors_come_back_from_their_intensities(a, kind):
    stokes = random_images(2, 3, 4, 5)
    b = p.left_inverse(a, kind)
    assert b.dtype == a.dtype
    intensities = p.intensities_from_stokes(stokes, a)
    for image, row, col in np.ndindex(2, 4, 5):
        expected = a.double().numpy() @ stokes[image, :, row, col].numpy()
        np.testing.assert_allclose(intensities[image, :, row, col], expected, rtol=1e-12)
    torch.testing.assert_close(p.stokes_vector(intensities, b), stokes, rtol=0, atol=1e-6)


def test_polarised_light_of_known_degree_and_angle():
    angles = np.deg2rad([0, 30, 45, 89, 90, -60, -89])
    stokes = column([(4, 4 * 0.25 * math.cos(2 * a), 4 * 0.25 * math.sin(2 * a)) for a in angles])
    assert p.degree_of_linear_polarization(stokes).flatten().tolist() == pytest.approx([0.25] * 7)
    assert p.angle_of_linear_polarization(stokes).flatten().tolist() == pytest.approx(angles.tolist())
    # A polariser at 30 degrees passes everything at 30, nothing at 120 degrees.
    y = p.intensities_from_stokes(
        column([(2, 2 * math.cos(math.pi / 3), 2 * math.sin(math.pi / 3))]), p.calibration_matrix()
    )
    passed = [2 * math.cos(math.radians(angle - 30)) ** 2 for angle in (0, 45, 90, 135)]
    assert y.flatten().tolist() == pytest.approx(passed)


def test_degree_above_one_is_kept():
    assert p.degree_of_linear_polarization(column([(1, 3, 4), (0, 0, 0)])).flatten().tolist() == [5, 0]


@pytest.mark.parametrize("kind", p.LEFT_INVERSES)
@pytest.mark.parametrize("squared", [False, True])
def test_calibration_residual(kind, squared):
    a = p.calibration_matrix()
    b = p.left_inverse(a, kind)
    y = random_images(2, 4, 3, 5) + 2
    expected = np.zeros(2)
    for image, row, col in np.ndindex(2, 3, 5):
        i0, i45, i90, i135 = y[image, :, row, col].tolist()
        norm = abs(i0 - i45 + i90 - i135) / (math.sqrt(2) if kind == "authors" else 2)
        expected[image] += (norm**2 if squared else norm) / 15
    residual = p.calibration_residual(y, a, b, squared=squared)
    np.testing.assert_allclose(residual, expected, rtol=1e-6)
    assert p.calibration_loss(y, a, b, squared=squared).item() == pytest.approx(expected.mean(), rel=1e-6)
    calibrated = p.intensities_from_stokes(random_images(2, 3, 3, 5), a)
    assert p.calibration_residual(calibrated, a, b).max() < 1e-7


def test_cone():
    stokes = column([(5, 3, 4), (4, 3, 4), (0, 3, 4), (-6, 3, 4), (-4, 3, 4), (2, 0, 0)])
    assert p.cone_violation(stokes).flatten().tolist() == [0, 9, 25, 0, 9, 0]
    a = p.calibration_matrix()
    y = p.intensities_from_stokes(stokes, a)
    assert p.cone_loss(y, p.left_inverse(a)).item() == pytest.approx(43 / 6)


def test_the_largest_violation_in_eight_bits():
    y = p.to_intensities(torch.tensor([-1.0, 1.0, -1.0, -1.0]).reshape(1, 4, 1, 1))
    assert y.flatten().tolist() == [0, 255, 0, 0]
    assert p.cone_loss(y, p.left_inverse(p.calibration_matrix())).item() == 255**2
    assert p.to_intensities(torch.tensor([-0.5]), scale=1.0).item() == 0.25


@pytest.mark.parametrize(("stokes", "expected"), CASES)
def test_projection_onto_the_cone(stokes, expected):
    assert p.project_onto_cone(column([stokes])).flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_projection_is_the_nearest_point_and_idempotent():
    stokes = random_images(1, 3, 20, 10)
    projected = p.project_onto_cone(stokes)
    assert p.cone_violation(projected).max() < 1e-12 and projected[:, 0].min() >= 0
    torch.testing.assert_close(p.project_onto_cone(projected), projected, rtol=0, atol=1e-12)
    # No point of the cone is nearer: <S - Pi(S), X - Pi(S)> <= 0 for each of its points X.
    points = p.project_onto_cone(random_images(50, 3, 20, 10, seed=1))
    assert ((stokes - projected) * (points - projected)).sum(1).max() < 1e-12


def test_gradient_of_the_squared_distance_to_the_cone():
    stokes = random_images(2, 3, 10, 10).requires_grad_()
    projected = p.project_onto_cone(stokes)
    (gradient,) = torch.autograd.grad((stokes - projected).square().sum() / 2, stokes)
    torch.testing.assert_close(gradient, (stokes - projected).detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("a", "kind"), CAMERAS)
def test_projected_intensities_are_admissible(a, kind):
    b = p.left_inverse(a, kind)
    y = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    assert p.cone_loss(y, b) > 1e-3 and p.calibration_loss(y, a, b) > 1e-2
    for maximum in (None, 0.7):
        projected = p.project_intensities(y, a, b, maximum=maximum)
        assert p.calibration_residual(projected, a, b).max() < 1e-6
        assert p.cone_violation(p.stokes_vector(projected, b)).max() < 1e-6
        assert projected.min() > -1e-6
        assert maximum is None or projected.max() <= maximum + 1e-6


def test_bright_pixels_are_dimmed_as_a_whole():
    a = p.calibration_matrix()
    y = column([(1, 1, 1, 0), (0.25, 0.25, 0.25, 0.25)])
    b = p.left_inverse(a)
    assert p.project_intensities(y, a, b)[0, :, 0, 0].tolist() == pytest.approx([1, 1.5, 1, 0.5])
    dimmed = p.project_intensities(y, a, b, maximum=1.0)
    assert dimmed[0, :, 0, 0].tolist() == pytest.approx([2 / 3, 1, 2 / 3, 1 / 3])
    assert dimmed[0, :, 1, 0].tolist() == [0.25] * 4


def test_derivatives_where_smooth():
    a, b = TILTED.double(), p.left_inverse(TILTED.double(), "orthogonal")
    y = (random_images(1, 4, 3, 2) + 1).requires_grad_()
    for function in (
        lambda y: p.degree_of_linear_polarization(p.stokes_vector(y, b).abs() + 1),
        lambda y: p.angle_of_linear_polarization(p.stokes_vector(y, b)),
        lambda y: p.calibration_loss(y, a, b),
        lambda y: p.cone_loss(y, b),
        lambda y: p.project_intensities(y, a, b, maximum=1.0),
    ):
        assert torch.autograd.gradcheck(function, y)


def test_derivatives_are_finite_where_nothing_is_polarised_or_bright():
    a, b = p.calibration_matrix(), p.left_inverse(p.calibration_matrix())
    # Squares of the last are too small for float32.
    for value, difference in ((0.0, 0.0), (0.3, 0.0), (0.0, 1e-25), (0.0, 1e-22)):
        y = torch.full((1, 4, 2, 2), value)
        y[:, 1] += difference
        y.requires_grad_()
        stokes = p.stokes_vector(y, b)
        outputs = [
            p.degree_of_linear_polarization(stokes),
            p.angle_of_linear_polarization(stokes),
            p.calibration_loss(y, a, b),
            p.cone_loss(y, b),
            p.project_intensities(y, a, b, maximum=1.0),
        ]
        for output in outputs:
            (gradient,) = torch.autograd.grad(output.sum(), y, retain_graph=True)
            assert output.isfinite().all() and gradient.isfinite().all()


def test_bfloat16_and_autocast_lose_no_digits():
    a = p.calibration_matrix()
    b = p.left_inverse(a)
    y = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected, loss = p.project_intensities(y, a, b), p.cone_loss(y, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(p.project_intensities(y, a, b), expected)
        assert p.cone_loss(y, b) == loss
    assert p.project_intensities(y.bfloat16(), a, b).dtype == torch.float32
    assert p.calibration_loss(p.project_intensities(y.bfloat16(), a, b), a, b) < 1e-6


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: p.left_inverse(p.calibration_matrix(), "pinv"), ["'pinv'", "authors, orthogonal"]),
        (lambda: p.left_inverse(TILTED), ['"authors"', '"orthogonal"']),
        (lambda: p.left_inverse(torch.eye(3)), ["(3, 3)", "(4, 3)"]),
        (lambda: p.left_inverse(torch.ones(4, 3), "orthogonal"), ["no left inverse"]),
        (lambda: p.stokes_vector(torch.zeros(1, 3, 2, 2), torch.zeros(3, 4)), ["(1, 3, 2, 2)", "I0, I45, I90, I135"]),
        (lambda: p.project_onto_cone(torch.zeros(3, 2, 2)), ["(3, 2, 2)", "(batch, 3, height, width)"]),
    ],
)
def test_mistakes_are_one_line(call, words):
    with refused() as caught:
        call()
    assert all(word in str(caught.value) for word in words)


# the way to the cone, and what a discriminator is shown -------------------------------------------------------------


@pytest.mark.parametrize(("a", "kind"), CAMERAS)
def test_the_proximal_loss_and_its_gradient(a, kind):
    """Against loops; autograd through the projection gives the same, which is the envelope theorem."""
    b = p.left_inverse(a, kind)
    intensities = random_images(2, 4, 3, 2, seed=3).requires_grad_()
    expected, gradient = 0.0, np.zeros((2, 4, 3, 2))
    for image, row, col in np.ndindex(2, 3, 2):
        s = b.double().numpy() @ intensities[image, :, row, col].detach().numpy()
        length = math.hypot(s[1], s[2])
        if length <= s[0]:
            nearest = s
        elif length <= -s[0]:
            nearest = np.zeros(3)
        else:
            nearest = (1 + s[0] / length) / 2 * np.array([length, s[1], s[2]])
        expected += np.square(s - nearest).sum() / 2 / 12
        gradient[image, :, row, col] = b.double().numpy().T @ (s - nearest) / 12
    loss = p.proximal_cone_loss(intensities, b)
    assert loss.item() == pytest.approx(expected) and expected > 0
    (found,) = torch.autograd.grad(loss, intensities)
    np.testing.assert_allclose(found.numpy(), gradient, rtol=1e-6, atol=1e-12)
    stokes = p.stokes_vector(intensities, b)
    through = (stokes - p.project_onto_cone(stokes)).square().sum(1).mean() / 2
    torch.testing.assert_close(torch.autograd.grad(through, intensities)[0], found)


def test_the_proximal_loss_of_admissible_images_is_0():
    stokes = column([case for case, projected in CASES if case == projected])
    intensities = p.intensities_from_stokes(stokes, p.calibration_matrix()).requires_grad_()
    loss = p.proximal_cone_loss(intensities, p.left_inverse(p.calibration_matrix()))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12) and intensities.grad.abs().max() < 1e-6


def test_normalised_stokes_vectors():
    intensities = random_images(2, 4, 3, 2, seed=4).abs()
    found = p.normalised_stokes(intensities, p.left_inverse(p.calibration_matrix()))
    for image, row, col in np.ndindex(2, 3, 2):
        y = intensities[image, :, row, col].numpy()
        s0, s1, s2 = y[0] + y[2], y[0] - y[2], y[1] - y[3]
        expected = [s0 - 1, s1 / (s0 + 0.02), s2 / (s0 + 0.02)]
        np.testing.assert_allclose(found[image, :, row, col], expected, rtol=1e-6)
    black = torch.zeros(1, 4, 1, 1)
    assert p.normalised_stokes(black, p.left_inverse(p.calibration_matrix())).flatten().tolist() == [-1, 0, 0]


def test_cameras_are_compared_in_float32():
    ideal = p.calibration_matrix().tolist()
    assert p.same_camera(None, ideal) and p.same_camera(None, None)
    tilted = TILTED.tolist()
    assert p.same_camera(tilted, [[float(str(round(number, 2))) for number in row] for row in tilted])
    assert not p.same_camera(tilted, None)
