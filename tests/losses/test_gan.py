"""Adversarial losses against sums over probabilities, their gradients against finite differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_genmodels.losses.gan import (
    GAN_LOSSES,
    accuracy,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    with_smoothed_labels,
)
from tests.testing_utils.refusals import refused


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


# g_f(v) and f*(t) of f-GAN's table 2, with increasing g_f
ACTIVATIONS = {
    "f_kl": lambda v: v,
    "f_reverse_kl": lambda v: -math.exp(-v),
    "f_pearson": lambda v: v,
    "f_squared_hellinger": lambda v: 1 - math.exp(-v),
    "f_js": lambda v: math.log(2) - math.log(1 + math.exp(-v)),
}
CONJUGATES = {
    "f_kl": lambda t: math.exp(t - 1),
    "f_reverse_kl": lambda t: -1 - math.log(-t),
    "f_pearson": lambda t: t * t / 4 + t,
    "f_squared_hellinger": lambda t: t / (1 - t),
    "f_js": lambda t: -math.log(2 - math.exp(t)),
}


def slow_generator_loss(kind: str, fake: list[float]) -> float:
    if kind == "minimax":
        terms = [math.log(1 - sigmoid(d)) for d in fake]
    elif kind == "non_saturating":
        terms = [-math.log(sigmoid(d)) for d in fake]
    elif kind == "least_squares":
        terms = [(d - 1) ** 2 / 2 for d in fake]
    elif kind in ACTIVATIONS:
        terms = [-ACTIVATIONS[kind](d) for d in fake]
    else:
        terms = [-d for d in fake]
    return sum(terms) / len(terms)


def slow_discriminator_loss(kind: str, real: list[float], fake: list[float]) -> float:
    total = 0.0
    for r, f in zip(real, fake, strict=True):
        if kind == "least_squares":
            total += (r - 1) ** 2 / 2 + f**2 / 2
        elif kind == "wasserstein":
            total += f - r
        elif kind == "hinge":
            total += max(0.0, 1 - r) + max(0.0, 1 + f)
        elif kind in ACTIVATIONS:
            total += -ACTIVATIONS[kind](r) + CONJUGATES[kind](ACTIVATIONS[kind](f))
        else:
            total += -math.log(sigmoid(r)) - math.log(1 - sigmoid(f))
    return total / len(real)


REAL, FAKE = [-2.5, 0.3, 1.4, 0.0, 3.0], [0.7, -1.2, -0.1, 4.0, 0.2]


def test_the_kinds_are_those_that_are_documented():
    assert set(GAN_LOSSES) == {
        "minimax",
        "non_saturating",
        "least_squares",
        "wasserstein",
        "hinge",
        "linear_logit",
        *ACTIVATIONS,
    }


@pytest.mark.parametrize("kind", GAN_LOSSES)
@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 1, 5, 1)])
def test_losses_are_means_of_the_formulas(kind, shape):
    real, fake = torch.tensor(REAL).reshape(shape), torch.tensor(FAKE).reshape(shape)
    assert generator_loss(kind, fake).item() == pytest.approx(slow_generator_loss(kind, FAKE), rel=1e-5)
    expected = slow_discriminator_loss(kind, REAL, FAKE)
    assert discriminator_loss(kind, real, fake).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", GAN_LOSSES)
def test_gradients_are_those_of_the_formulas(kind):
    real, fake = (torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in (REAL, FAKE))
    of_generator = torch.autograd.grad(generator_loss(kind, fake), fake)[0].tolist()
    of_real, of_fake = torch.autograd.grad(discriminator_loss(kind, real, fake), [real, fake])

    def slope(function, values, index):
        # half a step of 1e-4 on each side is far from the hinge's corners at -1 and 1
        shifted = [[v + (side if i == index else 0) for i, v in enumerate(values)] for side in (5e-5, -5e-5)]
        return (function(shifted[0]) - function(shifted[1])) / 1e-4

    for index in range(len(REAL)):
        wanted = [
            slope(lambda fakes: slow_generator_loss(kind, fakes), FAKE, index),
            slope(lambda reals: slow_discriminator_loss(kind, reals, FAKE), REAL, index),
            slope(lambda fakes: slow_discriminator_loss(kind, REAL, fakes), FAKE, index),
        ]
        assert [of_generator[index], of_real[index].item(), of_fake[index].item()] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("kind", GAN_LOSSES)
def test_losses_are_finite_with_a_gradient_for_logits_of_any_size(kind):
    real, fake = torch.tensor([-500.0, 500.0]).requires_grad_(), torch.tensor([500.0, -500.0]).requires_grad_()
    loss = generator_loss(kind, fake) + discriminator_loss(kind, real, fake)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, [real, fake]))
    if kind == "non_saturating":
        assert generator_loss(kind, fake.detach()).item() == 250


@pytest.mark.parametrize("kind", ["minimax", "non_saturating", "linear_logit"])
def test_smoothed_labels_are_those_of_the_data_alone(kind):
    real, fake = (torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in (REAL, FAKE))
    smoothed = with_smoothed_labels(kind, 0.1)
    on_data = sum(-0.9 * math.log(sigmoid(r)) - 0.1 * math.log(1 - sigmoid(r)) for r in REAL) / 5
    on_fakes = sum(-math.log(1 - sigmoid(f)) for f in FAKE) / 5
    loss = discriminator_loss(smoothed, real, fake)
    assert loss.item() == pytest.approx(on_data + on_fakes)
    of_real, of_fake = torch.autograd.grad(loss, [real, fake])
    assert of_real.tolist() == pytest.approx([(sigmoid(r) - 0.9) / 5 for r in REAL])
    assert of_fake.tolist() == pytest.approx([sigmoid(f) / 5 for f in FAKE])
    assert generator_loss(smoothed, fake).item() == pytest.approx(slow_generator_loss(kind, FAKE))
    # where data and fakes are equally dense the best logit is the boundary
    boundary = torch.tensor([smoothed.boundary], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(discriminator_loss(smoothed, boundary, boundary), boundary)
    assert slope.item() == pytest.approx(0, abs=1e-12)
    assert with_smoothed_labels(kind, 0.0) == kind


@pytest.mark.parametrize("shape", [(3,), (2, 1, 2)])
def test_feature_matching_is_the_distance_of_means(shape):
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(4, *shape, generator=generator, requires_grad=True) for _ in range(2))
    loss = feature_matching_loss(real, fake)
    ours, theirs = (features.flatten(1).tolist() for features in (real, fake))
    means = [(sum(a) / 4, sum(b) / 4) for a, b in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True)]
    assert loss.item() == pytest.approx(sum((a - b) ** 2 for a, b in means), rel=1e-5)
    of_real, of_fake = torch.autograd.grad(loss, [real, fake])
    for one, other in zip(of_real.flatten(1).tolist(), of_fake.flatten(1).tolist(), strict=True):
        assert other == pytest.approx([2 * (b - a) / 4 for a, b in means], rel=1e-4, abs=1e-6)
        assert one == pytest.approx([-each for each in other], rel=1e-4, abs=1e-6)
    assert feature_matching_loss(real.bfloat16(), fake.bfloat16()).dtype == torch.float32


def test_only_the_minimax_loss_lets_go_of_a_hopeless_fake():
    slopes = {}
    for kind in ("minimax", "non_saturating", "linear_logit"):
        fake = torch.tensor([-20.0], requires_grad=True)
        (gradient,) = torch.autograd.grad(generator_loss(kind, fake), fake)
        slopes[kind] = gradient.item()
    assert slopes == pytest.approx({"minimax": 0, "non_saturating": -1, "linear_logit": -1}, abs=1e-6)


@pytest.mark.parametrize("kind", GAN_LOSSES)
def test_half_precision_logits_are_averaged_in_float32(kind):
    logits = torch.tensor(REAL).bfloat16()
    for loss in (generator_loss(kind, logits), discriminator_loss(kind, logits, logits)):
        assert loss.dtype == torch.float32
    assert generator_loss(kind, logits).item() == generator_loss(kind, logits.float()).item()


BOUNDARIES = {"least_squares": 0.5, "f_kl": 1.0}


def slow_accuracy(kind: str, real: list[float], fake: list[float]) -> float:
    def right(larger: float, smaller: float) -> float:
        return 0.5 if larger == smaller else float(larger > smaller)

    if kind == "wasserstein":
        return sum(right(r, f) for r in real for f in fake) / (len(real) * len(fake))
    boundary = BOUNDARIES.get(kind, 0.0)
    of_real, of_fake = sum(right(r, boundary) for r in real), sum(right(boundary, f) for f in fake)
    return (of_real / len(real) + of_fake / len(fake)) / 2


@pytest.mark.parametrize("kind", GAN_LOSSES)
@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 1, 5, 1)])
def test_accuracy_is_the_share_of_right_answers(kind, shape):
    real, fake = torch.tensor(REAL).reshape(shape), torch.tensor(FAKE).reshape(shape)
    value = accuracy(kind, real, fake)
    assert value.shape == ()
    assert value.item() == pytest.approx(slow_accuracy(kind, REAL, FAKE))


@pytest.mark.parametrize("kind", GAN_LOSSES)
def test_accuracy_of_discriminators_that_know_all_nothing_and_the_opposite(kind):
    centre = BOUNDARIES.get(kind, 0.0)
    above, below = centre + torch.tensor([0.1, 2.0, 9.0]), centre - torch.tensor([0.1, 3.0, 5.0])
    assert accuracy(kind, above, below).item() == 1
    assert accuracy(kind, below, above).item() == 0
    mixed = torch.cat([above, below])
    assert accuracy(kind, mixed, mixed).item() == pytest.approx(0.5)
    # the Wasserstein loss asks who scores higher, the others on which side of a boundary
    assert accuracy(kind, above + 10, above).item() == (1 if kind == "wasserstein" else 0.5)


@pytest.mark.parametrize("kind", GAN_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ties_count_half(kind, dtype):
    undecided = torch.full((3,), BOUNDARIES.get(kind, 0.0), dtype=dtype)
    assert accuracy(kind, undecided, undecided).item() == 0.5
    assert accuracy(kind, torch.full((3,), 2.0, dtype=dtype), undecided).item() == (
        1 if kind == "wasserstein" else 0.75
    )
    one, other = (torch.tensor(values, dtype=dtype) for values in ([1.0, 2.0], [2.0, 3.0]))
    assert accuracy("wasserstein", one, other).item() == 0.125
    assert accuracy("wasserstein", other, one).item() == 0.875
    assert accuracy(kind, one, other).dtype == torch.float32


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that an operation makes."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        self.numel = max([self.numel, *(tensor.numel() for tensor in tensors)])
        return result


@pytest.mark.parametrize("kind", GAN_LOSSES)
def test_accuracy_of_many_logits_takes_no_more_memory_than_they(kind):
    real, fake = torch.randn(2, 3, 1, 30, 30)
    with LargestTensor() as largest:
        accuracy(kind, real, fake)
    assert largest.numel == real.numel()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generator_loss("lsgan", torch.zeros(2)), "unknown GAN loss 'lsgan'; choose one of minimax"),
        (lambda: discriminator_loss("wgan", torch.zeros(2), torch.zeros(2)), "unknown GAN loss 'wgan'"),
        (lambda: generator_loss("hinge", torch.zeros(0)), r"fake_logits must have shape \(batch, ...\).*got \(0,\)"),
        (lambda: generator_loss("hinge", torch.tensor(1.0)), r"fake_logits must have shape.*got \(\)"),
        (lambda: discriminator_loss("hinge", torch.zeros(0), torch.zeros(0)), "real_logits must have shape"),
        (lambda: accuracy("lsgan", torch.zeros(2), torch.zeros(2)), "unknown GAN loss 'lsgan'"),
        (
            lambda: discriminator_loss("hinge", torch.zeros(3), torch.zeros(3, 10)),
            r"real_logits have shape \(3,\), fake_logits \(3, 10\)",
        ),
        (lambda: with_smoothed_labels("minimax", 1.0), r"label_smoothing must be in \[0, 1\), got 1.0"),
        (lambda: with_smoothed_labels("hinge", 0.1), "gan_loss hinge has none; choose one of minimax, non_saturating"),
        (lambda: with_smoothed_labels(GAN_LOSSES["minimax"], 0.1), "gan_loss of your own has none"),
        (
            lambda: feature_matching_loss(torch.zeros(3, 2), torch.zeros(3, 4)),
            r"real_features have shape \(3, 2\), fake_features \(3, 4\)",
        ),
    ],
)
def test_misuse_is_a_one_line_error(call, message):
    with refused(message):
        call()
