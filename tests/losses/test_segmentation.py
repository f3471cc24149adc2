"""Losses of label maps against their formulas, pixel by pixel; gradients; weights of classes."""

from __future__ import annotations

import math
import re

import pytest
import torch

from hf_genmodels.losses.segmentation import balanced_weights, cross_entropy, soft_dice_loss
from tests.testing_utils.refusals import refused

CLASSES, IGNORED = 3, 9


def batch(seed=0, scale=2.0):
    """Logits of two images, the second of which ignores half of its pixels and lacks class 2."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, CLASSES, 4, 5, generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(CLASSES, (2, 4, 5), generator=generator)
    labels[1] = labels[1].clamp(max=1)
    labels[1, :2] = IGNORED
    return logits.requires_grad_(), labels


def probabilities(logits):
    """Of the classes of one pixel."""
    powers = [math.exp(value) for value in logits]
    return [power / sum(powers) for power in powers]


def pixels(logits, labels):
    """(probabilities, label) of the pixels of one image that count."""
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            if labels[row, column] != IGNORED:
                yield probabilities(logits[:, row, column].tolist()), int(labels[row, column])


def slow_cross_entropy(logits, labels, weights):
    means = []
    for each, truth in zip(logits.detach(), labels, strict=True):
        losses = [-weights[y] * math.log(p[y]) for p, y in pixels(each, truth)]
        means.append(sum(losses) / len(losses))
    return sum(means) / len(means)


def slow_dice(logits, labels, weights):
    total = 0.0
    for each, truth in zip(logits.detach(), labels, strict=True):
        known = list(pixels(each, truth))
        for k in range(CLASSES):
            both = sum(p[k] for p, y in known if y == k)
            sums = sum(p[k] for p, y in known) + sum(y == k for _, y in known)
            total += weights[k] * (1 - (2 * both + 1) / (sums + 1))
    return total / (len(logits) * sum(weights))


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0], [0.5, 2.0, 7.0]], ids=str)
@pytest.mark.parametrize(
    ("loss", "slow"), [(cross_entropy, slow_cross_entropy), (soft_dice_loss, slow_dice)], ids=["cross-entropy", "Dice"]
)
def test_losses_are_their_formulas(loss, slow, weights):
    logits, labels = batch()
    given = None if weights is None else torch.tensor(weights)
    found = loss(logits, labels, IGNORED, given).mean()
    assert found.item() == pytest.approx(slow(logits, labels, weights or [1.0] * CLASSES), rel=1e-9)
    assert torch.autograd.gradcheck(lambda each: loss(each, labels, IGNORED, given), logits)
    (gradient,) = torch.autograd.grad(found, logits)
    assert (gradient[1, :, :2] == 0).all() and (gradient[0] != 0).any()


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice_loss])
def test_an_image_has_its_loss_whatever_is_beside_it(loss):
    """Two processes with an image each do as one with both."""
    logits, labels = batch()
    weights = torch.tensor([1.0, 2.0, 3.0])
    apart = [loss(logits[[i]], labels[[i]], IGNORED, weights).item() for i in range(2)]
    assert loss(logits, labels, IGNORED, weights).tolist() == pytest.approx(apart) and apart[0] != apart[1]


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice_loss])
def test_losses_are_finite_in_half_precision_and_without_any_class(loss):
    logits, labels = batch(scale=1e4)
    found = loss(logits.to(torch.bfloat16), torch.full_like(labels, IGNORED), IGNORED)
    assert found.dtype == torch.float32 and found.tolist() == [0, 0]
    far = loss(logits.half(), labels, IGNORED).mean()
    assert far.isfinite() and torch.autograd.grad(far, logits)[0].isfinite().all()


def test_right_and_certain_is_no_loss():
    _, labels = batch()
    labels = labels.clamp(max=2)
    logits = torch.nn.functional.one_hot(labels, CLASSES).movedim(3, 1) * 100.0
    assert cross_entropy(logits, labels, IGNORED).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert soft_dice_loss(logits, labels, IGNORED).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert (soft_dice_loss(-logits, labels, IGNORED) > 0.3).all()


def test_shapes_are_compared():
    logits, labels = batch()
    message = "logits of shape (2, 3, 4, 5), (batch, classes, height, width), need labels of shape"
    for loss in (cross_entropy, soft_dice_loss):
        with refused(re.escape(message)):
            loss(logits, labels[:, None], IGNORED)


def test_balanced_weights_give_each_class_that_is_there_one_share():
    weights = balanced_weights([600, 0, 300, 100])
    assert weights == pytest.approx([1000 / 1800, 0, 1000 / 900, 1000 / 300])
    assert [count * weight for count, weight in zip([600, 300, 100], [weights[0], *weights[2:]], strict=True)] == (
        pytest.approx([1000 / 3] * 3)
    )
    with refused(re.escape("--class_weights balanced: no pixel of the training data has a class")):
        balanced_weights([0, 0])
