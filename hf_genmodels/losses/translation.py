"""Losses of translators from image to image and of the patch discriminators that judge them, and held-out errors."""

from __future__ import annotations

from torch import Tensor

from ..choices import PixelLoss
from .gan import GANLoss, at_least_float32, discriminator_loss, generator_loss


def fooling_loss(kind: str | GANLoss, fake_logits: Tensor) -> Tensor:
    """A translator's adversarial loss.

    Least squares is (d - 1)^2, twice that of `losses.gan`: the papers' lambda is relative to it.

    Args:
        kind: As of `losses.gan.generator_loss`.
        fake_logits: (batch, ...), the discriminator's logits of "real" for translations.

    Returns:
        Scalar.
    """
    return generator_loss(kind, fake_logits) * (2 if kind == "least_squares" else 1)


def judging_loss(kind: str | GANLoss, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """A patch discriminator's loss, the mean over data and fakes, see `judging_scale`.

    Args:
        kind: As of `losses.gan.discriminator_loss`.
        real_logits: (batch, ...), the logits of "real" for data.
        fake_logits: Same shape, for translations that carry no gradient.

    Returns:
        Scalar.
    """
    return judging_scale(kind) * discriminator_loss(kind, real_logits, fake_logits)


def judging_scale(kind: str | GANLoss) -> float:
    """What a discriminator's objective is multiplied by: halved, which slows it down (Isola et al. 2017, section 3.3).

    Least squares has that half already.
    """
    return 1 if kind == "least_squares" else 0.5


def pixel_loss(kind: PixelLoss, image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute ("l1") or squared ("mse") error on the [-1, 1] scale, in float32; a scalar."""
    difference = at_least_float32(image) - at_least_float32(target)
    return difference.abs().mean() if kind == "l1" else difference.square().mean()


def absolute_error(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of each image on the [0, 1] scale, (batch,).

    Args:
        image: (batch, channels, height, width); clamped to [-1, 1], as pipelines do.
        target: Same shape, in [-1, 1].
    """
    return (image.float().clamp(-1, 1) - target.float()).abs().flatten(1).mean(1) / 2
