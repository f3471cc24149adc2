"""f-GAN: parts of adversarial losses whose discriminator finds an f-divergence (Nowozin et al., arXiv 1606.00709).

With v the bare output of the discriminator, T = g_f(v) and f* the conjugate of f, D_f(data || fakes) is bounded from
below by E T(data) - E f*(T(fake)) (eq. 4 and 5), which the discriminator maximises. Of table 2, with increasing g_f:

                   g_f(v)               f*(g_f(v))           v at equal densities, where T = f'(1)
kl                 v                    exp(v - 1)           1
reverse_kl         -exp(-v)             v - 1                0
pearson            v                    v^2 / 4 + v          0
squared_hellinger  1 - exp(-v)          exp(v) - 1           0
js                 log 2 - softplus(-v) softplus(v) - log 2  0

The divergence "js" is twice the Jensen-Shannon one; the paper's "gan" is it less log 4, the losses "minimax" and
"non_saturating". Exponentials go on as their tangents above 20, a ratio of densities of 5e8, so that no output makes
them infinite: a deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TANGENT_FROM = 20.0
LOG_2 = math.log(2)


@dataclass(frozen=True)
class FDivergence:
    """What the discriminator's bound of one divergence consists of, functions of the bare output v.

    Attributes:
        activation: v -> T = g_f(v).
        conjugate: v -> f*(g_f(v)).
        boundary: v where data and fakes are equally dense, if the discriminator is optimal.
    """

    activation: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    boundary: float = 0.0


def bounded_exp(values: Tensor) -> Tensor:
    """The exponential up to `TANGENT_FROM`, above it the tangent there."""
    low = values.clamp(max=TANGENT_FROM)
    return torch.exp(low) * (1 + values - low)


def _bare(v: Tensor) -> Tensor:
    return v


def _kl_conjugate(v: Tensor) -> Tensor:
    return bounded_exp(v - 1)


def _reverse_kl(v: Tensor) -> Tensor:
    return -bounded_exp(-v)


def _reverse_kl_conjugate(v: Tensor) -> Tensor:
    return v - 1


def _pearson_conjugate(v: Tensor) -> Tensor:
    return v.square() / 4 + v


def _squared_hellinger(v: Tensor) -> Tensor:
    return 1 - bounded_exp(-v)


def _squared_hellinger_conjugate(v: Tensor) -> Tensor:
    return bounded_exp(v) - 1


def _js(v: Tensor) -> Tensor:
    return LOG_2 - F.softplus(-v)


def _js_conjugate(v: Tensor) -> Tensor:
    return F.softplus(v) - LOG_2


DIVERGENCES: dict[str, FDivergence] = {
    "kl": FDivergence(_bare, _kl_conjugate, boundary=1.0),
    "reverse_kl": FDivergence(_reverse_kl, _reverse_kl_conjugate),
    "pearson": FDivergence(_bare, _pearson_conjugate),
    "squared_hellinger": FDivergence(_squared_hellinger, _squared_hellinger_conjugate),
    "js": FDivergence(_js, _js_conjugate),
}
