"""Losses between the latents of fakes and what an encoder makes of the fakes (AVAE, Plumerault et al. 2020).

Sources: the ICPR paper (arXiv 2012.11551) and the thesis (chapter 3) for the negative log-likelihoods, the authors'
public code for the softmax-weighted one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .likelihood import sum_per_sample

LATENT_LOSSES = ("nll_a", "nll_b", "softmax")
CODE_BATCH_SIZE = 64  # of the authors' runs


def latent_loss(kind: str, latents: Tensor, means: Tensor, log_std: Tensor) -> Tensor:
    """How far the encoder's view mu(G(z, xi)) of the fakes is from the latents z they were made of.

    nll_a    L_Z^a = 1/2 ||(mu - z) / sigma||^2, mean over the batch
    nll_b    L_Z^b = 1/2 ||(mu - sqrt(1 - sigma^2) z) / sigma||^2, mean over the batch: its target has the distribution
             N(0, I - Sigma) that the encoder's means of the data have, so it shares an optimum with the adversarial
             loss. sigma is a free parameter and may exceed 1, where the root counts as 0.
    softmax  1/2 sum_j w_j (z_j - mu_j)^2 with w = softmax(-2 log sigma). The authors' code sums it over its batch of
             64; here it is 64 times the mean, so that the batch size does not change its weight.

    Args:
        kind: One of `LATENT_LOSSES`.
        latents: z, (batch, latent_dim), standard normal.
        means: mu(G(z, xi)), (batch, latent_dim).
        log_std: log sigma, (latent_dim,), or (batch, latent_dim) of an encoder that says it for each fake; carries no
            gradient here.

    Returns:
        Scalar, float32.
    """
    latents, means, log_std = latents.float(), means.float(), log_std.detach().float()
    if kind == "softmax":
        weights = torch.softmax(-2 * log_std, dim=-1)
        return 0.5 * CODE_BATCH_SIZE * sum_per_sample(weights * (latents - means).square()).mean()
    if kind == "nll_b":
        latents = (1 - torch.exp(2 * log_std)).clamp(min=0).sqrt() * latents
    return 0.5 * sum_per_sample(((means - latents) * torch.exp(-log_std)).square()).mean()
