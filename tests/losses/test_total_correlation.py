"""Total correlation against slow sums, all batches that there are, and Gaussians of which it is known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import Normal

from hf_genmodels.losses.total_correlation import batch_total_correlation, log_weights, permuted_dimensions
from tests.testing_utils.refusals import refused

KINDS = ("minibatch_weighted", "minibatch_stratified")


def posteriors(count: int, dim: int = 2) -> list[torch.Tensor]:
    """Draws, means and log standard deviations."""
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = (torch.randn(count, dim, generator=generator, dtype=torch.float64) for _ in range(3))
    mean, log_std = mean.requires_grad_(), (log_std / 2 - 1).requires_grad_()
    return [mean + log_std.exp() * noise, mean, log_std]


def slow_weights(kind: str, row: int, batch: int, num_examples: int) -> list[float]:
    if kind == "minibatch_weighted":
        return [1 / (num_examples * batch)] * batch
    others = batch - 1
    weights = [1 / others] * batch
    weights[row] = 1 / num_examples
    weights[(row + 1) % batch] = (num_examples - others) / (num_examples * others)
    return weights


@pytest.mark.parametrize("kind", KINDS)
def test_estimates_are_slow_sums_and_so_are_their_gradients(kind: str) -> None:
    latents, mean, log_std = posteriors(4)
    expected = []
    for row in (2, 3):
        of_each = [Normal(mean[k], log_std[k].exp()).log_prob(latents[row]).exp() for k in range(4)]
        weights = slow_weights(kind, row, 4, 50)
        joint = sum(weight * density.prod() for weight, density in zip(weights, of_each, strict=True))
        marginals = [sum(w * density[j] for w, density in zip(weights, of_each, strict=True)) for j in range(2)]
        expected.append(joint.log() - marginals[0].log() - marginals[1].log())
    actual = batch_total_correlation(kind, latents[2:], mean, log_std, 50, first_row=2)
    assert actual.tolist() == pytest.approx([each.item() for each in expected], rel=1e-5)
    wanted = torch.autograd.grad(sum(expected), [mean, log_std], retain_graph=True)
    got = torch.autograd.grad(actual.sum(), [mean, log_std])
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.flatten().tolist() == pytest.approx(theirs.flatten().tolist(), rel=1e-3, abs=1e-5)


def test_stratified_density_is_unbiased_over_all_batches() -> None:
    """q(z) = 1/N sum_n q(z|x_n) is the mean over all ordered batches that hold the draw's own example."""
    latents, mean, log_std = (each.detach() for each in posteriors(5))
    densities = torch.stack([Normal(mean[k], log_std[k].exp()).log_prob(latents[0]).sum().exp() for k in range(5)])
    weights = log_weights("minibatch_stratified", 1, 3, 5, 0)[0].exp().double()
    found = [weights @ densities[[0, *others]] for others in itertools.permutations(range(1, 5), 2)]
    assert torch.stack(found).mean().item() == pytest.approx(densities.mean().item(), rel=1e-6)


def test_far_apart_posteriors_have_finite_estimates() -> None:
    mean = torch.tensor([[0.0, 0.0], [1e3, -1e3], [50.0, 50.0]])
    log_std = torch.full((3, 2), -4.0)
    found = batch_total_correlation("minibatch_stratified", mean, mean, log_std, 10)
    # each draw sees its own posterior alone, of weight 1/N: log(1/N) - 2 log(1/N)
    assert found.tolist() == pytest.approx([math.log(10)] * 3, rel=1e-4)


@pytest.mark.parametrize("batch", [1, 11])
def test_batches_without_an_estimate_are_refused(batch: int) -> None:
    one = torch.zeros(batch, 2)
    with refused(f"at least 2 and at most all 10 examples, got {batch}"):
        batch_total_correlation("minibatch_weighted", one, one, one, 10)


def test_permuted_dimensions_keep_each_dimension_and_lose_what_binds_them() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(2000, 1, generator=generator)
    codes = torch.cat([first, 2 * first + 0.1], dim=1)
    permuted = permuted_dimensions(codes, torch.rand(2000, 2, generator=generator))
    assert torch.equal(permuted.sort(0).values, codes.sort(0).values)
    assert abs(torch.corrcoef(permuted.T)[0, 1].item()) < 0.06
    by_hand = permuted_dimensions(torch.tensor([[1.0, 4.0], [2.0, 5.0]]), torch.tensor([[0.9, 0.1], [0.2, 0.7]]))
    assert by_hand.tolist() == [[2.0, 4.0], [1.0, 5.0]]
