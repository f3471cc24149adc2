"""Log-likelihoods of decoders, divergences of latents, and bounds built from them: nats per sample, in float32.

Sources: Kingma & Welling 2013 (arXiv 1312.6114), Kingma et al. 2016 (free bits, arXiv 1606.04934), Burda et al. 2015
(importance-weighted bound, arXiv 1509.00519), Rybkin et al. 2021 (learned decoder variance, arXiv 2006.13202).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def sum_per_sample(values: Tensor) -> Tensor:
    """Sum over everything but the batch: (batch, ...) -> (batch,)."""
    return values.flatten(1).sum(1)


def gaussian_nll(sample: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """-log N(sample; mean, exp(log_std)^2 I).

    Args:
        sample: (batch, ...) data, any unit.
        mean: Same shape.
        log_std: Broadcasts against `sample`.

    Returns:
        (batch,) nats.
    """
    sample, mean, log_std = sample.float(), mean.float(), log_std.float()
    return sum_per_sample(0.5 * ((sample - mean) * torch.exp(-log_std)).square() + log_std + 0.5 * LOG_2PI)


def bernoulli_nll(sample: Tensor, logits: Tensor) -> Tensor:
    """Binary cross-entropy; a grey value in [-1, 1] stands for the probability (sample + 1) / 2 of a one.

    For grey values this is a cross-entropy, not a density: its minimum over `logits` is their entropy, not zero.

    Args:
        sample: (batch, ...) in [-1, 1].
        logits: Same shape.

    Returns:
        (batch,) nats.
    """
    target = (sample.float() + 1) / 2
    return sum_per_sample(F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none"))


def categorical_nll(sample: Tensor, logits: Tensor) -> Tensor:
    """Cross-entropy over the grey levels of each pixel and channel.

    Args:
        sample: (batch, channels, height, width) in [-1, 1], on the grid of the levels.
        logits: (batch, levels, channels, height, width).

    Returns:
        (batch,) nats.
    """
    num_levels = logits.shape[1]
    target = ((sample.float() + 1) / 2 * (num_levels - 1)).round().long()
    return sum_per_sample(F.cross_entropy(logits.float(), target, reduction="none"))


def kl_standard_normal(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_std)^2) || N(0, I)) of each latent dimension (Kingma & Welling, appendix B).

    Args:
        mean: (batch, latent_dim), mu in the paper.
        log_std: (batch, latent_dim), log sigma.

    Returns:
        (batch, latent_dim) nats.
    """
    mean, log_std = mean.float(), log_std.float()
    return 0.5 * (mean.square() + torch.exp(2 * log_std) - 1) - log_std


def kl_sampled(latents: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Estimate of the KL of each latent dimension from a draw z of q(z|x): log q(z|x) - log p(z).

    Its mean over draws is `kl_standard_normal` (Kingma & Welling, estimator A of eq. 6; the closed form is that of
    eq. 7). A single draw may be negative, and its variance is 1/2 (1 - sigma^2)^2 + sigma^2 mu^2.

    Args:
        latents: (batch, latent_dim), z; gradients of a reparametrised draw go through it.
        mean: (batch, latent_dim), mu.
        log_std: (batch, latent_dim), log sigma.

    Returns:
        (batch, latent_dim) nats.
    """
    latents, mean, log_std = latents.float(), mean.float(), log_std.float()
    return 0.5 * (latents.square() - ((latents - mean) * torch.exp(-log_std)).square()) - log_std


def free_bits(kl: Tensor, minimum: float) -> Tensor:
    """Batch-averaged KL, no dimension pushed below `minimum` (Kingma et al. 2016, eq. 15, a group a dimension).

    Args:
        kl: (batch, latent_dim) nats.
        minimum: lambda, nats a dimension.

    Returns:
        Scalar: the sum over dimensions.
    """
    return kl.mean(0).clamp(min=minimum).sum()


def standard_normal_log_density(latents: Tensor) -> Tensor:
    """Log-density of N(0, I): (batch, latent_dim) -> (batch,) nats."""
    return -sum_per_sample(0.5 * latents.float().square() + 0.5 * LOG_2PI)


def importance_weighted_log_likelihood(log_weights: Tensor) -> Tensor:
    """The bound log (1/K) sum_k w_k, a lower bound of log p(x) that tightens with K (Burda et al. 2015, eq. 8).

    Args:
        log_weights: (K, batch) of log p(x|z_k) + log p(z_k) - log q(z_k|x).

    Returns:
        (batch,) nats.
    """
    return torch.logsumexp(log_weights, 0) - math.log(log_weights.shape[0])
