"""Networks, losses and families of a user's own: nothing here is in the library. `main` trains them all in `train`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from hf_genmodels import (
    DataArguments,
    DataSpec,
    GANLoss,
    GANObjective,
    GANPipeline,
    Noise,
    Objective,
    Phase,
    TrainingArguments,
    load_data,
    train,
)
from hf_genmodels.objectives.base import Batch, Gather

SWITCHED_ON_AT = 3
STEPS = 6


@dataclass
class MySample(BaseOutput):
    sample: Tensor


@dataclass
class MyVerdict(BaseOutput):
    logits: Tensor


class MyGenerator(ModelMixin, ConfigMixin):
    """Points from latents; `second` is left out until it is switched on."""

    @register_to_config
    def __init__(self, latent_dim: int = 3, out_channels: int = 2, sample_size: int | None = None) -> None:
        super().__init__()
        self.first = nn.Linear(latent_dim, 8)
        self.second = nn.Linear(8, 8)
        self.last = nn.Linear(8, out_channels)
        self.is_whole = True

    def forward(self, latents: Tensor) -> MySample:
        hidden = torch.tanh(self.first(latents))
        if self.is_whole:
            hidden = hidden + torch.tanh(self.second(hidden))
        return MySample(sample=self.last(hidden))


class MyDiscriminator(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, sample: Tensor) -> MyVerdict:
        return MyVerdict(logits=self.layers(sample).squeeze(1))


def half_square(logits: Tensor) -> Tensor:
    return 0.5 * logits.square()


MY_LOSS = GANLoss(
    generator=lambda logits: half_square(logits - 2), real=lambda d: half_square(d - 2), fake=half_square
)


class MyObjective(Objective):
    """A GAN whose losses are written here, whose generator grows, and whose networks have an optimiser each."""

    pipeline_class = GANPipeline
    ema = ("generator",)
    phases = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("generator", trains=("generator",), reuse_batch=True, starts=1),
        Phase("lazy", trains=("discriminator",), every=2, stops=5, reuse_batch=True),
    )
    partly_used = ("generator",)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        real, judge = batch["image"], networks["discriminator"]
        if phase.name == "lazy":
            return {"loss": 0.2 * judge(real).logits.square().mean()}
        latents = noise.normal((len(real), self.latent_dim), like=real)
        with torch.set_grad_enabled(phase.name == "generator"):
            fake = networks["generator"](latents).sample
        if phase.name == "generator":
            return {"loss": (judge(fake).logits - 1).square().mean()}
        return {"loss": (judge(real).logits - 1).square().mean() + judge(fake).logits.square().mean()}

    def __init__(self, generator: ModelMixin, discriminator: ModelMixin, data: DataSpec, weight: float = 1.0) -> None:
        super().__init__({"generator": generator, "discriminator": discriminator}, data)
        self.weight = weight
        self.latent_dim: int = generator.config.latent_dim

    def before_step(self, step: int) -> None:
        self.networks["generator"].is_whole = step >= SWITCHED_ON_AT

    def param_groups(self, name: str) -> list[dict[str, Any]]:
        (group,) = super().param_groups(name)
        own = {"generator": {"optimizer": "rmsprop", "alpha": 0.9}, "discriminator": {"optimizer": "adam"}}
        return [group | own[name] | ({"betas": (0.3, 0.9)} if name == "discriminator" else {})]


class Codebook(ModelMixin, ConfigMixin):
    """Moves points by a learnt vector; `codes` are the means of what was nearest to them."""

    codes: Tensor

    @register_to_config
    def __init__(self, in_channels: int = 2, sample_size: int | None = None, num_codes: int = 4) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(in_channels))
        self.register_buffer("codes", torch.zeros(num_codes, in_channels))

    def forward(self, sample: Tensor) -> Tensor:
        moved = sample + self.shift
        return F.mse_loss(moved, self.codes[torch.cdist(moved, self.codes).argmin(1)])


class CodebookObjective(Objective):
    """Codes start at data points and follow those that are nearest; unused ones begin again at a random point."""

    ema = ("codebook",)
    phases = (Phase("codes", trains=("codebook",)),)
    averaged_buffers = {"codebook": ("codes",)}
    whole = ("errors",)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        self.seen = batch["image"]
        return {"loss": networks["codebook"](batch["image"])}

    def __init__(self, codebook: Codebook, data: DataSpec) -> None:
        super().__init__({"codebook": codebook}, data)

    def initialize(self, batch: Batch, noise: Noise, gather: Gather) -> None:
        codes = self.networks["codebook"].codes
        points = gather(batch["image"])
        codes.copy_(points[self.choose(len(points), len(codes), noise)])

    def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Gather) -> None:
        codes, points = networks["codebook"].codes, gather(self.seen)
        # in an order of its own, so that sums round alike however many processes there are
        points = points[points[:, 0].argsort()]
        nearest = torch.cdist(points, codes).argmin(1)
        revived = points[self.choose(len(points), len(codes), noise)]
        for index in range(len(codes)):
            mine = points[nearest == index]
            codes[index] = 0.5 * (codes[index] + mine.mean(0)) if len(mine) > 1 else revived[index]

    @staticmethod
    def choose(count: int, number: int, noise: Noise) -> Tensor:
        return (noise.uniform((number,), like=torch.zeros(0)) * count).long()

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        errors = torch.cdist(batch["image"], networks["codebook"].codes).amin(1)
        return {"mean": errors, "errors": errors}

    def summarize(self, gathered: dict[str, Tensor]) -> dict[str, float]:
        return {"median": float(gathered["errors"].median()), "examples": float(len(gathered["errors"]))}


def gan(data: DataSpec) -> Objective:
    return GANObjective(MyGenerator(), MyDiscriminator(), data, gan_loss=MY_LOSS)


def own(data: DataSpec) -> Objective:
    return MyObjective(MyGenerator(), MyDiscriminator(), data)


def codebook(data: DataSpec) -> Objective:
    return CodebookObjective(Codebook(), data)


OBJECTIVES = {"gan": gan, "own": own, "codebook": codebook}


def run(name: str, folder: Path, **changes: Any) -> Any:
    """Train one of `OBJECTIVES` on 96 points in global batches of 16; returns the pipeline."""
    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=96), 0)
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "train_batch_size": 16 // Accelerator().num_processes,
        "max_train_steps": STEPS,
        "checkpointing_steps": 2,
        "log_steps": 2,
        "learning_rate": 0.01,
        "use_ema": True,
        "num_threads": 1,
    }
    return train(OBJECTIVES[name](data.spec), data, TrainingArguments(output_dir=str(folder), **options | changes))


def main(folder: Path) -> None:
    """Train all, each in a folder of its own."""
    for name in OBJECTIVES:
        run(name, folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
