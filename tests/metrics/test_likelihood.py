from __future__ import annotations

import math

import pytest
import torch
from sklearn.neighbors import KernelDensity

from hf_genmodels.errors import UserError
from hf_genmodels.metrics.likelihood import choose_bandwidth, parzen_log_likelihood


@pytest.mark.parametrize("bandwidth", [0.05, 0.5, 3.0])
def test_parzen_is_a_kernel_density(bandwidth: float) -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.rand(40, 2, 3, 3, generator=generator) + 5
    data = torch.rand(11, 2, 3, 3, generator=generator) + 5
    density = KernelDensity(bandwidth=bandwidth).fit(samples.double().flatten(1).numpy())
    expected = torch.from_numpy(density.score_samples(data.double().flatten(1).numpy()))
    found = parzen_log_likelihood(samples, data, bandwidth, chunk_size=4)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_parzen_far_from_every_sample_does_not_underflow() -> None:
    found = parzen_log_likelihood(torch.zeros(5, 1), torch.tensor([[100.0]]), 0.1)
    assert found.item() == pytest.approx(-(1000**2) / 2 - math.log(0.1 * math.sqrt(2 * math.pi)), rel=1e-9)


def test_bandwidth_is_the_best_of_the_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    samples, validation = torch.randn(60, 3, generator=generator), torch.randn(30, 3, generator=generator)
    grid = (0.05, 0.2, 0.5, 0.9, 3.0)
    means = {h: KernelDensity(bandwidth=h).fit(samples.numpy()).score(validation.numpy()) for h in grid}
    assert choose_bandwidth(samples, validation, grid, chunk_size=7) == max(means, key=means.__getitem__) == 0.9


def test_parzen_refuses_other_shapes() -> None:
    with pytest.raises(UserError, match="3 and 2 dimensions"):
        parzen_log_likelihood(torch.zeros(5, 2), torch.zeros(5, 3), 1.0)
