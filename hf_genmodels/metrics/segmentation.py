"""How well predicted label maps agree with true ones, counted over all pixels of a set."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UserError


class Agreement(NamedTuple):
    """Figures of a set, each in [0, 1]; NaN for a class that is neither there nor predicted.

    Attributes:
        iou: Intersection over union of each class, (classes,).
        dice: 2 intersection / (predicted + true pixels) of each class, (classes,).
        mean_iou: Mean over the classes that have a number.
        mean_dice: The same.
        pixel_accuracy: Share of the pixels whose class is right.
    """

    iou: Tensor
    dice: Tensor
    mean_iou: float
    mean_dice: float
    pixel_accuracy: float


def overlaps(predicted: Tensor, labels: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Pixels of each image by class: the diagonal and the two margins of its confusion matrix.

    Args:
        predicted: (batch, height, width), numbers of classes.
        labels: (batch, height, width), the true ones, or `ignore_index`.
        num_classes: Classes.
        ignore_index: Of pixels that do not count, whatever is predicted there.

    Returns:
        (batch, 3, classes) int64: rightly predicted, predicted, true.

    Raises:
        UserError: Other shapes.
    """
    if predicted.shape != labels.shape or labels.ndim != 3:
        raise UserError(
            f"predicted label maps have shape {tuple(predicted.shape)}, true ones {tuple(labels.shape)}; both must be "
            "(batch, height, width)"
        )
    # what is ignored is counted as one class more, which is cut off
    counted = labels != ignore_index
    sets = torch.where(counted & (predicted == labels), labels, num_classes), predicted, labels
    rows = torch.arange(len(labels), device=labels.device)[:, None, None] * (num_classes + 1)
    counts = []
    for numbers in sets:
        places = (torch.where(counted, numbers, num_classes) + rows).flatten()
        count = torch.bincount(places, minlength=len(labels) * (num_classes + 1))
        counts.append(count.view(len(labels), num_classes + 1)[:, :num_classes])
    return torch.stack(counts, 1)


def agreement(counts: Tensor) -> Agreement:
    """The figures of a set, of the pixels of all its images together (not means over images).

    Args:
        counts: (images, 3, classes), from `overlaps`.
    """
    right, predicted, true = counts.sum(0).double()
    iou, dice = right / (predicted + true - right), 2 * right / (predicted + true)
    accuracy = (right.sum() / true.sum()).item()
    return Agreement(iou, dice, iou.nanmean().item(), dice.nanmean().item(), accuracy)
