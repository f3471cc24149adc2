"""Which divergence is minimised? One Gaussian fitted to a mixture of two by KL, reverse KL and JS; the best D of each.

    python examples/divergences.py --output_dir runs/lectures

The densities are known, so every integral is a sum over a grid. The panels of `divergences.png`:

1. The mixture p and three Gaussians q. KL(p || q), which maximum likelihood minimises, covers both modes, with mass
   between them where there are no data; KL(q || p) chooses one mode, since mass of q where p has none is dear; JS,
   which missing a mode makes no larger than log 2, covers both from this start.
2. The optimal discriminator D* = p / (p + q) of each of them, 1/2 where the densities are equal.
3. The three divergences of a narrow q on its way along the axis: KL has its minimum between the modes, reverse KL has
   one at each, where gradient descent from either side stays; JS never exceeds log 2, and is flat far away.

Goodfellow et al. 2014 (arXiv 1406.2661, proposition 1 and theorem 1): D* minimises the discriminator's loss, which is
then 2 log 2 - 2 JS(p, q); the script prints both sides, the loss by `losses.gan`. Goodfellow 2016 (arXiv 1701.00160,
figure 14) and Arjovsky & Bottou 2017 (arXiv 1701.04862, section 2) for KL and reverse KL, as in the course and in
C. Ruffino's thesis, figure 1.7.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Normal

from hf_genmodels.losses.gan import GAN_LOSSES
from hf_genmodels.plots import PALETTE, Panel, sheet

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--output_dir", type=Path, default=Path("runs/lectures"))
parser.add_argument("--steps", type=int, default=600)

REACH, CENTRES, SHARES, STD = 12.0, (-2.5, 2.5), (0.6, 0.4), 0.6
X = torch.linspace(-REACH, REACH, 2001, dtype=torch.float64)
STEP = (X[1] - X[0]).item()


def log_mixture() -> Tensor:
    """Log p on the grid."""
    parts = [Normal(centre, STD).log_prob(X) + math.log(share) for centre, share in zip(CENTRES, SHARES, strict=True)]
    return torch.logsumexp(torch.stack(parts), dim=0)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) = integral of p log(p / q); densities as logarithms (..., points of the grid)."""
    return (log_p.exp() * (log_p - log_q)).sum(-1) * STEP


def reverse_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(q || p)."""
    return kl(log_q, log_p)


def js(log_p: Tensor, log_q: Tensor) -> Tensor:
    """JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2, at most log 2."""
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (kl(log_p, log_m) + kl(log_q, log_m)) / 2


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "KL(p || q)": kl,
    "KL(q || p)": reverse_kl,
    "JS(p, q)": js,
}


def fitted(divergence: Callable[[Tensor, Tensor], Tensor], log_p: Tensor, steps: int) -> Normal:
    """The Gaussian that Adam finds, from a standard one moved to 1."""
    mean, log_std = (torch.tensor(start, dtype=torch.float64, requires_grad=True) for start in (1.0, 0.0))
    optimizer = torch.optim.Adam([mean, log_std], lr=0.02)
    for _ in range(steps):
        loss = divergence(log_p, Normal(mean, log_std.exp()).log_prob(X))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Normal(mean.detach(), log_std.detach().exp())


def discriminator_loss_of(logits: Tensor, log_p: Tensor, log_q: Tensor) -> float:
    """-E_p log D - E_q log(1 - D), the library's loss under densities instead of samples."""
    loss = GAN_LOSSES["minimax"]
    return ((log_p.exp() * loss.real(logits) + log_q.exp() * loss.fake(logits)).sum() * STEP).item()


def curve_of(values: Tensor, at: Tensor = X) -> Tensor:
    """Points of a function on the grid, (number, 2)."""
    return torch.stack([at, values], dim=1)


def main() -> None:
    args = parser.parse_args()
    log_p = log_mixture()
    densities = Panel("a Gaussian q for p", (-6, 6), (0, 0.7), "x", width=460)
    judges = Panel("D* = p / (p + q)", (-6, 6), (0, 1), "x", width=460)
    on_the_way = Panel("a narrow q along the axis", (-6, 6), (0, 16), "mean of q", width=460)
    densities.curve(curve_of(log_p.exp()), PALETTE[9], "p")
    means = X[::10]
    narrow = Normal(means[:, None], STD).log_prob(X)  # a row for each mean
    for (name, divergence), color in zip(DIVERGENCES.items(), PALETTE, strict=False):
        width = 5 if name == "KL(p || q)" else 2  # to be seen below JS
        q = fitted(divergence, log_p, args.steps)
        log_q = q.log_prob(X)
        logits = log_p - log_q  # of D*
        loss, bound = discriminator_loss_of(logits, log_p, log_q), 2 * math.log(2) - 2 * js(log_p, log_q)
        found = ", ".join(f"{other} {measure(log_p, log_q):.3f}" for other, measure in DIVERGENCES.items())
        print(
            f"least {name}: mean {q.mean:.2f}, std {q.stddev:.2f}; {found}; loss of D* {loss:.4f}, by JS {bound:.4f}"
        )
        densities.curve(curve_of(log_q.exp()), color, name, width)
        judges.curve(curve_of(torch.sigmoid(logits)), color, name, width)
        on_the_way.curve(curve_of(divergence(log_p, narrow), means), color, name, width)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    panels = [panel.finished() for panel in (densities, judges, on_the_way)]
    sheet(panels, columns=3).save(args.output_dir / "divergences.png")
    print(args.output_dir / "divergences.png")


if __name__ == "__main__":
    main()
