"""What a step of a GAN costs in the training loop and hand-written in plain PyTorch.

    python benchmarks/bench_gan.py [--rounds 9] [--steps 10] [--threads 2]

DCGAN    3x32x32, width 64, batch 64, non-saturating loss: the discriminator first and fresh fakes for either network,
         or with shared fakes (`--share_fakes`), the generator first and the discriminator on the same fakes.
WGAN-GP  the same networks with layer norm in the critic, which is updated five times a step.

Rounds of what is compared alternate in one process; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from bench_loop import BATCH, NUM_IMAGES, load, quiet, write_images
from PIL import Image
from torch import Tensor

from hf_genmodels import DCGANDiscriminator, DCGANGenerator
from hf_genmodels.data import LoadedData
from hf_genmodels.objectives.gan import GANArguments, GANObjective
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.entry import make_accelerator
from hf_genmodels.training.loop import TrainingLoop

LATENT, RATE, BETAS, CRITIC_UPDATES = 100, 2e-4, (0.5, 0.999), 5
WGAN_GP = {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp", "critic_updates": CRITIC_UPDATES}

Run = Callable[[int], None]


def library_loop(folder: Path, data: LoadedData, threads: int, **options: object) -> Run:
    """Our loop, ready to train some steps."""
    args = TrainingArguments(
        output_dir=str(folder / "out"),
        train_batch_size=BATCH,
        max_train_steps=10**9,
        learning_rate=RATE,
        adam_beta1=BETAS[0],
        checkpointing_steps=0,
        num_threads=threads,
        mixed_precision="no",
    )
    accelerator = make_accelerator(args)
    torch.manual_seed(0)
    objective = GANObjective.from_args(GANArguments(**options), data.spec)
    loop = TrainingLoop(objective, data, args, accelerator)
    loop.prepare(None)
    return lambda steps: loop.train_until(loop.step + steps)


class Plain:
    """Networks, optimisers and shuffled batches from memory, without any library."""

    def __init__(self, pixels: Tensor, norm: str) -> None:
        torch.manual_seed(0)
        self.generator = DCGANGenerator(LATENT, 3, 32)
        self.discriminator = DCGANDiscriminator(3, 32, norm=norm)
        self.optimizers = [
            torch.optim.AdamW(network.parameters(), lr=RATE, betas=BETAS, weight_decay=0.0)
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

    def train(steps: int) -> None:
        for _ in range(steps):
            fake = plain.fakes()
            plain.train_generator(fake)
            plain.train_discriminator(fake.detach())

    return train


def fresh_fakes(pixels: Tensor) -> Run:
    """DCGAN, the discriminator first and fresh fakes for either."""
    plain = Plain(pixels, "batch")

    def train(steps: int) -> None:
        for _ in range(steps):
            with torch.no_grad():
                fake = plain.fakes()
            plain.train_discriminator(fake)
            plain.train_generator(plain.fakes())

    return train


def wgan_gp(pixels: Tensor) -> Run:
    """WGAN-GP."""
    plain = Plain(pixels, "layer")

    def train(steps: int) -> None:
        for _ in range(steps):
            for _ in range(CRITIC_UPDATES):
                plain.train_critic()
            plain.train_generator(plain.fakes(), wasserstein=True)

    return train


def compare(loops: dict[str, Run], pairs: list[tuple[str, str]], rounds: int, steps: int) -> None:
    """Time the loops in turn; print medians and the ratios of the pairs."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    with quiet():
        for run in loops.values():
            run(3)
        for index in range(rounds):
            for name in list(loops)[:: -1 if index % 2 else 1]:
                start = time.perf_counter()
                loops[name](steps)
                seconds[name].append((time.perf_counter() - start) / steps)
    for name, values in seconds.items():
        print(f"{name}: {1000 * statistics.median(values):.1f} ms a step")
    for ours, theirs in pairs:
        ratios = [a / b for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
        spread = f"from {min(ratios):.3f} to {max(ratios):.3f}"
        print(f"{ours} / {theirs} = {statistics.median(ratios):.3f} ({spread})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10, help="steps of one round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder)
        data = load(folder)
        pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in sorted(folder.glob("*.png"))])
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
        dcgan = {
            "library": library_loop(folder, data, args.threads),
            "library, shared fakes": library_loop(folder, data, args.threads, share_fakes=True),
            "plain": fresh_fakes(pixels),
            "plain, shared fakes": shared_fakes(pixels),
        }
        pairs = [
            ("library", "plain"),
            ("library, shared fakes", "plain, shared fakes"),
            ("library, shared fakes", "plain"),
        ]
        print("DCGAN")
        compare(dcgan, pairs, args.rounds, args.steps)
        critics = {"library": library_loop(folder, data, args.threads, **WGAN_GP), "plain": wgan_gp(pixels)}
        print("WGAN-GP")
        compare(critics, [("library", "plain")], args.rounds, max(1, args.steps // 5))


if __name__ == "__main__":
    main()
