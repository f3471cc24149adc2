"""Total correlation KL(q(z) || prod_j q(z_j)) of the aggregate posterior q(z), the mean of q(z|x) over the data.

Sources: Chen et al. 2018 (beta-TC-VAE, arXiv 1802.04942): log q(z) estimated from a batch, which is biased. Kim & Mnih
2018 (FactorVAE, arXiv 1802.05983): a discriminator that tells codes from codes whose dimensions were permuted.

Of a KL term, the mean over the data of KL(q(z|x) || p(z)), the total correlation is one of three parts, beside the
mutual information of z and x and the KL of each dimension (eq. 2 of Chen et al.).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import UserError
from .likelihood import LOG_2PI


def batch_total_correlation(
    kind: str,
    latents: Tensor,
    mean: Tensor,
    log_std: Tensor,
    num_examples: int,
    first_row: int = 0,
) -> Tensor:
    """Estimate log q(z) - sum_j log q(z_j) of each draw from the posteriors of a batch.

    Args:
        kind: See `log_weights`.
        latents: (rows, latent_dim), draws from the posteriors of the rows `first_row` and the following ones.
        mean: (batch, latent_dim), mu of the whole batch.
        log_std: (batch, latent_dim), log sigma of the whole batch.
        num_examples: N, of the data.
        first_row: Place of the first draw's own posterior in the batch.

    Returns:
        (rows,) nats, float32; the mean estimates the total correlation.

    Raises:
        UserError: See `log_weights`.
    """
    latents, mean, log_std = latents.float(), mean.float(), log_std.float()
    weights = log_weights(kind, len(latents), len(mean), num_examples, first_row, latents.device)
    standardised = (latents[:, None] - mean) * torch.exp(-log_std)
    densities = -(0.5 * standardised.square() + log_std + 0.5 * LOG_2PI)  # (rows, batch, latent_dim)
    joint = torch.logsumexp(densities.sum(2) + weights, dim=1)
    marginals = torch.logsumexp(densities + weights[:, :, None], dim=1)
    return joint - marginals.sum(1)


def log_weights(
    kind: str, rows: int, batch: int, num_examples: int, first_row: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Logs of the weights w by which q(z) is estimated as a sum of w q(z|x) over a batch.

    minibatch_weighted    1 / (N batch) each (Chen et al., eq. 5): its mean is below q(z), and N adds a constant only
    minibatch_stratified  1/N for the posterior that z was drawn from, 1/M for the M = batch - 1 others, of which the
                          next one has (N - M) / (N M) instead (appendix C.2, eq. S6): its mean is q(z)

    Args:
        kind: "minibatch_weighted" or "minibatch_stratified".
        rows: Draws.
        batch: Posteriors.
        num_examples: N.
        first_row: Place of the first draw's own posterior in the batch.
        device: Where they are made.

    Returns:
        (rows, batch), float32.

    Raises:
        UserError: There is one posterior only, or more than there are examples.
    """
    if not 1 < batch <= num_examples:
        raise UserError(
            f"the total correlation is estimated from batches of at least 2 and at most all {num_examples} examples, "
            f"got {batch}; choose another --train_batch_size"
        )
    if kind == "minibatch_weighted":
        return torch.full((rows, batch), -math.log(num_examples * batch), device=device)
    others = batch - 1
    own = torch.arange(first_row, first_row + rows, device=device)
    weights = torch.full((rows, batch), -math.log(others), device=device)
    weights.scatter_(1, own[:, None], -math.log(num_examples))
    following = math.log((num_examples - others) / (num_examples * others))
    return weights.scatter_(1, ((own + 1) % batch)[:, None], following)


def permuted_dimensions(latents: Tensor, uniform: Tensor) -> Tensor:
    """Codes in which each dimension was permuted over the batch by itself (Kim & Mnih, algorithm 1).

    Args:
        latents: (batch, latent_dim), draws from q(z).
        uniform: (batch, latent_dim) random numbers, whose order says where each entry goes.

    Returns:
        (batch, latent_dim), draws from the product of the q(z_j) for a large batch.

    Raises:
        UserError: There is one code only, of which nothing can be permuted.
    """
    if len(latents) < 2:
        raise UserError(
            f"codes are permuted over batches of at least 2 examples, got {len(latents)}; choose a larger "
            "--train_batch_size"
        )
    return latents.gather(0, uniform.argsort(0))
