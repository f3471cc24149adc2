"""Adversarial losses: functions of the discriminator's logits of "real", means over the batch, in float32 or better.

With d a logit, D = sigmoid(d), log D = -softplus(-d) and log(1 - D) = -softplus(d), which is finite for every logit:

minimax         G: E log(1 - D(fake))     D: -E log D(real) - E log(1 - D(fake))           (Goodfellow et al. 2014)
non_saturating  G: -E log D(fake)         D: as minimax                                    (Goodfellow et al. 2014)
linear_logit    G: -E d(fake)             D: as minimax                                    (L_M of AVAE)
least_squares   G: E (d(fake) - 1)^2 / 2  D: E (d(real) - 1)^2 / 2 + E d(fake)^2 / 2       (Mao et al. 2017)
wasserstein     G: -E d(fake)             D: E d(fake) - E d(real)                         (Arjovsky et al. 2017)
hinge           G: -E d(fake)             D: E max(0, 1 - d(real)) + E max(0, 1 + d(fake)) (Lim & Ye 2017)
f_<divergence>  G: -E g_f(d(fake))        D: -E g_f(d(real)) + E f*(g_f(d(fake)))          (Nowozin et al. 2016)

The AVAE paper (arXiv 2012.11551) writes L_M with a critic that says "generated": its logit is -d. Least squares,
hinge, Wasserstein and f-GAN take the bare output, without a sigmoid. The Wasserstein loss needs a Lipschitz critic:
clipped weights, a gradient penalty (`penalties`) or spectral normalisation. Of f-GAN, see `f_gan`, the generator
maximises the variational function of its fakes, as the paper does in practice (section 3.2). The fixed points are the
same, the way there is another divergence's: with the best discriminator the generator of f_kl goes down KL(fakes ||
data) (Poole et al. 2016, arXiv 1612.02780).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..choices import CROSS_ENTROPIES
from ..errors import UserError
from .f_gan import DIVERGENCES, FDivergence

Elementwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GANLoss:
    """One kind of adversarial loss as three functions of a logit, each applied to every entry.

    Attributes:
        generator: What the generator minimises on fakes.
        real: What the discriminator minimises on data.
        fake: What the discriminator minimises on fakes.
        boundary: The logit above which a sample counts as judged real; None where only differences mean something.
    """

    generator: Elementwise
    real: Elementwise
    fake: Elementwise
    boundary: float | None = 0.0


def _negative(logits: Tensor) -> Tensor:
    return -logits


def _identity(logits: Tensor) -> Tensor:
    return logits


def _negative_softplus(logits: Tensor) -> Tensor:
    return -F.softplus(logits)


def _softplus_of_negative(logits: Tensor) -> Tensor:
    return F.softplus(-logits)


def _half_square(logits: Tensor) -> Tensor:
    return 0.5 * logits.square()


def _half_square_to_one(logits: Tensor) -> Tensor:
    return 0.5 * (logits - 1).square()


def _hinge_real(logits: Tensor) -> Tensor:
    return F.relu(1 - logits)


def _hinge_fake(logits: Tensor) -> Tensor:
    return F.relu(1 + logits)


def _f_gan(divergence: FDivergence) -> GANLoss:
    def negative_activation(logits: Tensor) -> Tensor:
        return -divergence.activation(logits)

    return GANLoss(negative_activation, negative_activation, divergence.conjugate, divergence.boundary)


GAN_LOSSES: dict[str, GANLoss] = {
    "minimax": GANLoss(generator=_negative_softplus, real=_softplus_of_negative, fake=F.softplus),
    "non_saturating": GANLoss(generator=_softplus_of_negative, real=_softplus_of_negative, fake=F.softplus),
    "linear_logit": GANLoss(generator=_negative, real=_softplus_of_negative, fake=F.softplus),
    "least_squares": GANLoss(generator=_half_square_to_one, real=_half_square_to_one, fake=_half_square, boundary=0.5),
    "wasserstein": GANLoss(generator=_negative, real=_negative, fake=_identity, boundary=None),
    "hinge": GANLoss(generator=_negative, real=_hinge_real, fake=_hinge_fake),
    **{f"f_{name}": _f_gan(divergence) for name, divergence in DIVERGENCES.items()},
}


def at_least_float32(values: Tensor) -> Tensor:
    """Half-precision numbers as float32, others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def generator_loss(kind: str | GANLoss, fake_logits: Tensor) -> Tensor:
    """What the generator minimises.

    Args:
        kind: A key of `GAN_LOSSES`, or a loss of your own.
        fake_logits: (batch, ...), the discriminator's logits of "real" for generated samples; a patch discriminator's
            entries count alike.

    Returns:
        Scalar.

    Raises:
        UserError: The kind is unknown, or there are no logits.
    """
    return mean_of(_loss(kind).generator, fake_logits, "fake_logits")


def discriminator_loss(kind: str | GANLoss, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What the discriminator minimises: the sum of its losses on data and on fakes.

    Args:
        kind: A key of `GAN_LOSSES`, or a loss of your own.
        real_logits: (batch, ...), the logits of "real" for data.
        fake_logits: Same shape, for generated samples that carry no gradient.

    Returns:
        Scalar.

    Raises:
        UserError: The kind is unknown, there are no logits, or the two shapes differ.
    """
    if real_logits.shape != fake_logits.shape:
        raise UserError(
            f"discriminator_loss: real_logits have shape {tuple(real_logits.shape)}, fake_logits "
            f"{tuple(fake_logits.shape)}; give as many real as generated samples"
        )
    loss = _loss(kind)
    return mean_of(loss.real, real_logits, "real_logits") + mean_of(loss.fake, fake_logits, "fake_logits")


def accuracy(kind: str | GANLoss, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """How well the discriminator tells fakes from data: 1 always, 0.5 not at all.

    Args:
        kind: A key of `GAN_LOSSES`, or a loss of your own.
        real_logits: (batch, ...).
        fake_logits: (batch, ...).

    Returns:
        Scalar: the share of logits on the right side of the loss's boundary, the mean of that of data and that of
        fakes; for "wasserstein" the share of (data, fake) pairs in which the data have the larger score. Ties count
        half.
    """
    boundary = _loss(kind).boundary
    if boundary is None:
        real = at_least_float32(real_logits).flatten()
        fake = at_least_float32(fake_logits).flatten().sort().values
        smaller, not_larger = (torch.searchsorted(fake, real, right=right) for right in (False, True))
        return (smaller + not_larger).sum() / (2 * real.numel() * fake.numel())
    return 0.5 * (_share_of_positives(real_logits - boundary) + _share_of_positives(boundary - fake_logits))


def _share_of_positives(values: Tensor) -> Tensor:
    """The share of values above zero; zeros count half."""
    return 0.5 * (1 + torch.sign(at_least_float32(values)).mean())


def mean_of(function: Elementwise, logits: Tensor, name: str) -> Tensor:
    """The mean of one part of a loss, for families that judge several sorts of fakes.

    Args:
        function: A part of a `GANLoss`.
        logits: (batch, ...).
        name: What the error calls the logits.

    Returns:
        Scalar.

    Raises:
        UserError: There are no logits: their mean would be NaN.
    """
    if logits.ndim == 0 or logits.numel() == 0:
        raise UserError(f"{name} must have shape (batch, ...) with at least one entry, got {tuple(logits.shape)}")
    return function(at_least_float32(logits)).mean()


def with_smoothed_labels(kind: str | GANLoss, smoothing: float) -> str | GANLoss:
    """The loss with data that count as real by 1 - smoothing only: one-sided (Salimans et al. 2016, section 3.4).

    The discriminator minimises -(1 - smoothing) log D - smoothing log(1 - D) on data. Fakes and the generator's loss
    are as before. The optimal logit of data and fakes of equal density becomes log((1 - smoothing) / (1 + smoothing)).

    Args:
        kind: A loss of the cross-entropy, see `choices.CROSS_ENTROPIES`.
        smoothing: Share taken off the label of the data, in [0, 1); the loss itself for 0.

    Raises:
        UserError: The share is none, or the loss has no labels.
    """
    if not 0 <= smoothing < 1:
        raise UserError(f"label_smoothing must be in [0, 1), got {smoothing}")
    if not smoothing:
        return kind
    if kind not in CROSS_ENTROPIES:
        name = "of your own" if isinstance(kind, GANLoss) else kind
        raise UserError(
            f"label_smoothing needs a loss with labels, and gan_loss {name} has none; choose one of "
            f"{', '.join(CROSS_ENTROPIES)}"
        )

    def smoothed_real(logits: Tensor) -> Tensor:
        return F.softplus(-logits) + smoothing * logits  # softplus(d) = softplus(-d) + d

    boundary = math.log((1 - smoothing) / (1 + smoothing))
    return replace(GAN_LOSSES[kind], real=smoothed_real, boundary=boundary)


def feature_matching_loss(real_features: Tensor, fake_features: Tensor) -> Tensor:
    """||E f(x) - E f(G(z))||^2, f a hidden layer of the discriminator (Salimans et al. 2016, section 3.1).

    Args:
        real_features: (batch, ...), f of data.
        fake_features: Same shape, f of generated samples.

    Returns:
        Scalar, the sum over the entries of a feature vector, in float32 or better.

    Raises:
        UserError: The shapes differ, or there are no features.
    """
    if real_features.shape != fake_features.shape or not real_features.numel():
        raise UserError(
            f"feature_matching_loss: real_features have shape {tuple(real_features.shape)}, fake_features "
            f"{tuple(fake_features.shape)}; give features of as many real as generated samples"
        )
    real, fake = at_least_float32(real_features), at_least_float32(fake_features)
    return (real.mean(0) - fake.mean(0)).square().sum()


def check_loss(kind: str | GANLoss) -> None:
    """Refuse a loss of no known name.

    Raises:
        UserError: One line with the names.
    """
    _loss(kind)


def _loss(kind: str | GANLoss) -> GANLoss:
    if isinstance(kind, GANLoss):
        return kind
    if kind not in GAN_LOSSES:
        raise UserError(f"unknown GAN loss {kind!r}; choose one of {', '.join(GAN_LOSSES)}")
    return GAN_LOSSES[kind]
