"""Paths and grids in latent space against slow formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm, truncnorm

from hf_genmodels import UserError
from hf_genmodels.pipelines.latents import check_dense, interpolate_latents, percentile_grid, truncate_normal
from tests.testing_utils.pipelines import tiny_pipeline
from tests.testing_utils.refusals import refused

START, END = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])


def test_linear_path_is_the_straight_line():
    path = interpolate_latents(START, END, 4, "linear")
    expected = [value for k in range(4) for value in (3 - k, k / 3, 0.0)]
    assert path.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_spherical_path_turns_evenly_and_changes_its_length_linearly():
    path = interpolate_latents(START, END, 4, "spherical")
    expected = []
    for k in range(4):
        length, angle = 3 - 2 * k / 3, math.pi / 2 * k / 3
        expected += [length * math.cos(angle), length * math.sin(angle), 0.0]
    assert path.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_spherical_path_in_many_dimensions():
    start, end = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).double()
    path = interpolate_latents(start, end, 7, "spherical")
    torch.testing.assert_close(path[[0, -1]], torch.stack([start, end]))
    lengths = path.norm(dim=1)
    torch.testing.assert_close(lengths.diff(), lengths.diff()[:1].expand(6))
    directions = path / lengths[:, None]
    cosines = (directions[1:] * directions[:-1]).sum(1)
    torch.testing.assert_close(cosines, cosines[:1].expand(6))
    plane = torch.linalg.qr(torch.stack([start, end], 1)).Q
    torch.testing.assert_close(plane @ (plane.T @ path.T), path.T)


@pytest.mark.parametrize("end", [-START, torch.zeros(3), 2 * START])
def test_vectors_without_a_turning_plane_are_joined_linearly(end):
    for a, b in ((START, end), (end, START)):
        torch.testing.assert_close(
            interpolate_latents(a, b, 5, "spherical"), interpolate_latents(a, b, 5, "linear"), atol=1e-5, rtol=0
        )


def test_refused_paths():
    with pytest.raises(UserError, match="mode must be 'linear' or 'spherical', got 'cubic'"):
        interpolate_latents(START, END, 4, "cubic")
    with pytest.raises(UserError, match="num_steps must be at least 2, got 1"):
        interpolate_latents(START, END, 1, "linear")


def test_grid_holds_the_quantiles_with_the_second_coordinate_upwards():
    grid = percentile_grid(4, (0, 1), 2, None).unflatten(0, (4, 4))
    quantiles = norm.ppf([0.125, 0.375, 0.625, 0.875])
    for row in range(4):
        assert grid[row, :, 0].tolist() == pytest.approx(quantiles)
        assert grid[row, :, 1].tolist() == pytest.approx([quantiles[3 - row]] * 4)


def test_grid_of_codes_holds_their_quantiles_and_the_medians_of_the_rest():
    codes = torch.randn(21, 3, generator=torch.Generator().manual_seed(0))
    grid = percentile_grid(2, (2, 0), 3, codes).unflatten(0, (2, 2))
    right, up = (np.quantile(codes[:, dimension].double().numpy(), [0.25, 0.75]) for dimension in (2, 0))
    for row, column in np.ndindex(2, 2):
        assert grid[row, column].tolist() == pytest.approx([up[1 - row], codes[:, 1].median().item(), right[column]])


@pytest.mark.parametrize("threshold", [1e-3, 0.5, 2.0])
def test_truncation_carries_quantiles_over(threshold):
    latents = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    expected = truncnorm(-threshold, threshold).ppf(norm.cdf(latents.double().numpy()))
    truncated = truncate_normal(latents, threshold)
    assert truncated.flatten().tolist() == pytest.approx(expected.flatten().tolist(), rel=1e-4)
    assert truncate_normal(latents.bfloat16(), threshold).dtype == torch.bfloat16


def test_truncation_of_numbers_far_out_is_finite():
    latents = torch.tensor([-40.0, -6.0, 0.0, 6.0, 40.0])
    assert truncate_normal(latents, 1.0).tolist() == pytest.approx([-1, -1, 0, 1, 1], abs=1e-5)
    assert truncate_normal(latents, 8.0).abs().max() <= 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_seed_means_the_same_latents_in_any_precision(dtype):
    pipeline = tiny_pipeline("GANPipeline")
    for generators in (lambda: torch.Generator().manual_seed(0), lambda: [torch.Generator().manual_seed(0)]):
        exact = pipeline.random_latents(1, (65,), generators(), None, torch.float32)
        drawn = pipeline.random_latents(1, (65,), generators(), None, dtype)
        assert drawn.dtype == dtype and torch.equal(drawn, exact.to(dtype))


def test_nested_tensors_are_refused():
    with refused("latents must be a dense tensor, got a nested tensor"):
        check_dense("latents", torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]))
