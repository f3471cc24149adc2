"""Agreement of label maps and errors of depths against formulas written out."""

from __future__ import annotations

import math
import re

import pytest
import torch

from hf_genmodels.metrics.depth import DEPTH_ERRORS, NEAREST, depth_errors
from hf_genmodels.metrics.segmentation import agreement, overlaps
from tests.testing_utils.refusals import refused


def maps(seed=0, classes=4, ignored=255):
    """Predictions and labels of three images of different shares; nobody has the last class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes - 1, (3, 5, 6), generator=generator)
    predicted = torch.where(torch.rand(3, 5, 6, generator=generator) < 0.6, labels, labels.flip(2))
    labels[1, :3] = ignored
    labels[2] = 1
    return predicted, labels


def test_figures_are_of_the_pixels_of_all_images_together():
    predicted, labels = maps()
    found = agreement(torch.cat([overlaps(predicted[:1], labels[:1], 4), overlaps(predicted[1:], labels[1:], 4)]))
    pairs = [(p, y) for p, y in zip(predicted.flatten().tolist(), labels.flatten().tolist(), strict=True) if y != 255]
    for k in range(3):
        both = sum(p == y == k for p, y in pairs)
        ours, theirs = sum(p == k for p, _ in pairs), sum(y == k for _, y in pairs)
        assert found.iou[k].item() == pytest.approx(both / (ours + theirs - both))
        assert found.dice[k].item() == pytest.approx(2 * both / (ours + theirs))
    assert found.iou[3].isnan() and found.dice[3].isnan()
    assert found.mean_iou == pytest.approx(found.iou[:3].mean().item())
    assert found.mean_dice == pytest.approx(found.dice[:3].mean().item())
    assert found.pixel_accuracy == pytest.approx(sum(p == y for p, y in pairs) / len(pairs))
    per_image = [agreement(overlaps(predicted[[i]], labels[[i]], 4)).mean_iou for i in range(3)]
    assert found.mean_iou != pytest.approx(sum(per_image) / 3, abs=1e-3)


def test_predictions_have_the_shape_of_the_labels():
    predicted, labels = maps()
    with refused(re.escape("predicted label maps have shape (3, 5, 6), true ones (3, 1, 5, 6)")):
        overlaps(predicted, labels[:, None], 4)


def depths(seed=0):
    """Three images, of the first of which half and of the second nothing was measured."""
    generator = torch.Generator().manual_seed(seed)
    depth = torch.rand(3, 1, 4, 4, generator=generator).clamp(min=0.05)
    predicted = (depth * torch.exp(0.4 * torch.randn(3, 1, 4, 4, generator=generator))).clamp(max=1)
    depth[0, :, :2], depth[1], predicted[2, 0, 0, 0] = 0, 0, 0
    return depth, predicted


def test_depth_errors_are_those_of_the_paper_image_by_image():
    depth, predicted = depths()
    found = depth_errors(depth, predicted, unit=20.0)
    assert tuple(found) == DEPTH_ERRORS and all(values.shape == (2,) for values in found.values())
    for place, image in enumerate((0, 2)):
        pairs = zip(depth[image].flatten().tolist(), predicted[image].flatten().tolist(), strict=True)
        valid = [(d, max(p, NEAREST)) for d, p in pairs if d > 0]

        def mean(values, valid=valid):
            return sum(values) / len(valid)

        slow = {
            "abs rel": mean(abs(d - p) / d for d, p in valid),
            "RMSE": 20 * math.sqrt(mean((d - p) ** 2 for d, p in valid)),
            "log RMSE": math.sqrt(mean((math.log(d) - math.log(p)) ** 2 for d, p in valid)),
            **{f"delta 1.25^{k}": mean(max(d / p, p / d) < 1.25**k for d, p in valid) for k in (1, 2, 3)},
        }
        assert {name: values[place].item() for name, values in found.items()} == pytest.approx(slow, rel=1e-6)


def test_depths_have_one_channel():
    depth, predicted = depths()
    with refused(re.escape("depths have shape (3, 2, 4, 4)")):
        depth_errors(depth.expand(-1, 2, -1, -1), predicted.expand(-1, 2, -1, -1))
