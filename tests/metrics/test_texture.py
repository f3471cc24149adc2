"""Chi-square distances against loops, HOG and LBP on textures whose histograms are known."""

from __future__ import annotations

import sys

import pytest
import torch

from hf_genmodels import UserError
from hf_genmodels.metrics.texture import chi_square, hog_distance, lbp_distance


def stripes(vertical: bool, period: int = 4, number: int = 2, size: int = 24) -> torch.Tensor:
    """A wave in grey along rows or columns, (number, 1, size, size), each image at another phase."""
    places = torch.arange(size)[None] + torch.arange(number)[:, None]
    wave = 0.5 + 0.4 * torch.sin(2 * torch.pi * places / period)
    image = wave[:, None, None, :].expand(-1, 1, size, -1)
    return image if vertical else image.mT


def noise(seed: int, number: int = 4) -> torch.Tensor:
    return torch.rand(number, 1, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_chi_square_by_a_loop():
    first, second = torch.tensor([1.0, 3, 0, 4, 0]), torch.tensor([10, 0, 0, 5, 5])
    expected = 0.0
    for a, b in zip([v / 8 for v in (1, 3, 0, 4, 0)], [v / 20 for v in (10, 0, 0, 5, 5)], strict=True):
        expected += 0.0 if a + b == 0 else 0.5 * (a - b) ** 2 / (a + b)
    assert chi_square(first, second) == pytest.approx(expected) == pytest.approx(chi_square(second, first))
    assert chi_square(first, 7 * first) == pytest.approx(0)
    assert chi_square(torch.tensor([1, 0]), torch.tensor([0, 2])) == 1


def test_impossible_histograms():
    for wrong in ((torch.ones(2), torch.ones(3)), (torch.ones(2), torch.zeros(2)), (torch.ones(2), -torch.ones(2))):
        with pytest.raises(UserError, match="two histograms of the same bins that are not empty"):
            chi_square(*wrong)


def test_hog_tells_directions():
    assert hog_distance(stripes(True), stripes(False)) == pytest.approx(1, abs=1e-6)
    assert hog_distance(stripes(True), stripes(True, number=5, size=32)) == pytest.approx(0, abs=1e-6)
    between = torch.cat([stripes(True), stripes(False)])
    assert hog_distance(stripes(True), between) == pytest.approx(1 / 3, abs=1e-3)  # (1, 0) and (1/2, 1/2)


def slow_lbp_counts(image: torch.Tensor) -> list[int]:
    """Uniform patterns of 8 bilinearly interpolated points at distance 1, by definition; outside there is 0."""
    levels = (image * 255).round()
    padded = torch.nn.functional.pad(levels, (2, 2, 2, 2)).double()
    counts = [0] * 10
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            bits = []
            for point in range(8):
                angle = torch.tensor(2 * torch.pi * point / 8, dtype=torch.float64)
                y, x = -torch.sin(angle) + row + 2, torch.cos(angle) + column + 2
                y, x = torch.round(y, decimals=5), torch.round(x, decimals=5)
                top, left = int(y.floor()), int(x.floor())
                down, right = (y - top).item(), (x - left).item()
                square = padded[top : top + 2, left : left + 2]
                above = square[0, 0] * (1 - right) + square[0, 1] * right
                below = square[1, 0] * (1 - right) + square[1, 1] * right
                bits.append(int(above * (1 - down) + below * down >= padded[row + 2, column + 2]))
            changes = sum(bits[i] != bits[i - 1] for i in range(1, 8))
            changes += bits[0] != bits[-1]
            counts[sum(bits) if changes <= 2 else 9] += 1
    return counts


def test_lbp_counts_uniform_patterns():
    images, samples = noise(0, 1)[:, :, :8, :8], 0.3 * noise(1, 1)[:, :, :8, :8].round(decimals=1)
    counts = [torch.tensor(slow_lbp_counts(each[0, 0])) for each in (images, samples)]
    assert lbp_distance(images, samples) == pytest.approx(chi_square(*counts), abs=1e-12)
    assert chi_square(*counts) > 0.01


@pytest.mark.parametrize("radius", [1, 2])
def test_lbp_tells_textures(radius):
    same, other = lbp_distance(noise(0), noise(1), radius), lbp_distance(noise(0), stripes(True), radius)
    assert 0 < same < 0.01 < 0.15 < other < 1
    assert lbp_distance(stripes(True), stripes(True), radius) == 0


def test_the_radius_matters_and_every_channel_is_an_image():
    assert lbp_distance(noise(0), stripes(True), 1) != lbp_distance(noise(0), stripes(True), 2)
    colour = torch.cat([noise(0), noise(1), noise(2)], 1)
    grey = torch.cat([noise(0), noise(1), noise(2)])
    for distance in (hog_distance, lbp_distance):
        assert distance(colour, noise(3)) == pytest.approx(distance(grey, noise(3)), abs=1e-12)


def test_bad_images():
    for distance, name in ((hog_distance, "HOG"), (lbp_distance, "LBP")):
        with pytest.raises(UserError, match=f"{name}: images must lie in \\[0, 1\\], got"):
            distance(noise(0) * 2, noise(1))
        with pytest.raises(UserError, match=rf"{name} is for images, \(number, channels, height, width\); got shape"):
            distance(noise(0), noise(1)[0])
    with pytest.raises(UserError, match=r"HOG needs images of 16x16 pixels or more, got \(4, 1, 32, 8\)"):
        hog_distance(noise(0), noise(1)[..., :8])
    with pytest.raises(UserError, match="radius must be at least 1, got 0"):
        lbp_distance(noise(0), noise(1), 0)
    with pytest.raises(UserError, match="histograms of the same bins that are not empty"):
        hog_distance(noise(0), torch.zeros(1, 1, 16, 16))


def test_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    for distance in (hog_distance, lbp_distance):
        with pytest.raises(UserError, match=r"needs scikit-image, which is not installed: pip install .*\[builtin\]"):
            distance(noise(0), noise(1))
