"""Consensus optimisation: two players who also make the field of their gradients short (Mescheder et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def consensus_loss(
    players: Sequence[tuple[Tensor, Sequence[Tensor]]],
    gamma: float,
    mean_of_all: Callable[[Tensor], Tensor] = Tensor.detach,
) -> tuple[Tensor, Tensor]:
    """One loss for all players' parameters, by whose gradient each minimises its own loss + gamma L.

    L = ||v||^2 / 2, with v the gradients of each player's loss by its own parameters (Mescheder et al. 2017, arXiv
    1705.10461, section 4 and algorithm 2), which all players' parameters change. The mean of the L of several batches
    is larger than the L of them together: where processes share a batch, `mean_of_all` finds its v, and the mean of
    the gradients that they find is that of one process.

    Args:
        players: (loss, parameters) of each; the losses may depend on all parameters.
        gamma: Weight of L.
        mean_of_all: The mean over all processes of what one of them has found, without gradients.

    Returns:
        The scalar to minimise, whose value is the sum of the losses and gamma L, and gamma L.
    """
    own = [
        (parameter, gradient)
        for loss, parameters in players
        for parameter, gradient in zip(
            parameters,
            torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True),
            strict=True,
        )
    ]
    # mean of v^T (dv / dparameters) with the v of all: the gradient of L
    means = [mean_of_all(gradient) for _, gradient in own]
    product = torch.stack([(mean * g).sum() for mean, (_, g) in zip(means, own, strict=True)]).sum()
    regulariser = gamma / 2 * torch.stack([mean.square().sum() for mean in means]).sum()
    # linear in the parameters: its gradient is v, while a sum of the losses would have each player mind the others'
    field = torch.stack([(gradient.detach() * parameter).sum() for parameter, gradient in own]).sum()
    value = torch.stack([loss.detach() for loss, _ in players]).sum() + regulariser
    surrogate = field + gamma * product
    return surrogate - surrogate.detach() + value, regulariser
