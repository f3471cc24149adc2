"""Minibatch discrimination against sums over pairs of samples."""

from __future__ import annotations

import math

import pytest
import torch

from hf_genmodels import DCGANDiscriminator, MLPDiscriminator, SNGANDiscriminator, UserError
from hf_genmodels.blocks.minibatch import MinibatchDiscrimination


def slow_closeness(layer, features, i, kernel):
    """Mean over the other samples j of exp(-||M_i - M_j||_1), one product after the other."""
    rows = layer.project.weight.tolist()[kernel * layer.kernel_dim : (kernel + 1) * layer.kernel_dim]
    projected = [[sum(w * f for w, f in zip(row, sample, strict=True)) for row in rows] for sample in features]
    others = [j for j in range(len(features)) if j != i]
    found = [math.exp(-sum(abs(a - b) for a, b in zip(projected[i], projected[j], strict=True))) for j in others]
    return sum(found) / len(others)


def test_closeness_to_the_other_samples():
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(3, kernels=2, kernel_dim=4).double()
    features = torch.randn(5, 3, dtype=torch.float64)
    features[1] = features[0]
    features.requires_grad_()
    out = layer(features)
    values = features.tolist()
    expected = [[*values[i], *(slow_closeness(layer, values, i, kernel) for kernel in range(2))] for i in range(5)]
    assert out.tolist() == [pytest.approx(row) for row in expected]

    # the gradient of all closenesses by one entry, as a difference
    (gradient,) = torch.autograd.grad(out[:, 3:].sum(), features)
    sums = []
    for side in (1e-6, -1e-6):
        shifted = [list(row) for row in values]
        shifted[3][1] += side
        sums.append(sum(slow_closeness(layer, shifted, i, kernel) for i in range(5) for kernel in range(2)))
    assert gradient[3, 1].item() == pytest.approx((sums[0] - sums[1]) / 2e-6, rel=1e-5)


def test_a_sample_alone_is_close_to_none():
    layer = MinibatchDiscrimination(3, kernels=2)
    assert layer(torch.randn(1, 3))[0, 3:].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (lambda kernels: MLPDiscriminator(2, hidden_dims=(8,), minibatch_kernels=kernels), (2,)),
        (lambda kernels: DCGANDiscriminator(1, 8, width=2, norm="none", minibatch_kernels=kernels), (1, 8, 8)),
        (
            lambda kernels: SNGANDiscriminator(1, 8, (4, 4), 1, conditioning="none", minibatch_kernels=kernels),
            (1, 8, 8),
        ),
    ],
)
def test_a_logit_depends_on_its_batch_only_with_kernels(network, shape):
    torch.manual_seed(0)
    samples = torch.randn(6, *shape)
    differences = []
    for kernels in (0, 4):
        discriminator = network(kernels).eval()
        together, apart = discriminator(samples).logits[:2], discriminator(samples[:2]).logits
        differences.append((together - apart).abs().max().item())
    assert differences[0] < 1e-6 < 1e-5 < differences[1]
    with pytest.raises(UserError, match="minibatch_kernels must be at least 1, got -1"):
        network(-1)
