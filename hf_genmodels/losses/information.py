"""Lower bounds of the mutual information I(c; x) of a code c and what was made of it, means over the batch, in nats.

With any Q, E log Q(c|x) + H(c) <= I(c; x), and equality where Q is the posterior p(c|x) (Chen et al. 2016, arXiv
1606.03657, eq. 4 and 5; Barber & Agakov 2003).
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from .gan import at_least_float32
from .likelihood import gaussian_nll


def categorical_information(logits: Tensor, categories: Tensor) -> Tensor:
    """The bound for a uniform category: log K + E log softmax(logits)[category], at most log K.

    Args:
        logits: Of Q(c|x), (batch, K).
        categories: (batch,) int64, those of which x was made.

    Returns:
        Scalar.
    """
    return math.log(logits.shape[1]) - F.cross_entropy(at_least_float32(logits), categories)


def gaussian_information(mean: Tensor, log_std: Tensor, codes: Tensor) -> Tensor:
    """The bound for standard normal codes and a factored Gaussian Q, summed over codes.

    Args:
        mean: Of Q(c|x), (batch, codes).
        log_std: Log standard deviation of Q(c|x), same shape.
        codes: Same shape, those of which x was made.

    Returns:
        Scalar.
    """
    entropy = 0.5 * math.log(2 * math.pi * math.e) * codes.shape[1]
    return entropy - gaussian_nll(codes, mean, log_std).mean()
