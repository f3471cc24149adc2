"""Regularisers of autoencoder codes.

Sources: Goodfellow et al. 2016, Deep Learning, section 14.2.1 (L1), Ng 2011, CS294A lecture notes "Sparse autoencoder"
(KL), Rifai et al. 2011, "Contractive auto-encoders" (ICML).
"""

from __future__ import annotations

import torch
from torch import Tensor


def l1_sparsity(latents: Tensor) -> Tensor:
    """Mean over the batch of the code's L1 norm: (batch, latent_dim) -> scalar."""
    return latents.abs().sum(1).mean()


def kl_sparsity(latents: Tensor, target: float) -> Tensor:
    """sum_j KL(Bernoulli(target) || Bernoulli(rho_j)), rho_j the batch mean of unit j's activation.

    Args:
        latents: (batch, latent_dim) activations in (0, 1), e.g. sigmoids.
        target: rho of the lecture notes, the wished mean activation, in (0, 1).

    Returns:
        Scalar, nats.
    """
    # A saturated unit has a float32 mean of exactly 0 or 1 and would give an infinite loss.
    mean = latents.float().mean(0).clamp(1e-6, 1 - 1e-6)
    return (target * torch.log(target / mean) + (1 - target) * torch.log((1 - target) / (1 - mean))).sum()


def contractive_penalty(latents: Tensor, sample: Tensor) -> Tensor:
    """Mean over the batch of ||dz/dx||_F^2, exact, one backward pass a latent dimension (Rifai et al. 2011).

    Args:
        latents: (batch, latent_dim), each row a function of the same row of `sample` only.
        sample: (batch, ...) that requires grad.

    Returns:
        Scalar that can be differentiated again.
    """
    penalty = latents.new_zeros(())
    for unit in latents.float().unbind(1):
        (gradient,) = torch.autograd.grad(unit.sum(), sample, create_graph=True)
        penalty = penalty + gradient.square().sum()
    return penalty / len(sample)
