"""The picture of the Dirac-GAN (Mescheder et al. 2018, arXiv 1801.04406): which losses circle, which arrive.

    python benchmarks/reference_dirac_gan.py --output model_cards/reference/dirac_gan.png

The data are a point at 0, the generator is a point at theta, the discriminator d(x) = psi x. Each panel shows the path
of (theta, psi) under gradient descent; the equilibrium is the origin.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from hf_genmodels.losses.gan import discriminator_loss, generator_loss
from hf_genmodels.losses.penalties import r1_penalty
from hf_genmodels.plots import scatter, stack_pictures

RATE, STEPS, START = 0.1, 500, 1.0
PANELS = {
    "minimax, alternating: circles": ("minimax", False, 0.0),
    "minimax, simultaneous: spirals outwards": ("minimax", True, 0.0),
    "minimax with R1, alternating: arrives": ("minimax", False, 1.0),
}


def path(kind: str, simultaneous: bool, gamma: float) -> Tensor:
    """(theta, psi) after every step, (STEPS + 1, 2)."""
    theta, psi = (torch.tensor([START], requires_grad=True) for _ in range(2))
    points = [(START, START)]
    for _ in range(STEPS):
        (of_psi,) = torch.autograd.grad(slope_loss(kind, theta, psi, gamma), psi)
        if not simultaneous:
            with torch.no_grad():
                psi -= RATE * of_psi
        (of_theta,) = torch.autograd.grad(generator_loss(kind, psi * theta), theta)
        with torch.no_grad():
            theta -= RATE * of_theta
            if simultaneous:
                psi -= RATE * of_psi
        points.append((theta.item(), psi.item()))
    return torch.tensor(points)


def slope_loss(kind: str, theta: Tensor, psi: Tensor, gamma: float) -> Tensor:
    """The discriminator's loss, with R1 where gamma is not 0."""
    real = torch.zeros(1, 1, requires_grad=True)
    logits = (psi * real).squeeze(1)
    loss = discriminator_loss(kind, logits, psi * theta.detach())
    return loss + r1_penalty(logits, real, gamma) if gamma else loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    paths = {name: path(*settings) for name, settings in PANELS.items()}
    for name, points in paths.items():
        print(f"{name}: ||(theta, psi)|| from {points[0].norm():.2f} to {points[-1].norm():.2g}")
    stack_pictures({name: scatter(points) for name, points in paths.items()}).save(args.output)


if __name__ == "__main__":
    main()
