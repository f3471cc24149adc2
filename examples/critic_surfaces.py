"""What does a penalty do to a critic? Surfaces of critics of eight Gaussians, with and without one.

    python examples/critic_surfaces.py --output_dir runs/lectures

Each panel is d(x) over the plane, in bands of one width in all panels, blue below 0 (fake), orange above (real); a
Wasserstein critic, whose differences alone mean something, less its mean. All have learnt for the same number of steps
from the same data (black dots, `builtin:toy2d`'s ring of eight) and the same fakes (pink dots), which do not move:

- Without a penalty d is steep everywhere, and the steeper the longer it is trained: tens between its least and its
  greatest value, where the others have about 1 to 3.
- R1 holds the slope at the data down: a low hill under each mode, on whose top the data are.
- WGAN-GP makes slopes of about 1 between fakes and data: a landscape that leads from any fake to data.
- Spectral normalisation bounds the slope everywhere, by the product of the layers' bounds, and in fact far lower: a
  critic of so few steps and so narrow layers hardly tells the modes apart.

Gulrajani et al. 2017 (arXiv 1704.00028, figure 1 and eq. 3), Mescheder et al. 2018 (arXiv 1801.04406, eq. 9), Miyato
et al. 2018 (arXiv 1802.05957, eq. 8), Roth et al. 2017 (arXiv 1705.09367), as in the course. The picture is
`critic_surfaces.png`.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hf_genmodels import DataArguments, MLPDiscriminator, load_data
from hf_genmodels.blocks.adversarial import spectral_normalise
from hf_genmodels.data import TrainingBatches
from hf_genmodels.losses.gan import accuracy, discriminator_loss
from hf_genmodels.losses.penalties import gradient_of_logits, gradient_penalty, interpolate, r1_penalty
from hf_genmodels.plots import PALETTE, Panel, sheet

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--output_dir", type=Path, default=Path("runs/lectures"))
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--seed", type=int, default=0)
BATCH_SIZE, FAKES_STD, REACH, BAND = 128, 1.5, 3.0, 0.25

Penalty = Callable[[MLPDiscriminator, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Critic:
    """A loss of `losses.gan`, and what keeps the critic smooth."""

    loss: str
    penalty: Penalty | None = None
    spectral: bool = False


def r1(critic: MLPDiscriminator, real: Tensor, fake: Tensor) -> Tensor:
    """R1 of weight 1."""
    real = real.requires_grad_()
    return r1_penalty(critic(real).logits, real, gamma=1.0)


def wgan_gp(critic: MLPDiscriminator, real: Tensor, fake: Tensor) -> Tensor:
    """WGAN-GP's penalty with the paper's weight."""
    between = interpolate(real, fake, torch.rand(len(real)))
    return gradient_penalty(critic(between).logits, between)


CRITICS = {
    "no penalty": Critic("non_saturating"),
    "R1": Critic("non_saturating", r1),
    "WGAN-GP": Critic("wasserstein", wgan_gp),
    "spectral normalisation": Critic("hinge", spectral=True),
}


def fakes(count: int) -> Tensor:
    """What a generator that knows the data's centre alone would make."""
    return FAKES_STD * torch.randn(count, 2)


def trained(about: Critic, batches: TrainingBatches, steps: int) -> MLPDiscriminator:
    """A critic after so many steps on the data and on the fakes."""
    critic = MLPDiscriminator(2, hidden_dims=(64, 64))
    if about.spectral:
        spectral_normalise(critic)
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.999))
    for _ in range(steps):
        real, fake = next(batches)["image"], fakes(BATCH_SIZE)
        loss = discriminator_loss(about.loss, critic(real).logits, critic(fake).logits)
        if about.penalty is not None:
            loss = loss + about.penalty(critic, real, fake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return critic.eval()


def steepness(critic: MLPDiscriminator, sample: Tensor) -> float:
    """Mean of ||grad d(x)|| over samples."""
    sample = sample.detach().requires_grad_()
    return gradient_of_logits(critic(sample).logits, sample).norm(dim=1).mean().item()


def draw(name: str, about: Critic, batches: TrainingBatches, steps: int) -> Panel:
    """One panel; prints the critic's range, slopes and accuracy."""
    critic = trained(about, batches, steps)
    real, fake = next(batches)["image"], fakes(BATCH_SIZE)
    ticks = torch.linspace(-REACH, REACH, 120)
    x, y = torch.meshgrid(ticks, ticks.flip(0), indexing="xy")  # the largest y is the first row
    with torch.no_grad():
        surface = critic(torch.stack([x, y], dim=2).flatten(0, 1)).logits.reshape(x.shape)
        on_real, on_fake = critic(real).logits, critic(fake).logits
    right = accuracy(about.loss, on_real, on_fake)
    middle = (on_real.mean() + on_fake.mean()) / 2 if about.loss == "wasserstein" else 0
    slopes = {"at data": real, "at fakes": fake, "between": interpolate(real, fake, torch.rand(len(real)))}
    told = ", ".join(f"{steepness(critic, sample):.2g} {where}" for where, sample in slopes.items())
    extent = f"d from {surface.min():.3g} to {surface.max():.3g}"
    print(f"{name}: {extent}; slope {told}; accuracy {right:.2f}")
    panel = Panel(f"{name}: {extent}", (-REACH, REACH), (-REACH, REACH), width=400, height=420)
    panel.bands(surface - middle, BAND)
    panel.dots(real, PALETTE[9])
    panel.dots(fake, PALETTE[3])
    return panel


def main() -> None:
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data = load_data(DataArguments(dataset_name="builtin:toy2d"), args.seed)
    batches = TrainingBatches(data.train, batch_size=BATCH_SIZE, seed=args.seed).start(0)  # without end
    panels = [draw(name, about, batches, args.steps).finished() for name, about in CRITICS.items()]
    args.output_dir.mkdir(parents=True, exist_ok=True)
    sheet(panels, columns=2).save(args.output_dir / "critic_surfaces.png")
    print(args.output_dir / "critic_surfaces.png")


if __name__ == "__main__":
    main()
