"""Differences between images and their reconstructions, one number for each image."""

from __future__ import annotations

from importlib.util import find_spec
from urllib.error import URLError

from torch import Tensor

from ..errors import UserError

_SMALLEST_SSIM = 6  # the 11 x 11 window is reflected at the border by 5 pixels


def _check(images: Tensor, reconstructions: Tensor, metric: str, image_only: bool = True) -> None:
    if images.shape != reconstructions.shape:
        raise UserError(
            f"{metric}: images have shape {tuple(images.shape)}, reconstructions {tuple(reconstructions.shape)}"
        )
    if image_only and images.ndim != 4:
        raise UserError(f"{metric} is for images, (batch, channels, height, width); got shape {tuple(images.shape)}")


def require_torchmetrics(metric: str) -> None:
    """Raise a `UserError` that says how to install torchmetrics where it is missing."""
    if find_spec("torchmetrics") is None:
        raise UserError(f"{metric} needs torchmetrics, which is not installed: pip install hf_genmodels[metrics]")


def require_lpips() -> None:
    """Raise a `UserError` where LPIPS cannot run: torchmetrics takes its networks from torchvision."""
    require_torchmetrics("LPIPS")
    if find_spec("torchvision") is None:
        raise UserError("LPIPS needs torchvision, which is not installed: pip install torchvision, or leave lpips out")


def mse(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Mean squared error over the pixels (or entries) of each example.

    Args:
        images: (batch, channels, height, width) or (batch, dim).
        reconstructions: The same shape.

    Returns:
        (batch,), float64, in squared units of the data.

    Raises:
        UserError: Shapes that differ.
    """
    _check(images, reconstructions, "MSE", image_only=False)
    return (images.double() - reconstructions.double()).square().flatten(1).mean(dim=1)


def psnr(images: Tensor, reconstructions: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio of each image, 10 log10(data_range^2 / MSE).

    Args:
        images: (batch, channels, height, width).
        reconstructions: The same shape.
        data_range: Largest minus smallest value a pixel can have.

    Returns:
        (batch,), float64, in decibels; infinite where the two are equal.

    Raises:
        UserError: Shapes that differ or are no images, or torchmetrics is not installed.
    """
    _check(images, reconstructions, "PSNR")
    require_torchmetrics("PSNR")
    from torchmetrics.functional.image import peak_signal_noise_ratio

    ratio: Tensor = peak_signal_noise_ratio(
        reconstructions.double(), images.double(), data_range=data_range, reduction="none", dim=(1, 2, 3)
    )
    return ratio


def ssim(images: Tensor, reconstructions: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Structural similarity of each image, mean over pixels and channels (Wang et al. 2004).

    Gaussian window of 11 x 11 pixels, sigma 1.5, k1 = 0.01, k2 = 0.03; torchmetrics' version, which averages over the
    whole image with reflected borders where the paper keeps only full windows.

    Args:
        images: (batch, channels, height, width), at least 6 x 6 pixels.
        reconstructions: The same shape.
        data_range: Largest minus smallest value a pixel can have.

    Returns:
        (batch,), float64, in [-1, 1].

    Raises:
        UserError: Shapes that differ, are no images or too small, or torchmetrics is not installed.
    """
    _check(images, reconstructions, "SSIM")
    if min(images.shape[2:]) < _SMALLEST_SSIM:
        raise UserError(
            f"SSIM needs images of {_SMALLEST_SSIM}x{_SMALLEST_SSIM} pixels or more, got {tuple(images.shape)}"
        )
    require_torchmetrics("SSIM")
    from torchmetrics.functional.image import structural_similarity_index_measure

    similarity = structural_similarity_index_measure(
        reconstructions.double(), images.double(), data_range=data_range, reduction="none"
    )
    assert isinstance(similarity, Tensor)
    return similarity


def lpips(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Learned perceptual distance of each image, AlexNet features (Zhang et al. 2018, arXiv 1801.03924).

    Args:
        images: (batch, 1 or 3, height, width) in [0, 1]; one channel is repeated to three.
        reconstructions: The same shape, clamped to [0, 1].

    Returns:
        (batch,), at least 0.

    Raises:
        UserError: Shapes that differ or are no grey or colour images, torchvision is not installed, or its weights
            cannot be had.
    """
    _check(images, reconstructions, "LPIPS")
    if images.shape[1] not in (1, 3):
        raise UserError(f"LPIPS takes images of 1 or 3 channels, got {images.shape[1]}")
    require_lpips()
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

    first, second = (batch.float().clamp(0, 1).expand(-1, 3, -1, -1) for batch in (images, reconstructions))
    try:
        distance = learned_perceptual_image_patch_similarity(
            first, second, net_type="alex", normalize=True, reduction="none"
        )
    except URLError as error:
        raise UserError(f"LPIPS: torchvision's AlexNet weights could not be downloaded ({error.reason})") from error
    return distance.flatten()
