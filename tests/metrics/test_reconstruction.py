from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
import torch

from hf_genmodels.errors import UserError
from hf_genmodels.metrics import reconstruction
from tests.testing_utils.refusals import refused


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, 13, 12, generator=generator)
    noise = torch.randn(3, 2, 13, 12, generator=generator) * torch.tensor([0.02, 0.1, 0.3])[:, None, None, None]
    return images, (images + noise).clamp(0, 1)


def test_mse_and_psnr_of_each_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, decoded = pair
    for data_range in (1.0, 2.0):
        psnr = reconstruction.psnr(images, decoded, data_range=data_range)
        for index, (x, y) in enumerate(zip(images.double().numpy(), decoded.double().numpy(), strict=True)):
            error = np.mean((x - y) ** 2)
            assert reconstruction.mse(images, decoded)[index].item() == pytest.approx(error, rel=1e-12)
            assert psnr[index].item() == pytest.approx(10 * math.log10(data_range**2 / error), rel=1e-6)


def test_equal_images(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, _ = pair
    assert reconstruction.mse(images, images).tolist() == [0, 0, 0]
    assert reconstruction.psnr(images, images).tolist() == [math.inf] * 3
    assert reconstruction.ssim(images, images).tolist() == pytest.approx([1, 1, 1])


def slow_ssim(x: np.ndarray, y: np.ndarray, data_range: float) -> float:
    """Wang et al. 2004, eq. 13, window by window, over (channels, height, width)."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for a, b in zip(x, y, strict=True):
        a, b = np.pad(a, 5, mode="reflect"), np.pad(b, 5, mode="reflect")
        for row in range(a.shape[0] - 10):
            for column in range(a.shape[1] - 10):
                p, q = a[row : row + 11, column : column + 11], b[row : row + 11, column : column + 11]
                mean_p, mean_q = (window * p).sum(), (window * q).sum()
                var_p, var_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
                covariance = (window * (p - mean_p) * (q - mean_q)).sum()
                luminance = (2 * mean_p * mean_q + c1) / (mean_p**2 + mean_q**2 + c1)
                values.append(luminance * (2 * covariance + c2) / (var_p + var_q + c2))
    return float(np.mean(values))


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim_of_each_image(pair: tuple[torch.Tensor, torch.Tensor], data_range: float) -> None:
    images, decoded = pair
    found = reconstruction.ssim(images, decoded, data_range=data_range)
    pairs = zip(images.double().numpy(), decoded.double().numpy(), strict=True)
    assert found.tolist() == pytest.approx([slow_ssim(x, y, data_range) for x, y in pairs], rel=1e-6)


def test_ssim_of_one_small_image() -> None:
    images = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = reconstruction.ssim(images, 1 - images)
    assert found.shape == (1,)
    assert found.item() == pytest.approx(slow_ssim(images[0].double().numpy(), 1 - images[0].double().numpy(), 1.0))


def test_vectors_have_an_mse_and_no_psnr() -> None:
    x = torch.zeros(4, 2)
    assert reconstruction.mse(x, x + 2).tolist() == [4] * 4
    for metric in (reconstruction.psnr, reconstruction.ssim):
        with pytest.raises(UserError, match="is for images"):
            metric(x, x)


def test_shapes_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(UserError, match="MSE: images have shape"):
        reconstruction.mse(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 9, 9))
    with pytest.raises(UserError, match="6x6 pixels"):
        reconstruction.ssim(torch.zeros(2, 1, 5, 5), torch.zeros(2, 1, 5, 5))
    with pytest.raises(UserError, match="1 or 3 channels, got 4"):
        reconstruction.lpips(torch.zeros(2, 4, 64, 64), torch.zeros(2, 4, 64, 64))


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_lpips_without_torchvision_is_one_line() -> None:
    with refused("LPIPS needs torchvision, which is not installed"):
        reconstruction.lpips(torch.zeros(2, 1, 64, 64), torch.zeros(2, 1, 64, 64))
