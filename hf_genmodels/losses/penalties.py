"""Penalties on the gradient of a discriminator's logits with respect to its input.

Each takes logits and the tensor they were computed from, so that a discriminator under training is called through
`forward` alone (its wrapper for several processes sees every pass), labels are the caller's business, and R1 can share
the pass over the data with the loss. That tensor must require grad before the pass:

    sample = interpolate(real, fake, noise.uniform((len(real),), like=real))
    loss = loss + gradient_penalty(networks["discriminator"](sample).logits, sample)

Every logit must depend on its own sample alone: no batch normalisation in the discriminator. A network that packs m
consecutive samples into one logit is fine: the norm is that of the gradient for the whole pack. All results can be
differentiated again.

Sources: Gulrajani et al. 2017 (arXiv 1704.00028), Roth et al. 2017 (arXiv 1705.09367), Mescheder et al. 2018 (arXiv
1801.04406), Thanh-Tung et al. 2019 (arXiv 1902.03984).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UserError
from .gan import at_least_float32

# The papers' weights: lambda of WGAN-GP and of Thanh-Tung et al., gamma of the others.
PENALTY_WEIGHTS = {"wgan_gp": 10.0, "zero_centred": 10.0, "r1": 10.0, "r2": 10.0, "roth": 2.0}


def interpolate(real: Tensor, fake: Tensor, weight: Tensor) -> Tensor:
    """Mix data and fakes, weight * real + (1 - weight) * fake: detached, ready to be differentiated by.

    Args:
        real: (batch, dim) or (batch, channels, height, width).
        fake: Same shape.
        weight: (batch,), uniform on [0, 1]; equal inside a pack where samples are packed.

    Returns:
        Same shape as `real`; requires grad.

    Raises:
        UserError: The shapes do not agree.
    """
    if real.shape != fake.shape or weight.shape != real.shape[:1]:
        raise UserError(
            f"interpolate: real {tuple(real.shape)}, fake {tuple(fake.shape)} and weight {tuple(weight.shape)} do not "
            "agree; real and fake need one shape, weight one number a sample"
        )
    weight = weight.reshape(-1, *[1] * (real.ndim - 1)).to(real)
    return (weight * real.detach() + (1 - weight) * fake.detach()).requires_grad_()


def gradient_of_logits(logits: Tensor, sample: Tensor) -> Tensor:
    """The gradient of each logit, one row a logit.

    Args:
        logits: (batch,), or (batch, ...) of a patch discriminator, whose entries are summed; (batch / m,) of one that
            packs m consecutive samples.
        sample: (batch, dim) or (batch, channels, height, width) that requires grad.

    Returns:
        (batch, dim) or (batch / m, m dim), with dim the number of entries of a sample; differentiable.

    Raises:
        UserError: The samples cannot be shared out evenly among the logits.
    """
    if logits.ndim == 0 or len(logits) == 0 or len(sample) % len(logits):
        raise UserError(
            f"gradient penalty: logits of shape {tuple(logits.shape)} do not belong to samples of shape "
            f"{tuple(sample.shape)}; give one logit a sample, or one a pack"
        )
    (gradient,) = torch.autograd.grad(at_least_float32(logits).sum(), sample, create_graph=True)
    return at_least_float32(gradient).reshape(len(logits), -1)


def gradient_penalty(logits: Tensor, interpolates: Tensor, weight: float = 10.0) -> Tensor:
    """WGAN-GP's two-sided penalty, weight * E (||grad d(x^)||_2 - 1)^2 (Gulrajani et al. 2017, eq. 3).

    Args:
        logits: (batch,), d(x^).
        interpolates: x^, from `interpolate`.
        weight: lambda.

    Returns:
        Scalar. At a gradient of zero the norm counts as having the derivative zero.
    """
    norm = torch.linalg.vector_norm(gradient_of_logits(logits, interpolates), dim=1)
    return weight * (norm - 1).square().mean()


def zero_centred_penalty(logits: Tensor, interpolates: Tensor, weight: float = 10.0) -> Tensor:
    """Zero-centred penalty, weight * E ||grad d(x^)||^2 on the interpolates of WGAN-GP (Thanh-Tung et al. 2019).

    Args:
        logits: (batch,), d(x^).
        interpolates: x^, from `interpolate`.
        weight: lambda.

    Returns:
        Scalar.
    """
    return weight * gradient_of_logits(logits, interpolates).square().sum(1).mean()


def r1_penalty(real_logits: Tensor, real: Tensor, gamma: float = 10.0) -> Tensor:
    """R1, gamma / 2 * E ||grad d(x)||^2 over data (Mescheder et al. 2018, eq. 9).

    Args:
        real_logits: (batch,), d(x).
        real: x, the data; requires grad.
        gamma: Weight of the penalty.

    Returns:
        Scalar.
    """
    return zero_centred_penalty(real_logits, real, gamma / 2)


def r2_penalty(fake_logits: Tensor, fake: Tensor, gamma: float = 10.0) -> Tensor:
    """R2, gamma / 2 * E ||grad d(G(z))||^2 over fakes (Mescheder et al. 2018, eq. 10).

    Args:
        fake_logits: (batch,), d(G(z)).
        fake: G(z), detached from the generator; requires grad.
        gamma: Weight of the penalty.

    Returns:
        Scalar.
    """
    return zero_centred_penalty(fake_logits, fake, gamma / 2)


def roth_regulariser(
    real_logits: Tensor, real: Tensor, fake_logits: Tensor, fake: Tensor, gamma: float = 2.0
) -> Tensor:
    """Roth's regulariser, gamma / 2 * (E_real (1 - D)^2 ||grad d||^2 + E_fake D^2 ||grad d||^2), D = sigmoid(d).

    The Jensen-Shannon case of Roth et al. 2017 (algorithm 1); it belongs to the discriminator loss "minimax". The
    weights (1 - D)^2 and D^2 are differentiated too. Annealing gamma, as the paper also does, is up to the caller.

    Args:
        real_logits: (batch,), d(x).
        real: x, the data; requires grad.
        fake_logits: (batch,), d(G(z)).
        fake: G(z), detached from the generator; requires grad.
        gamma: The variance of the noise on the samples that the regulariser stands for.

    Returns:
        Scalar.

    Raises:
        UserError: There is more than one logit a sample.
    """
    for name, logits in (("real_logits", real_logits), ("fake_logits", fake_logits)):
        if logits.shape[1:].numel() != 1:
            raise UserError(f"roth_regulariser needs one logit a sample, got {name} of shape {tuple(logits.shape)}")
    real_weight = torch.sigmoid(-at_least_float32(real_logits)).flatten().square()
    fake_weight = torch.sigmoid(at_least_float32(fake_logits)).flatten().square()
    on_real = real_weight * gradient_of_logits(real_logits, real).square().sum(1)
    on_fake = fake_weight * gradient_of_logits(fake_logits, fake).square().sum(1)
    return gamma / 2 * (on_real.mean() + on_fake.mean())


def penalty_between(kind: str, logits: Tensor, interpolates: Tensor, weight: float) -> Tensor:
    """The penalty of that name on interpolates: "wgan_gp" or "zero_centred"."""
    function = gradient_penalty if kind == "wgan_gp" else zero_centred_penalty
    return function(logits, interpolates, weight)


def penalty_at_samples(
    kind: str, real_logits: Tensor, real: Tensor, fake_logits: Tensor, fake: Tensor, weight: float
) -> Tensor:
    """The penalty of that name on the samples themselves, whose passes the loss shares: "r1", "r2" or "roth"."""
    if kind == "r1":
        return r1_penalty(real_logits, real, weight)
    if kind == "r2":
        return r2_penalty(fake_logits, fake, weight)
    return roth_regulariser(real_logits, real, fake_logits, fake, weight)
