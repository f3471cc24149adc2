"""What objectives with a critic share: which losses and penalties go together, and the penalty on its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from ..blocks.minibatch import MinibatchDiscrimination
from ..checks import check_choice
from ..choices import PENALTIES, PatchPenalty, Penalty
from ..errors import UserError
from ..losses.gan import GANLoss, accuracy, check_loss
from ..losses.penalties import PENALTY_WEIGHTS, interpolate, penalty_at_samples, penalty_between
from ..losses.translation import judging_loss, judging_scale
from .base import Noise

BETWEEN = ("wgan_gp", "zero_centred")  # penalties on interpolates of data and fakes


def check_critics(
    gan_loss: str | GANLoss,
    gradient_penalty: Penalty,
    *critics: nn.Module,
    weight_clip: float | None = None,
    patches: bool = False,
) -> None:
    """Refuse a loss and a penalty, or a critic and either, that exclude each other.

    Args:
        gan_loss: A key of `GAN_LOSSES`; a loss of one's own goes with every penalty.
        gradient_penalty: The penalty on the critics' gradient.
        critics: The discriminators. A weight that is parametrised, as by spectral normalisation, is taken for bounded.
        weight_clip: Bound of the critics' weights, if they are clipped.
        patches: They judge patches: "roth" needs one logit a sample.

    Raises:
        UserError: There is no such loss or penalty; they exclude each other; a critic under a penalty normalises by
            the batch or compares its samples; or a Wasserstein critic's slope is bounded by nothing.
    """
    check_choice("gradient_penalty", gradient_penalty, get_args(PatchPenalty if patches else Penalty))
    check_loss(gan_loss)
    if isinstance(gan_loss, str) and gradient_penalty not in PENALTIES[gan_loss]:
        raise UserError(
            f"gan_loss {gan_loss} and gradient_penalty {gradient_penalty} exclude each other; "
            f"choose one of {', '.join(PENALTIES[gan_loss])}"
        )
    for critic in critics:
        name, modules = type(critic).__name__, list(critic.modules())
        if gradient_penalty != "none" and any(isinstance(module, _BatchNorm) for module in modules):
            raise UserError(
                f"{name} normalises by the batch, which gradient_penalty {gradient_penalty} excludes: a logit must "
                "depend on its own sample alone; give it another norm"
            )
        if gradient_penalty != "none" and any(isinstance(module, MinibatchDiscrimination) for module in modules):
            raise UserError(
                f"{name} compares the samples of a batch (minibatch_kernels), which gradient_penalty "
                f"{gradient_penalty} excludes: a logit must depend on its own sample alone; drop one of them"
            )
        is_bounded = gradient_penalty != "none" or weight_clip is not None or any(map(is_parametrized, modules))
        if gan_loss == "wasserstein" and not is_bounded:
            raise UserError(
                f"gan_loss wasserstein needs a Lipschitz critic, and nothing bounds the slope of {name}: penalise "
                "its gradient or normalise its weights"
            )


def rows_are_independent(*networks: nn.Module) -> bool:
    """Whether all of these networks say that a row's output is the same in whatever batch it comes.

    A network that says nothing is taken for one that mixes rows, as those with a batch norm do.
    """
    return all(getattr(network, "rows_are_independent", False) for network in networks)


class GradientPenalty:
    """A penalty on the gradient of a discriminator's logits, see `losses.penalties`.

    Args:
        kind: Which one; "none" is no penalty.
        weight: Its lambda or gamma; the paper's by default.
    """

    def __init__(self, kind: Penalty, weight: float | None) -> None:
        self.kind = kind
        self.weight = PENALTY_WEIGHTS.get(kind, 0.0) if weight is None else weight

    @property
    def is_on(self) -> bool:
        """Whether there is a penalty: a gradient is differentiated then."""
        return self.kind != "none"

    def samples(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Data and fakes without their past, ready to be differentiated by where the penalty does so."""
        real = real.detach().requires_grad_(self.kind in ("r1", "roth"))
        return real, fake.detach().requires_grad_(self.kind in ("r2", "roth"))

    def __call__(
        self,
        judge: Callable[[Tensor], Tensor],
        on_real: Tensor,
        real: Tensor,
        on_fake: Tensor,
        fake: Tensor,
        noise: Noise,
        packing: int = 1,
    ) -> Tensor:
        """The penalty, a scalar; there must be one.

        Args:
            judge: Sample -> logits.
            on_real: The logits of `real`.
            real: Data, of `samples`.
            on_fake: The logits of `fake`.
            fake: Fakes, of `samples`.
            noise: Where interpolates lie.
            packing: Samples that are judged together.
        """
        if self.kind not in BETWEEN:
            return penalty_at_samples(self.kind, on_real, real, on_fake, fake, self.weight)
        between = self.between(real, fake, noise, packing)
        return penalty_between(self.kind, judge(between), between, self.weight)

    @staticmethod
    def between(real: Tensor, fake: Tensor, noise: Noise, packing: int = 1) -> Tensor:
        """Points between data and fakes, in one proportion for all samples of a pack."""
        weight = noise.uniform((len(real) // packing,), like=real).repeat_interleave(packing)
        return interpolate(real, fake, weight)


def patch_losses(
    gan_loss: str | GANLoss,
    penalty: GradientPenalty,
    discriminator: Any,
    real: Tensor,
    fake: Tensor,
    noise: Noise,
    in_one_pass: bool = False,
) -> dict[str, Tensor]:
    """A patch discriminator's losses: "loss", which has the penalty in it, "penalty" if there is one, and "accuracy".

    Args:
        gan_loss: As of `losses.translation.judging_loss`.
        penalty: On its gradient; halved where the loss is.
        discriminator: Image -> logits.
        real: (batch, channels, height, width), data.
        fake: Same shape, translations.
        noise: For the penalty.
        in_one_pass: The discriminator may be given both as one batch.
    """
    real, fake = penalty.samples(real, fake)
    # a penalty's gradient would have to go back through the rows of both
    if in_one_pass and real.shape == fake.shape and not (real.requires_grad or fake.requires_grad):
        on_real, on_fake = discriminator(torch.cat([real, fake])).logits.chunk(2)
    else:
        on_real, on_fake = discriminator(real).logits, discriminator(fake).logits
    losses = {"loss": judging_loss(gan_loss, on_real, on_fake)}
    if penalty.is_on:

        def judge(sample: Tensor) -> Tensor:
            logits: Tensor = discriminator(sample).logits
            return logits

        losses["penalty"] = judging_scale(gan_loss) * penalty(judge, on_real, real, on_fake, fake, noise)
        losses["loss"] = losses["loss"] + losses["penalty"]
    return losses | {"accuracy": accuracy(gan_loss, on_real.detach(), on_fake.detach())}
