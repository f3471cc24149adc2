"""Priors over latents, as functions of random numbers (adversarial autoencoder, Makhzani et al. 2015, 1511.05644)."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from ..choices import LatentPrior
from ..errors import UserError

# of the mixture's components: distance of the mean from the origin, standard deviations along the ray and across it
RADIUS = 4.0
RADIAL_STD = 1.0
TANGENTIAL_STD = 0.25


def check_prior(kind: str, latent_dim: int, num_components: int, prefix: str = "") -> None:
    """Refuse a prior that does not exist.

    Args:
        kind: "gaussian" or "mixture".
        latent_dim: Dimension of the latents.
        num_components: Of the mixture.
        prefix: What messages put before the names above: "--" where they are options.

    Raises:
        UserError: `kind` is unknown, there are no components, or a mixture is asked for in one dimension.
    """
    if kind not in get_args(LatentPrior):
        raise UserError(f"{prefix}prior {kind!r} is unknown; choose one of: {', '.join(get_args(LatentPrior))}")
    if num_components < 1:
        raise UserError(f"{prefix}num_components must be at least 1, got {num_components}")
    if kind == "mixture" and latent_dim < 2:
        raise UserError(f"{prefix}prior {kind!r} needs a {prefix}latent_dim of at least 2, got {latent_dim}")


def sample_prior(kind: str, normal: Tensor, uniform: Tensor, num_components: int) -> Tensor:
    """Turn random numbers into draws from a prior.

    "gaussian" is N(0, I). "mixture" is a ring of `num_components` Gaussians of equal weight in the first two
    dimensions, like the paper's mixture of ten 2-D Gaussians, for which it gives no numbers: component k has mean
    4 (cos, sin)(2 pi k / num_components) and standard deviations 1 along its ray and 0.25 across, so that ten of them
    hardly touch. Further dimensions are N(0, 1).

    Args:
        kind: "gaussian" or "mixture".
        normal: (batch, latent_dim) standard normal numbers; of a mixture at least 2 dimensions.
        uniform: (batch,) numbers in [0, 1], which choose the components; a Gaussian does not read them.
        num_components: K.

    Returns:
        (batch, latent_dim), with the type of `normal`.
    """
    if kind == "gaussian":
        return normal
    component = (uniform.float() * num_components).floor().clamp(max=num_components - 1)
    angle = 2 * torch.pi * component / num_components
    cos, sin = torch.cos(angle), torch.sin(angle)
    along, across = RADIUS + RADIAL_STD * normal[:, 0].float(), TANGENTIAL_STD * normal[:, 1].float()
    plane = torch.stack([along * cos - across * sin, along * sin + across * cos], dim=1)
    return torch.cat([plane.to(normal.dtype), normal[:, 2:]], dim=1)
