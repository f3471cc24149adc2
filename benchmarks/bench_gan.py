"""What a step of a GAN costs in the training loop and hand-written in plain PyTorch.

    python benchmarks/bench_gan.py [--rounds 60] [--threads 2]

DCGAN    3x32x32, width 64, batch 64, non-saturating loss: the discriminator first and fresh fakes for either network,
         or with shared fakes (`--share_fakes`), the generator first and the discriminator on the same fakes.
WGAN-GP  the same networks with layer norm in the critic, which is updated five times a step.

What is compared alternates step by step in one process; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from bench_loop import BATCH, NUM_IMAGES, load, write_images
from PIL import Image
from timing import interleave, make_loop, report, report_log_cost
from torch import Tensor

from hf_genmodels import DCGANDiscriminator, DCGANGenerator
from hf_genmodels.data import LoadedData
from hf_genmodels.families.gan import GANArguments
from hf_genmodels.training.loop import TrainingLoop

LATENT, RATE, BETAS, CRITIC_UPDATES = 100, 2e-4, (0.5, 0.999), 5
WGAN_GP = {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp", "critic_updates": CRITIC_UPDATES}

Run = Callable[[], None]


def library_loop(folder: Path, data: LoadedData, threads: int, **options: object) -> TrainingLoop:
    """Our loop, ready to train some steps."""
    return make_loop(
        "gan", GANArguments(**options), data, folder, threads, BATCH, learning_rate=RATE, adam_beta1=BETAS[0]
    )


class Plain:
    """Networks, optimisers and shuffled batches from memory, without any library."""

    def __init__(self, pixels: Tensor, norm: str) -> None:
        torch.manual_seed(0)
        self.generator = DCGANGenerator(LATENT, 3, 32)
        self.discriminator = DCGANDiscriminator(3, 32, norm=norm)
        self.optimizers = [
            torch.optim.AdamW(network.parameters(), lr=RATE, betas=BETAS, weight_decay=0.0, fused=True)
            for network in (self.generator, self.discriminator)
        ]
        self.batches = self.shuffled(pixels)

    def shuffled(self, pixels: Tensor) -> Iterator[Tensor]:
        """Batches for ever."""
        while True:
            for rows in torch.randperm(NUM_IMAGES).split(BATCH):
                yield pixels[rows].float() / 255 * 2 - 1

    def fakes(self) -> Tensor:
        """Generated images."""
        fake: Tensor = self.generator(torch.randn(BATCH, LATENT)).sample
        return fake

    def update(self, index: int, loss: Tensor) -> None:
        """One step of the generator's (0) or the discriminator's (1) optimiser."""
        self.optimizers[index].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[index].step()

    def train_generator(self, fake: Tensor, wasserstein: bool = False) -> None:
        """The generator's update, with the discriminator's weights frozen, as the loop has them."""
        self.discriminator.requires_grad_(False)
        logits = self.discriminator(fake).logits
        self.update(0, -logits.mean() if wasserstein else F.softplus(-logits).mean())
        self.discriminator.requires_grad_(True)

    def train_discriminator(self, fake: Tensor) -> None:
        """The discriminator's update on fakes without gradient."""
        real_logits = self.discriminator(next(self.batches)).logits
        fake_logits = self.discriminator(fake).logits
        self.update(1, F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean())

    def train_critic(self) -> None:
        """WGAN-GP's critic update."""
        real = next(self.batches)
        with torch.no_grad():
            fake = self.fakes()
        loss = self.discriminator(fake).logits.mean() - self.discriminator(real).logits.mean()
        weight = torch.rand(BATCH, 1, 1, 1)
        between = (weight * real + (1 - weight) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(between).logits.sum(), between, create_graph=True)
        self.update(1, loss + 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean())


def shared_fakes(pixels: Tensor) -> Run:
    """DCGAN, the generator first."""
    plain = Plain(pixels, "batch")

    def train() -> None:
        fake = plain.fakes()
        plain.train_generator(fake)
        plain.train_discriminator(fake.detach())

    return train


def fresh_fakes(pixels: Tensor) -> Run:
    """DCGAN, the discriminator first and fresh fakes for either."""
    plain = Plain(pixels, "batch")

    def train() -> None:
        with torch.no_grad():
            fake = plain.fakes()
        plain.train_discriminator(fake)
        plain.train_generator(plain.fakes())

    return train


def wgan_gp(pixels: Tensor) -> Run:
    """WGAN-GP."""
    plain = Plain(pixels, "layer")

    def train() -> None:
        for _ in range(CRITIC_UPDATES):
            plain.train_critic()
        plain.train_generator(plain.fakes(), wasserstein=True)

    return train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="steps of each (WGAN-GP: a fifth of it)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder)
        data = load(folder)
        pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in sorted(folder.glob("*.png"))])
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
        ours = library_loop(folder, data, args.threads)
        runs = {
            "library": ours.training_step,
            "library, shared fakes": library_loop(folder, data, args.threads, share_fakes=True).training_step,
            "plain": fresh_fakes(pixels),
            "plain, shared fakes": shared_fakes(pixels),
        }
        pairs = [
            ("library", "plain"),
            ("library, shared fakes", "plain, shared fakes"),
            ("library, shared fakes", "plain"),
        ]
        print("DCGAN")
        seconds = interleave(runs, args.rounds)
        report(seconds, pairs)
        report_log_cost(ours, seconds["library"])
        critics = {
            "library": library_loop(folder, data, args.threads, **WGAN_GP).training_step,
            "plain": wgan_gp(pixels),
        }
        print("WGAN-GP")
        report(interleave(critics, max(7, args.rounds // 5)), [("library", "plain")])


if __name__ == "__main__":
    main()
