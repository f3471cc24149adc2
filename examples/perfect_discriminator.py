"""Why do generators stop learning? A perfect discriminator of disjoint supports, and what helps.

    python examples/perfect_discriminator.py --output_dir runs/lectures

Data lie on the segment {0} x [0, 1] of the plane, fakes on {theta} x [0, 1]; theta, here 1, is all that the generator
could learn (Arjovsky et al. 2017, arXiv 1701.07875, example 1). It stands still while discriminators are trained on
it. The panels of `perfect_discriminator.png`:

1. The discriminator's loss and its error rate go to 0: the supports are disjoint, so there is a perfect discriminator
   (Arjovsky & Bottou 2017, arXiv 1701.04862, theorem 2.1). With instance noise on both there is none.
2. |dL_G / d theta|, on a logarithmic scale. As the discriminator becomes perfect, the gradient of log(1 - D) vanishes
   (theorem 2.4, figure 2 there); that of -log D does not, and grows instead (figure 3). Under instance noise, and
   under WGAN-GP's critic, whose gradient is that of W1 = |theta|, it settles.
3. What is minimised, as a function of theta: JS is log 2 wherever the supports are disjoint, and has no gradient; the
   JS of noisy data and fakes and W1 lead to 0.

As in the course.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.distributions import Normal

from hf_genmodels import MLPDiscriminator
from hf_genmodels.losses.gan import accuracy, discriminator_loss, generator_loss
from hf_genmodels.losses.penalties import gradient_penalty, interpolate
from hf_genmodels.plots import PALETTE, Panel, sheet

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--output_dir", type=Path, default=Path("runs/lectures"))
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--seed", type=int, default=0)
BATCH_SIZE, THETA, NOISE_STD = 256, 1.0, 0.5
# The discriminator's loss and the noise it is trained with -> losses of the generator whose gradients are shown.
RUNS = {
    ("minimax", 0.0): {"log(1 - D)": "minimax", "-log D": "non_saturating"},
    ("minimax", NOISE_STD): {"log(1 - D), noise": "minimax"},
    ("wasserstein", 0.0): {"WGAN-GP": "wasserstein"},
}

Point = tuple[float, float]
Curves = dict[str, list[Point]]


def segment(x: Tensor, noise_std: float) -> Tensor:
    """Points of {x} x [0, 1], (batch, 2), differentiable by x; with noise if there is some."""
    height = torch.rand(BATCH_SIZE)
    return torch.stack([x.expand(BATCH_SIZE), height], dim=1) + noise_std * torch.randn(BATCH_SIZE, 2)


def training(loss: str, noise_std: float, steps: int) -> Iterator[tuple[MLPDiscriminator, float, float]]:
    """Train a discriminator on data and on a generator that stands still; it, its loss and its errors step by step.

    Args:
        loss: A name of `losses.gan`; "wasserstein" with WGAN-GP's penalty.
        noise_std: Of the instance noise.
        steps: Of Adam.
    """
    discriminator = MLPDiscriminator(2, hidden_dims=(64, 64))
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    for _ in range(steps):
        real, fake = segment(torch.tensor(0.0), noise_std), segment(torch.tensor(THETA), noise_std)
        on_real, on_fake = discriminator(real).logits, discriminator(fake).logits
        value = discriminator_loss(loss, on_real, on_fake)
        total = value
        if loss == "wasserstein":
            between = interpolate(real, fake, torch.rand(BATCH_SIZE))
            total = value + gradient_penalty(discriminator(between).logits, between)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        yield discriminator, value.item(), 1 - accuracy(loss, on_real, on_fake).item()


def slope(loss: str, noise_std: float, discriminator: MLPDiscriminator) -> float:
    """|dL_G / d theta| of a loss of the generator's."""
    theta = torch.tensor(THETA, requires_grad=True)
    (gradient,) = torch.autograd.grad(generator_loss(loss, discriminator(segment(theta, noise_std)).logits), theta)
    return abs(gradient.item())


def noisy_js(theta: Tensor) -> Tensor:
    """JS of N(0, NOISE_STD^2) and N(theta, NOISE_STD^2): of the noisy segments, which differ in x alone."""
    x = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    log_p, log_q = (
        Normal(0, NOISE_STD).log_prob(x).expand(len(theta), -1),
        Normal(theta[:, None], NOISE_STD).log_prob(x),
    )
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    pointwise = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return pointwise.sum(1) * (x[1] - x[0]) / 2


def landscapes() -> Curves:
    """What is minimised, at many theta."""
    thetas = torch.linspace(-2, 2, 401, dtype=torch.float64)
    apart = math.log(2) * (thetas.abs() > 1e-9)
    found = {"JS": apart, "JS, noise": noisy_js(thetas), "W1": thetas.abs()}
    return {name: list(zip(thetas.tolist(), values.tolist(), strict=True)) for name, values in found.items()}


def drawn(title: str, curves: Curves, x_range: Point, y_range: Point, x_label: str) -> Image.Image:
    """A panel of curves."""
    panel = Panel(title, x_range, y_range, x_label, width=460)
    for (name, points), color in zip(curves.items(), PALETTE, strict=False):
        panel.curve(torch.tensor(points), color, name)
    return panel.finished()


def main() -> None:
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    judged: Curves = {name: [] for name in ("loss", "errors", "loss, noise", "errors, noise")}
    slopes: Curves = {name: [] for generators in RUNS.values() for name in generators}
    for (loss, noise_std), generators in RUNS.items():
        noisy = ", noise" if noise_std else ""
        for step, (discriminator, value, errors) in enumerate(training(loss, noise_std, args.steps), start=1):
            if loss == "minimax":
                judged[f"loss{noisy}"].append((step, value))
                judged[f"errors{noisy}"].append((step, errors))
            for name, kind in generators.items():
                slopes[name].append((step, math.log10(max(slope(kind, noise_std, discriminator), 1e-30))))
    for name, points in judged.items():
        print(f"discriminator's {name}: {points[0][1]:.3g} at first, {points[-1][1]:.3g} after {args.steps} steps")
    for name, points in slopes.items():
        print(f"|dL_G / d theta| of {name}: {10 ** points[0][1]:.2g} at first, {10 ** points[-1][1]:.2g} in the end")
    panels = [
        drawn("the discriminator", judged, (0, args.steps), (0, 1.5), "step of the discriminator"),
        drawn("log10 |dL_G / d theta|", slopes, (0, args.steps), (-5, 1.5), "step of the discriminator"),
        drawn("what is minimised", landscapes(), (-2, 2), (0, 2), "theta"),
    ]
    args.output_dir.mkdir(parents=True, exist_ok=True)
    sheet(panels, columns=3).save(args.output_dir / "perfect_discriminator.png")
    print(args.output_dir / "perfect_discriminator.png")


if __name__ == "__main__":
    main()
