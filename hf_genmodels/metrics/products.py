"""Products of feature matrices: in float32 where that will do, with its full precision, as fast as may be."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

_WITHIN = 1e-6, 1e6  # largest absolute values of sets whose products are well within float32


def product(x: Tensor, y: Tensor) -> Tensor:
    """X y^T, (rows of x, rows of y), of (number, dim) tensors of one type.

    float32 products on a CPU are oneDNN's: torch's own are MKL's, which leaves half of what other processors than
    Intel's can do (AVX-512) unused. Where a setting allows products of less precision, such as TF32, it does not hold.
    """
    if x.dtype != torch.float32 or x.numel() == 0 or y.numel() == 0:
        return x @ y.T
    backend = torch.backends.mkldnn if x.device.type == "cpu" else torch.backends.cuda
    if backend.matmul.fp32_precision not in ("none", "ieee"):
        return (x.double() @ y.double().T).float()
    if x.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return linear(x.to_mkldnn(), y.to_mkldnn()).to_dense()
    return x @ y.T


def as_floats(features_a: Tensor, features_b: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets in float32, or in float64 where one is, or where float32 could not hold their products."""
    sets = features_a.detach(), features_b.detach()
    if all(each.dtype != torch.float64 and _WITHIN[0] <= largest(each) <= _WITHIN[1] for each in sets):
        return sets[0].float(), sets[1].float()
    return sets[0].double(), sets[1].double()


def largest(features: Tensor) -> float:
    """The largest absolute value."""
    return max(abs(bound.item()) for bound in features.aminmax())
