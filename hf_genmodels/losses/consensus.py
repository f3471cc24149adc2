"""Consensus optimisation: two players who also make the field of their gradients short (Mescheder et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def consensus_loss(players: Sequence[tuple[Tensor, Sequence[Tensor]]], gamma: float) -> tuple[Tensor, Tensor]:
    """One loss for all players' parameters, by whose gradient each minimises its own loss + gamma L.

    L = ||v||^2 / 2, with v the gradients of each player's loss by its own parameters (Mescheder et al. 2017, arXiv
    1705.10461, section 3 and algorithm 2), which all players' parameters change. It is that of the samples given: the
    mean of the L of several batches is larger than the L of them together.

    Args:
        players: (loss, parameters) of each; the losses may depend on all parameters.
        gamma: Weight of L.

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
    regulariser = gamma / 2 * torch.stack([gradient.square().sum() for _, gradient in own]).sum()
    # linear in the parameters: its gradient is v, while a sum of the losses would have each player mind the others'
    field = torch.stack([(gradient.detach() * parameter).sum() for parameter, gradient in own]).sum()
    value = torch.stack([loss.detach() for loss, _ in players]).sum()
    return field - field.detach() + value + regulariser, regulariser.detach()
