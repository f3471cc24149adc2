"""Paths, grids and truncation in a Gaussian latent space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_genmodels.errors import UserError


def check_dense(name: str, tensor: Tensor) -> None:
    """Refuse tensors without numbers in memory, and with numbers of another kind than real ones.

    Args:
        name: What the user calls it.
        tensor: Any shape.

    Raises:
        UserError: It is sparse, on the meta device, quantized, or complex.
    """
    if tensor.is_meta:
        raise UserError(f"{name}: a tensor on the meta device holds no numbers; give one that does")
    if tensor.layout != torch.strided or tensor.is_nested:
        kind = "a nested tensor" if tensor.is_nested else f"layout {tensor.layout}"
        raise UserError(f"{name} must be a dense tensor, got {kind}")
    if tensor.is_complex() or tensor.is_quantized:
        raise UserError(f"{name} must hold real numbers, got {tensor.dtype}")


def as_latents(name: str, latents: Any, what: str = "latents") -> Tensor:
    """A tensor, an array or lists of numbers -> a tensor.

    Args:
        name: What the user calls them.
        latents: Any shape.
        what: What they are, for the message.

    Raises:
        UserError: They hold no numbers, or some that are not finite, or differ in length.
    """
    if isinstance(latents, np.ndarray):
        latents = np.ascontiguousarray(latents)  # torch takes no flipped views
    try:
        tensor = torch.as_tensor(latents)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        kind = type(latents).__name__
        raise UserError(f"{name}: {what} must be a tensor or an array of numbers, got {kind}") from None
    check_dense(name, tensor)
    if tensor.dtype == torch.bool:
        raise UserError(f"{name}: {what} must be numbers, got True and False")
    if not tensor.isfinite().all():
        raise UserError(
            f"{name}: there are numbers that are not finite; where the pipeline encoded them itself, its weights or "
            "the images hold such"
        )
    return tensor


def interpolate_latents(start: Tensor, end: Tensor, num_steps: int, mode: str) -> Tensor:
    """Points from `start` to `end`, both included.

    Args:
        start: (latent_dim,).
        end: (latent_dim,).
        num_steps: At least 2.
        mode: "linear", or "spherical" (White 2016, arXiv 1609.04468): the direction turns evenly and the length
            changes linearly, so that the points stay where a high-dimensional Gaussian has its mass. Opposite or zero
            vectors, which fix no turning plane, are joined linearly.

    Returns:
        (num_steps, latent_dim).

    Raises:
        UserError: `mode` is unknown or `num_steps` below 2.
    """
    if mode not in ("linear", "spherical"):
        raise UserError(f"mode must be 'linear' or 'spherical', got {mode!r}")
    if num_steps < 2:
        raise UserError(f"num_steps must be at least 2, got {num_steps}")
    t = torch.linspace(0, 1, num_steps, device=start.device, dtype=start.dtype)[:, None]
    linear = (1 - t) * start + t * end
    if mode == "linear":
        return linear
    length_start, length_end = start.norm(), end.norm()
    angle = torch.arccos((torch.dot(start, end) / (length_start * length_end)).clamp(-1, 1))
    if not torch.sin(angle) >= 1e-4:  # NaN where a length is zero
        return linear
    direction = (
        torch.sin((1 - t) * angle) * start / length_start + torch.sin(t * angle) * end / length_end
    ) / torch.sin(angle)
    return direction * ((1 - t) * length_start + t * length_end)


def percentile_grid(num_rows: int, dimensions: tuple[int, int], latent_dim: int, codes: Tensor | None) -> Tensor:
    """Latents of which two dimensions lie on a grid of evenly spaced quantiles (Kingma & Welling 2013, appendix A).

    Args:
        num_rows: Quantiles (k + 1/2) / num_rows of each of the two dimensions.
        dimensions: The one that grows to the right, and the one that grows upwards.
        latent_dim: How many there are.
        codes: (examples, latent_dim), whose quantiles they are; the other dimensions are at their medians. None for
            those of N(0, 1), with the other dimensions at 0.

    Returns:
        (num_rows^2, latent_dim), float64 on the CPU, rows listed from the top.
    """
    quantiles = (torch.arange(num_rows, dtype=torch.float64) + 0.5) / num_rows
    if codes is None:
        middle, values = torch.zeros(latent_dim, dtype=torch.float64), torch.special.ndtri(quantiles).expand(2, -1)
    else:
        codes = codes.double().cpu()
        middle, values = codes.quantile(0.5, dim=0), codes[:, list(dimensions)].quantile(quantiles, dim=0).T
    rows, columns = torch.meshgrid(values[1].flip(0), values[0], indexing="ij")
    grid = middle.repeat(num_rows**2, 1)
    grid[:, dimensions[0]], grid[:, dimensions[1]] = columns.flatten(), rows.flatten()
    return grid


def truncate_normal(latents: Tensor, threshold: float) -> Tensor:
    """Standard normal numbers -> numbers from the normal that is truncated to [-threshold, threshold].

    The truncation trick of BigGAN (Brock et al. 2019, arXiv 1809.11096) draws a coordinate again until it lies inside.
    Here each is carried over by the distributions' quantiles: the law is the same, no draws are spent, and the same
    latents at two thresholds lie in the same direction of each axis.

    Args:
        latents: Any shape.
        threshold: tau, above 0.

    Returns:
        Same shape.
    """
    inside = math.erf(threshold / math.sqrt(2))
    truncated = math.sqrt(2) * torch.erfinv(torch.erf(latents.float() / math.sqrt(2)) * inside)
    return truncated.clamp(-threshold, threshold).to(latents.dtype)
