"""How well a score tells two classes apart."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UserError


def auroc(scores: Tensor, positives: Tensor) -> float:
    """Area under the ROC curve: P(score of a positive > score of a negative) + P(equal) / 2.

    This is the Mann-Whitney U statistic over the number of pairs, from the ranks with ties sharing their mean rank.

    Args:
        scores: (number,), larger for what should be found (the anomalies).
        positives: (number,), True or 1 for the positives.

    Returns:
        A number in [0, 1]; 0.5 is chance.

    Raises:
        UserError: Shapes that differ, scores that are not finite, or only one class present.
    """
    if scores.ndim != 1 or scores.shape != positives.shape:
        raise UserError(
            f"AUROC: scores of shape {tuple(scores.shape)} and labels of shape {tuple(positives.shape)}, "
            "expected (number,) for both"
        )
    if not torch.isfinite(scores).all():
        raise UserError("AUROC: the scores hold NaN or infinity")
    mask = positives.bool()
    num_positive = int(mask.sum())
    num_negative = len(mask) - num_positive
    if num_positive == 0 or num_negative == 0:
        raise UserError(f"AUROC needs both classes, got {num_positive} positives and {num_negative} negatives")
    _, value_index, counts = scores.double().unique(return_inverse=True, return_counts=True)
    mean_ranks = counts.cumsum(0).double() - (counts.double() - 1) / 2
    rank_sum = mean_ranks[value_index][mask].sum().item()
    return (rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)
