"""The search in a generator's latents that inversion and inverse problems share: gradient descent by Adam."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# latents (rows, dim) -> what is to be small of each, (rows,); rows know nothing of each other
Energy = Callable[[Tensor], Tensor]


def search_latents(
    energy: Energy,
    starts: Tensor,
    learning_rates: Iterable[float],
    in_ball: bool = False,
    after_step: Callable[[int, Tensor], bool] | None = None,
) -> Tensor:
    """Where Adam comes to from each start.

    With `in_ball` every step ends in the ball of radius sqrt(dim), where a Gaussian has its mass (Plumerault et al.
    2020, arXiv 2001.10238, algorithm 1). What differs: on the sphere Adam sees no gradient that leads out of the ball,
    because it would turn it, and settle elsewhere than at the minimum.

    Args:
        energy: Of latents as `starts`; only their gradient is taken, none of any weight.
        starts: (rows, dim) float32.
        learning_rates: One for each step.
        in_ball: See above.
        after_step: Called with the step's number and the latents, which it may change in place; True ends the search.

    Returns:
        (rows, dim).
    """
    latents = starts.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([latents])
    if in_ball:
        with torch.no_grad():
            _into_ball(latents)
    for step, rate in enumerate(learning_rates):
        optimizer.param_groups[0]["lr"] = rate
        with torch.enable_grad():
            # not backward(), which would leave gradients on the weights
            (gradient,) = torch.autograd.grad(energy(latents).sum(), latents)
        latents.grad = _without_way_out(gradient, latents.detach()) if in_ball else gradient
        with torch.no_grad():
            optimizer.step()
            if in_ball:
                _into_ball(latents)
            if after_step is not None and after_step(step, latents):
                break
    return latents.detach()


def best_of_restarts(energy: Energy, latents: Tensor, num_restarts: int) -> Tensor:
    """Of each group of `num_restarts` rows the one of the least energy, (rows / num_restarts, dim)."""
    with torch.no_grad():
        energies = energy(latents).nan_to_num(nan=torch.inf)  # argmin would prefer a restart that went astray
        best = energies.view(-1, num_restarts).argmin(1)
    return latents.view(-1, num_restarts, latents.shape[1])[torch.arange(len(best), device=best.device), best]


def cosine_rates(learning_rate: float, num_steps: int) -> list[float]:
    """A learning rate for each step, from the given one down to almost 0 along half a cosine."""
    return [learning_rate * (1 + math.cos(math.pi * step / num_steps)) / 2 for step in range(num_steps)]


def _without_way_out(gradient: Tensor, latents: Tensor) -> Tensor:
    """Gradient (batch, dim), less its radial part where descent would leave the ball of `_into_ball`."""
    radial = (gradient * latents).sum(1, keepdim=True) / latents.square().sum(1, keepdim=True)
    on_sphere = latents.norm(dim=1, keepdim=True) > 0.9999 * math.sqrt(latents.shape[1])
    return torch.where(on_sphere & (radial < 0), gradient - radial * latents, gradient)


def _into_ball(latents: Tensor) -> None:
    """Shorten latents (batch, dim) that are longer than sqrt(dim), in place."""
    norms = latents.norm(dim=1, keepdim=True)
    latents.mul_((math.sqrt(latents.shape[1]) / norms).clamp(max=1.0))
