"""Losses of networks that say for each pixel which class it shows, and weights of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from .gan import at_least_float32

# Added above and below Dice's fraction: an image that neither has a class nor is given any of it has no loss.
SMOOTHING = 1.0


def _check(logits: Tensor, labels: Tensor) -> None:
    expected = (len(logits), *logits.shape[2:])
    if logits.ndim != 4 or tuple(labels.shape) != expected:
        raise UserError(
            f"logits of shape {tuple(logits.shape)}, (batch, classes, height, width), need labels of shape "
            f"(batch, height, width), got {tuple(labels.shape)}"
        )


def cross_entropy(
    logits: Tensor, labels: Tensor, ignore_index: int = 255, class_weights: Tensor | None = None
) -> Tensor:
    """Mean over the pixels of each image of -w_y log softmax(logits)_y, in float32.

    PyTorch divides by the sum of the weights of a whole batch; here each image counts by its own number of pixels, so
    that the loss of a batch is the mean of its parts', whatever they ignore. Balanced weights have mean 1 over the
    training pixels.

    Args:
        logits: (batch, classes, height, width).
        labels: (batch, height, width), int64 numbers of classes, or `ignore_index`.
        ignore_index: Of pixels that do not count. An image of nothing else has loss 0.
        class_weights: (classes,); None for 1 each.

    Returns:
        (batch,).

    Raises:
        UserError: Shapes that do not belong together.
    """
    _check(logits, labels)
    each = F.cross_entropy(
        at_least_float32(logits),
        labels,
        weight=None if class_weights is None else class_weights.to(at_least_float32(logits)),
        ignore_index=ignore_index,
        reduction="none",
    )
    count = (labels != ignore_index).flatten(1).sum(1)
    return each.flatten(1).sum(1) / count.clamp(min=1)


def soft_dice_loss(
    logits: Tensor, labels: Tensor, ignore_index: int = 255, class_weights: Tensor | None = None
) -> Tensor:
    """1 - mean over the classes of (2 sum p g + 1) / (sum p + sum g + 1) of each image, in float32.

    p are a class's probabilities at the pixels of an image, g is 1 where it is and else 0 (F. Milletari et al., V-Net,
    3DV 2016, arXiv 1606.04797, section 3, for two classes). What differs: p and g are not squared below, as in Dice's
    own coefficient, and 1 is added to both, so that a class that an image does not have is no division by 0.

    Args:
        logits: (batch, classes, height, width).
        labels: (batch, height, width), int64 numbers of classes, or `ignore_index`.
        ignore_index: Of pixels that do not count.
        class_weights: (classes,), of which only the proportions matter; None for equal ones.

    Returns:
        (batch,), in [0, 1).

    Raises:
        UserError: Shapes that do not belong together.
    """
    _check(logits, labels)
    counted = (labels != ignore_index)[:, None]
    probabilities = at_least_float32(logits).softmax(1) * counted
    truth = F.one_hot(labels.masked_fill(~counted[:, 0], 0), logits.shape[1]).movedim(3, 1) * counted
    both, sums = ((each.flatten(2).sum(2)) for each in (probabilities * truth, probabilities + truth))
    loss = 1 - (2 * both + SMOOTHING) / (sums + SMOOTHING)  # (batch, classes)
    if class_weights is None:
        return loss.mean(1)
    weights = class_weights.to(loss)
    return (loss * weights).sum(1) / weights.sum()


def balanced_weights(pixels: Sequence[int]) -> list[float]:
    """Weights of classes under which each has the same share of the loss: all pixels / (classes x its pixels).

    Their mean over the pixels is 1. A class without pixels does not count, and has weight 0.

    Args:
        pixels: How many each class has.

    Raises:
        UserError: No class has any.
    """
    present = sum(count > 0 for count in pixels)
    if not present:
        raise UserError("--class_weights balanced: no pixel of the training data has a class")
    return [sum(pixels) / (present * count) if count else 0.0 for count in pixels]
