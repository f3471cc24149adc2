"""A generator and a critic of a few weights, to watch the training loop with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from hf_genmodels.data import DataArguments, load_data
from hf_genmodels.objectives.base import Batch, Gather, Noise, Objective, Phase
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.loop import TrainingLoop
from tests.testing_utils.objectives import VECTORS


class TinyNetwork(ModelMixin, ConfigMixin):
    """Two dense layers, with batch statistics or dropout between them if asked for."""

    @register_to_config
    def __init__(
        self, inputs: int = 2, outputs: int = 1, width: int = 8, batch_norm: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.second = nn.Linear(width, outputs)

    def forward(self, sample: Tensor) -> Tensor:
        """(batch, inputs) -> (batch, outputs)."""
        output: Tensor = self.second(self.drop(torch.tanh(self.norm(self.first(sample)))))
        return output


class Adversaries(Objective):
    """A Wasserstein GAN with gradient penalty on 2-D points, and a lazy penalty on the batch just seen.

    Attributes:
        seen: (phase, step, indices of the batch, networks that take gradients, type of the critic's output).
    """

    ema = ("generator",)

    def __init__(self, critic_updates: int = 5, every: int = 2, **network: Any) -> None:
        super().__init__({"generator": TinyNetwork(2, 2, **network), "critic": TinyNetwork(2, 1)}, VECTORS)
        self.phases = (
            Phase("critic", ("critic",), updates=critic_updates, double_backward=True),
            Phase("generator", ("generator",)),
            Phase("lazy", ("critic",), every=every, reuse_batch=True),
        )
        self.step = 0
        self.seen: list[tuple[str, int, list[int], set[str], torch.dtype]] = []
        self.updates = 0

    def before_step(self, step: int) -> None:
        self.step = step

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        real, generator, critic = batch["image"], networks["generator"], networks["critic"]
        losses = adversarial_losses(phase.name, generator, critic, real, noise.normal, noise.uniform)
        trained = {n for n, network in networks.items() if any(p.requires_grad for p in network.parameters())}
        self.seen.append((phase.name, self.step, batch["index"].tolist(), trained, losses.pop("score").dtype))
        return losses

    def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Gather) -> None:
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]


def adversarial_losses(
    phase: str,
    generator: Any,
    critic: Any,
    real: Tensor,
    normal: Callable[..., Tensor],
    uniform: Callable[..., Tensor],
) -> dict[str, Tensor]:
    """The losses of `Adversaries`, for the loop and for the loop written out by hand."""
    if phase == "lazy":
        score = critic(real)
        return {"loss": 2 * score.square().mean(), "score": score}
    fake = generator(normal((len(real), 2), like=real))
    score = critic(fake)
    if phase == "generator":
        return {"loss": -score.mean(), "score": score}
    share = uniform((len(real), 1), like=real)
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty = (slope.norm(dim=1) - 1).square().mean()
    return {"loss": score.mean() - critic(real).mean() + 10 * penalty, "penalty": penalty, "score": score}


def make_loop(objective: Objective, output_dir: Path, mixed_precision: str = "no", **changes: Any) -> TrainingLoop:
    """A loop over 64 points of `builtin:toy2d` in batches of 8, four steps of it."""
    options: dict[str, Any] = {"train_batch_size": 8, "max_train_steps": 4, "learning_rate": 0.01, "log_steps": 2}
    args = TrainingArguments(output_dir=str(output_dir), **{**options, **changes})
    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=64), args.seed)
    output_dir.mkdir(parents=True, exist_ok=True)
    return TrainingLoop(objective, data, args, Accelerator(mixed_precision=mixed_precision))
