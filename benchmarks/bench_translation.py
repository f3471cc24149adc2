"""What a step of CycleGAN and Pix2Pix costs in the training loop, hand-written, and in the authors' implementation.

    python benchmarks/bench_translation.py [--official_dir FOLDER] [--rounds 40] [--threads 2] [--cases cyclegan]

cyclegan  3x64x64, two ResNets of 9 blocks, width 32, instance norm, discriminators of 70 pixels, batch 1, pool of 50,
          no identity loss.
identity  the same with an identity loss of weight 5.
pix2pix   3x64x64, U-Net of 6 levels, width 32, batch norm, dropout, discriminator of 70 pixels, batch 1.

`--official_dir` is a checkout of junyanz/pytorch-CycleGAN-and-pix2pix, whose models run on the same batches. What is
compared alternates step by step in one process; a ratio is the median of the rounds' ratios. float32.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timing import interleave, make_loop, report, report_log_cost
from torch import Tensor

from hf_genmodels import PatchDiscriminator, ResNetTranslator, UNetTranslator
from hf_genmodels.data import DataArguments, Layout, load_data
from hf_genmodels.families.cyclegan import CycleGANArguments
from hf_genmodels.families.pix2pix import Pix2PixArguments

SIZE, WIDTH, BLOCKS, DOWNS, RATE, BETAS, POOL, IDENTITY = 64, 32, 9, 6, 2e-4, (0.5, 0.999), 50, 5.0
# RGB on both sides
DATA = {"dataset_name": "builtin:edges", "conditioning_image_column": "image", "max_train_samples": 200}
CYCLEGAN = {"width": WIDTH, "discriminator_width": WIDTH, "num_blocks": BLOCKS, "pool_size": POOL}
PIX2PIX = {"width": WIDTH, "discriminator_width": WIDTH, "num_downs": DOWNS}

Run = Callable[[], None]


def adam(*networks: torch.nn.Module) -> torch.optim.Optimizer:
    """One optimiser for all, as one writes it."""
    return torch.optim.Adam(
        [p for network in networks for p in network.parameters()], lr=RATE, betas=BETAS, fused=True
    )


def images(first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of single images for ever."""
    while True:
        for row in torch.randperm(len(first)):
            yield first[row : row + 1], second[row : row + 1]


class Pool:
    """The authors' store of fakes."""

    def __init__(self) -> None:
        self.stored: list[Tensor] = []

    def exchange(self, fake: Tensor) -> Tensor:
        """One in, one out."""
        if len(self.stored) < POOL:
            self.stored.append(fake)
            return fake
        if random.random() < 0.5:
            return fake
        slot = random.randrange(POOL)
        old, self.stored[slot] = self.stored[slot], fake
        return old


def cyclegan_by_hand(batches: Iterator[tuple[Tensor, Tensor]], identity_weight: float = 0.0) -> Run:
    """A step of CycleGAN; what goes through one network goes as one batch, which instance norm allows."""
    to_b, to_a = (ResNetTranslator(3, 3, SIZE, WIDTH, BLOCKS) for _ in range(2))
    judges = [PatchDiscriminator(3, WIDTH, norm="instance") for _ in range(2)]
    translators, discriminators = adam(to_b, to_a), adam(*judges)
    pools = [Pool(), Pool()]

    def train() -> None:
        a, b = next(batches)
        for judge in judges:
            judge.requires_grad_(False)
        if identity_weight:
            fake_b, same_b = to_b(torch.cat([a, b])).sample.chunk(2)
            fake_a, cycle_a, same_a = to_a(torch.cat([b, fake_b, a])).sample.chunk(3)
        else:
            fake_b = to_b(a).sample
            fake_a, cycle_a = to_a(torch.cat([b, fake_b])).sample.chunk(2)
        loss = sum(
            (judge(fake).logits - 1).square().mean() for judge, fake in zip(judges, (fake_a, fake_b), strict=True)
        )
        loss = loss + 10 * (F.l1_loss(cycle_a, a) + F.l1_loss(to_b(fake_a).sample, b))
        if identity_weight:
            loss = loss + identity_weight * (F.l1_loss(same_a, a) + F.l1_loss(same_b, b))
        translators.zero_grad()
        loss.backward()
        translators.step()
        discriminators.zero_grad()
        for judge, pool, real, fake in zip(judges, pools, (a, b), (fake_a, fake_b), strict=True):
            judge.requires_grad_(True)
            on_real, on_fake = judge(torch.cat([real, pool.exchange(fake.detach())])).logits.chunk(2)
            (0.5 * ((on_real - 1).square().mean() + on_fake.square().mean())).backward()
        discriminators.step()

    return train


def pix2pix_by_hand(batches: Iterator[tuple[Tensor, Tensor]]) -> Run:
    """A step of Pix2Pix, the translator first, as in the library."""
    translator = UNetTranslator(3, 3, SIZE, WIDTH, DOWNS)
    judge = PatchDiscriminator(6, WIDTH)
    first, second = adam(translator), adam(judge)

    def train() -> None:
        x, y = next(batches)
        judge.requires_grad_(False)
        fake = translator(x).sample
        loss = F.softplus(-judge(torch.cat([x, fake], 1)).logits).mean() + 100 * F.l1_loss(fake, y)
        first.zero_grad()
        loss.backward()
        first.step()
        judge.requires_grad_(True)
        on_real, on_fake = judge(torch.cat([x, y], 1)).logits, judge(torch.cat([x, fake.detach()], 1)).logits
        second.zero_grad()
        (0.5 * (F.softplus(-on_real).mean() + F.softplus(on_fake).mean())).backward()
        second.step()

    return train


def official(folder: Path, batches: Iterator[tuple[Tensor, Tensor]], name: str, identity_weight: float = 0.0) -> Run:
    """A step of the authors' model with the same networks and losses."""
    sys.path.insert(0, str(folder))
    from models import create_model

    options: dict[str, Any] = {
        "isTrain": True, "device": torch.device("cpu"), "checkpoints_dir": tempfile.gettempdir(), "name": "bench",
        "preprocess": "none", "input_nc": 3, "output_nc": 3, "ngf": WIDTH, "ndf": WIDTH, "netD": "basic",
        "n_layers_D": 3, "init_type": "normal", "init_gain": 0.02, "lr": RATE, "beta1": BETAS[0], "direction": "AtoB",
        "pool_size": POOL, "model": name, "gpu_ids": [],
    }  # fmt: skip
    if name == "cycle_gan":
        options |= {"netG": "resnet_9blocks", "norm": "instance", "no_dropout": True, "gan_mode": "lsgan"}
        options |= {"lambda_A": 10.0, "lambda_B": 10.0, "lambda_identity": identity_weight / 10}
    else:
        options |= {"netG": "unet_64", "norm": "batch", "no_dropout": False, "gan_mode": "vanilla", "lambda_L1": 100.0}
        offer_six_levels()
    model = create_model(Namespace(**options))

    def train() -> None:
        a, b = next(batches)
        model.set_input({"A": a, "B": b, "A_paths": [], "B_paths": []})
        model.optimize_parameters()

    return train


def offer_six_levels() -> None:
    """The authors' U-Net has 7 or 8 levels by name, too many for 64 pixels; their class takes any number from 5."""
    from models import networks

    def define(inputs: int, outputs: int, width: int, name: str, norm: str, dropout: bool, *init: Any) -> Any:
        network = networks.UnetGenerator(
            inputs, outputs, DOWNS, width, norm_layer=networks.get_norm_layer(norm), use_dropout=dropout
        )
        return networks.init_net(network, *init)

    networks.define_G = define


SAME = {"identity_weight": IDENTITY}
CASES: dict[str, tuple[str, Any, str, Callable[..., Run], str, dict[str, float]]] = {
    "cyclegan": ("cyclegan", CycleGANArguments(**CYCLEGAN), "domains", cyclegan_by_hand, "cycle_gan", {}),
    "identity": ("cyclegan", CycleGANArguments(**CYCLEGAN, **SAME), "domains", cyclegan_by_hand, "cycle_gan", SAME),
    "pix2pix": ("pix2pix", Pix2PixArguments(**PIX2PIX), "pair", pix2pix_by_hand, "pix2pix", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official_dir", type=Path, help="checkout of junyanz/pytorch-CycleGAN-and-pix2pix")
    parser.add_argument("--rounds", type=int, default=40, help="steps of each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.official_dir is not None:
        command = ["git", "-C", str(args.official_dir), "rev-parse", "HEAD"]
        print(f"official: {subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()}")
    with tempfile.TemporaryDirectory() as name:
        for title in args.cases:
            family, family_args, kind, by_hand, official_name, more = CASES[title]
            data = load_data(DataArguments(**DATA), 0, Layout(kind))
            loop = make_loop(
                family, family_args, data, Path(name), args.threads, 1, learning_rate=RATE, adam_beta1=BETAS[0]
            )
            sides = [
                torch.from_numpy(side.pixels).float() / 127.5 - 1 for side in (data.train.first, data.train.second)
            ]
            runs = {"library": loop.training_step, "by hand": by_hand(images(*sides), **more)}
            if args.official_dir is not None:
                runs["official"] = official(args.official_dir, images(*sides), official_name, **more)
            print(title)
            seconds = interleave(runs, args.rounds)
            report(seconds, [("library", other) for other in runs if other != "library"])
            report_log_cost(loop, seconds["library"])


if __name__ == "__main__":
    main()
