"""Class labels as users give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hf_genmodels.errors import UserError

# names are numbers by the time that a method sees them, see `GenerativePipeline.class_numbers`
ClassLabels = int | str | Sequence[int | str] | Tensor | None


def find_names(id2label: Mapping[Any, str], num_classes: int) -> dict[int, str]:
    """Names of classes by number, from what a file or a user says.

    Raises:
        UserError: They are not those of the classes 0 to `num_classes` - 1.
    """
    try:
        names = {int(number): name for number, name in id2label.items()}
    except (AttributeError, TypeError, ValueError):
        raise UserError("id2label must be a dict of names by the numbers of the classes") from None
    if sorted(names) != list(range(num_classes)) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"id2label must name the {num_classes} classes that the model knows, got {len(names)} names")
    return names


def find_number(name: str, id2label: Mapping[int, str]) -> int:
    """The number of the class of a name.

    Raises:
        UserError: No class, or more than one, is called so.
    """
    if not id2label:
        raise UserError(
            f"class_labels must be one whole number or a sequence of them, got {name!r}: this model has no names of "
            "classes (id2label)"
        )
    found = [number for number, each in id2label.items() if each == name]
    if len(found) != 1:
        known = list(id2label.values())
        more = f" and {len(known) - 20} more" if len(known) > 20 else ""
        raise UserError(
            f"class_labels: {len(found) or 'no'} classes are called {name!r}; choose from "
            f"{', '.join(known[:20])}{more}, or give a number"
        )
    return found[0]


def find_labels(class_labels: ClassLabels, num_classes: int | None, device: torch.device) -> Tensor | None:
    """What a user calls class labels -> (number of them,) int64 on `device`.

    Raises:
        UserError: They are no whole numbers from 0 to `num_classes` - 1, or the model knows no classes.
    """
    if class_labels is None:
        return None
    if num_classes is None:
        raise UserError("class_labels: the model was trained without classes (num_classes is None)")
    wrong = "class_labels must be one whole number or a sequence of them"
    try:
        labels = torch.as_tensor(class_labels, device=device)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(wrong) from None
    no_integers = labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
    if no_integers or labels.ndim > 1 or not labels.numel():
        raise UserError(wrong)
    labels = labels.long().reshape(-1)
    if labels.min() < 0 or labels.max() >= num_classes:
        raise UserError(
            f"class_labels must be 0 to {num_classes - 1} (num_classes is {num_classes}), "
            f"got {' '.join(str(label) for label in labels.tolist())}"
        )
    return labels


def require_labels(class_labels: ClassLabels, num_classes: int | None, device: torch.device) -> Tensor | None:
    """`find_labels`, where a conditional model cannot do without.

    Raises:
        UserError: They are missing, or as for `find_labels`.
    """
    if class_labels is None and num_classes is not None:
        raise UserError(f"the model is conditional: give class_labels (num_classes is {num_classes})")
    return find_labels(class_labels, num_classes, device)


def match_labels(labels: Tensor | None, batch_size: int) -> Tensor | None:
    """(1,) or (batch_size,) labels -> (batch_size,).

    Raises:
        UserError: Another number of them.
    """
    if labels is None:
        return None
    if len(labels) not in (1, batch_size):
        raise UserError(f"{len(labels)} class_labels for {batch_size} images; give one, or one for each image")
    return labels.expand(batch_size)


def random_labels(uniform: Tensor, num_classes: int) -> Tensor:
    """Uniform numbers in [0, 1), (batch,) -> classes, each as likely as the others."""
    return (uniform * num_classes).long().clamp(max=num_classes - 1)
