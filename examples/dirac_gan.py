"""Which GANs converge? The Dirac-GAN: paths of (theta, psi) under the library's losses, each beside its vector field.

    python examples/dirac_gan.py --output_dir runs/lectures

The data are a point at 0, the generator is a point at theta, the discriminator is d(x) = psi x. Gradient
descent on the plain losses does not find the equilibrium, theta = psi = 0, of even that:

- The plain GAN circles around it; simultaneous steps spiral outwards. The non-saturating GAN comes nearer, but slowly.
- Clipped weights keep psi in an interval, and the point goes round inside it.
- WGAN-GP wants |psi| = 1, which the equilibrium has not.
- Instance noise, R1, R2 and consensus optimisation lead into it.

Mescheder, Geiger & Nowozin 2018 (arXiv 1801.04406), definition 2.1, section 3 and figure 3, as in the course; instance
noise of Sonderby et al. 2017 (arXiv 1610.04490), consensus optimisation of Mescheder et al. 2017 (arXiv 1705.10461,
eq. 10). The picture is `dirac_gan.png`; an arrow says where gradient flow goes, the blue line is the path of gradient
descent from the black dot, alternating unless the title says otherwise.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hf_genmodels.losses.consensus import consensus_loss
from hf_genmodels.losses.gan import discriminator_loss, generator_loss
from hf_genmodels.losses.penalties import gradient_penalty, interpolate, r1_penalty, r2_penalty
from hf_genmodels.plots import PALETTE, Panel, sheet

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--output_dir", type=Path, default=Path("runs/lectures"))
parser.add_argument("--steps", type=int, default=500)

RATE, START, REACH = 0.1, (1.0, 1.0), 2.0
# Quantiles of a standard normal distribution: instance noise without chance.
NORMAL = torch.special.ndtri((torch.arange(25) + 0.5) / 25)


@dataclass(frozen=True)
class Method:
    """A loss of `losses.gan`, and what is done so that it converges."""

    loss: str
    simultaneous: bool = False
    penalty: str = "none"
    weight: float = 1.0
    clip: float | None = None
    noise_std: float = 0.0
    consensus: float = 0.0


# With a weight of WGAN-GP of 1 the path sticks near psi = 0.
PANELS = {
    "GAN, simultaneous steps": Method("minimax", simultaneous=True),
    "GAN, alternating steps": Method("minimax"),
    "non-saturating GAN": Method("non_saturating"),
    "WGAN, weights clipped": Method("wasserstein", clip=0.5),
    "WGAN-GP": Method("wasserstein", penalty="wgan_gp", weight=0.25),
    "GAN, instance noise": Method("minimax", noise_std=1.0),
    "GAN, R1": Method("minimax", penalty="r1"),
    "GAN, R2": Method("minimax", penalty="r2"),
    "consensus, simultaneous steps": Method("minimax", simultaneous=True, consensus=1.0),
}


def descent(method: Method, theta: Tensor, psi: Tensor) -> Tensor:
    """The direction of steepest descent of both players, (number, 2), at many (theta, psi), (number,) each."""
    theta, psi = (each.detach().requires_grad_() for each in (theta, psi))
    noise = (method.noise_std * NORMAL[:, None]).expand(-1, len(theta))
    real, fake, slope = (each.reshape(-1, 1) for each in (noise + 0 * theta, noise + theta, psi.expand(25, -1)))
    on_real, on_fake = (slope * real)[:, 0], (slope * fake)[:, 0]
    # each loss is a mean over the Dirac-GANs that are computed side by side, here to be a sum
    loss_d = len(theta) * (discriminator_loss(method.loss, on_real, on_fake) + penalty(method, slope, real, fake))
    loss_g = len(theta) * generator_loss(method.loss, on_fake)
    loss, _ = consensus_loss([(loss_g, [theta]), (loss_d, [psi])], method.consensus)
    return -torch.stack(torch.autograd.grad(loss, (theta, psi)), dim=1)


def penalty(method: Method, slope: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """The library's penalty on the gradient of d(x) = slope x."""
    if method.penalty == "wgan_gp":
        between = interpolate(real, fake, torch.full((len(real),), 0.5))
        return gradient_penalty((slope * between)[:, 0], between, method.weight)
    if method.penalty == "none":
        return torch.zeros(())
    at = (real if method.penalty == "r1" else fake).detach().requires_grad_()
    return (r1_penalty if method.penalty == "r1" else r2_penalty)((slope * at)[:, 0], at, method.weight)


def path(method: Method, steps: int) -> Tensor:
    """(theta, psi) after every step of gradient descent, (steps + 1, 2)."""
    point = torch.tensor([START])
    points = [point]
    for _ in range(steps):
        step = RATE * descent(method, point[:, 0], point[:, 1])
        moved = point + step * torch.tensor([1.0 if method.simultaneous else 0.0, 1.0])  # the discriminator is first
        if method.clip is not None:
            moved[:, 1].clamp_(-method.clip, method.clip)
        if not method.simultaneous:
            moved[:, 0] += RATE * descent(method, moved[:, 0], moved[:, 1])[:, 0]
        point = moved
        points.append(point)
    return torch.cat(points)


def draw(name: str, method: Method, steps: int) -> Panel:
    """One panel; prints how far from the equilibrium its path begins and ends."""
    panel = Panel(name, (-REACH, REACH), (-REACH, REACH), x_label="theta (psi upwards)", height=340)
    ticks = torch.linspace(-REACH, REACH, 13)
    places = torch.cartesian_prod(ticks, ticks)
    if method.clip is not None:
        places = places[places[:, 1].abs() <= method.clip]
    panel.arrows(places, descent(method, *places.T), length=0.24)
    points = path(method, steps)
    panel.curve(points, PALETTE[0], width=1.5)
    panel.dots(torch.tensor([START]), PALETTE[9], radius=4)
    panel.dots(torch.zeros(1, 2), PALETTE[1], radius=4)
    print(f"{name}: ||(theta, psi)|| from {points[0].norm():.2f} to {points[-1].norm():.2g} in {steps} steps")
    return panel


def main() -> None:
    args = parser.parse_args()
    panels = [draw(name, method, args.steps).finished() for name, method in PANELS.items()]
    args.output_dir.mkdir(parents=True, exist_ok=True)
    sheet(panels, columns=3).save(args.output_dir / "dirac_gan.png")
    print(args.output_dir / "dirac_gan.png")


if __name__ == "__main__":
    main()
