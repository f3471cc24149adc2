"""Metrics whose products are in float32 against slow float64 ones, on data on which float32 alone would not do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from hf_genmodels.metrics.distribution import kernel_distance, precision_recall
from hf_genmodels.metrics.sliced_wasserstein import sliced_wasserstein


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def activations(number: int, dim: int, seed: int) -> Tensor:
    mixing = torch.randn(dim, dim, generator=seeded(7)) * torch.arange(1, dim + 1).pow(-0.5)[:, None]
    return torch.relu(torch.randn(number, dim, generator=seeded(seed)) @ mixing + 0.1 * seed)


def pair(how: str, number: int, dim: int) -> tuple[Tensor, Tensor]:
    a, b = activations(number, dim, 1), activations(number, dim, 2)
    noise = torch.randn(number, dim, generator=seeded(3))
    match how:
        case "activations":
            return a, b
        case "sizes":
            return a, b[: 2 * number // 3]
        case "large mean":
            return a + 1000, b + 1000
        case "nearly equal":
            return a, a + 1e-5 * noise
        case "permuted":
            return a, a.flip(0)
        case "copies":
            copied = a[: number // 4].repeat(4, 1)[:number]
            return copied, torch.cat([copied[: number // 2], b[: number // 2]])
        case "constant":
            a[:, dim // 2 :] = b[:, dim // 2 :] = 0.3
            return a, b
        case "collapsed":
            return a, b[:1].repeat(number, 1)
        case "two points":
            return a[:2].repeat(number // 2, 1), a[:2].repeat(number // 2, 1).flip(0)
        case "outlier":
            return torch.cat([1e4 * a[:1], a[1:]]), b
        case "huge":
            return 1e25 * a, 1e25 * b
        case "whole numbers":
            return a.round(), b.round()
        case "half precision":
            return a.half(), b.half()
        case "corners":  # of a cube: many distances are nearly equal
            corners = [torch.randint(2, (number, dim), generator=seeded(seed)).float() for seed in (1, 2)]
            return 100 + corners[0] + 1e-4 * noise, 100 + corners[1] + 1e-4 * noise.flip(0)
    raise ValueError(how)


HOWS = ("activations", "sizes", "large mean", "nearly equal", "copies", "constant", "outlier", "whole numbers")


def exact_shares(a: Tensor, b: Tensor, k: int) -> tuple[float, float]:
    x, y = a.double().numpy(), b.double().numpy()

    def distances(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return np.stack([np.square(q - row).sum(1) for row in p])

    def share(points: np.ndarray, centres: np.ndarray) -> float:
        within = distances(centres, centres)
        np.fill_diagonal(within, np.inf)
        radii = np.sort(within, axis=1)[:, k - 1]
        # copies and whole numbers tie exactly, the other data by far less than float32 and far more than this
        allowance = 1e-11 * np.square(centres - x.mean(0)).sum(1)
        return float((distances(points, centres) <= radii + allowance).any(1).mean())

    return share(y, x), share(x, y)


@pytest.mark.parametrize("how", [*HOWS, "permuted", "collapsed", "two points", "huge", "half precision", "corners"])
def test_precision_and_recall_are_those_of_float64(how: str) -> None:
    a, b = pair(how, 240, 60)
    found = precision_recall(a, b, k=3, chunk_size=50)
    assert found == exact_shares(a, b, 3)


def test_float32_alone_would_count_otherwise() -> None:
    a, b = pair("corners", 240, 60)
    radii = torch.cdist(a, a).kthvalue(4, dim=1).values
    precision, _ = exact_shares(a, b, 3)
    assert (torch.cdist(b, a) <= radii).any(1).double().mean().item() != precision


def test_more_neighbours_than_rows_in_a_block() -> None:
    a, b = pair("activations", 40, 8)
    assert precision_recall(a, b, k=9, chunk_size=4) == exact_shares(a, b, 9)


def slow_kid(a: Tensor, b: Tensor, num_subsets: int, subset_size: int, seed: int) -> tuple[float, float]:
    generator, values = seeded(seed), []
    for _ in range(num_subsets):
        x, y = (
            each[torch.randperm(len(each), generator=generator)[:subset_size]].double().numpy().astype(np.longdouble)
            for each in (a, b)
        )
        of_x, of_y, across = (np.power(p @ q.T / a.shape[1] + 1, 3) for p, q in ((x, x), (y, y), (x, y)))
        within = sum(kernel.sum() - np.trace(kernel) for kernel in (of_x, of_y))
        values.append(within / (subset_size * (subset_size - 1)) - 2 * across.mean())
    return float(np.mean(values)), float(np.std(values))


@pytest.mark.parametrize("how", [*HOWS, "permuted", "collapsed", "half precision"])
def test_kid_is_that_of_more_precise_products(how: str) -> None:
    a, b = pair(how, 400, 24)
    mean, std = slow_kid(a, b, 2, 260, seed=5)
    found = kernel_distance(a, b, generator=seeded(5), num_subsets=2, subset_size=260)
    # where the sets are nearly the same, KID is a difference near 0, and its standard error the measure of it
    assert found.mean == pytest.approx(mean, rel=1e-6, abs=1e-5 * std / math.sqrt(2))
    assert found.std == pytest.approx(std, rel=1e-5)


def slow_sliced(a: Tensor, b: Tensor, directions: int, seed: int) -> float:
    u = torch.randn(a.shape[1], directions, dtype=torch.float64, generator=seeded(seed))
    x, y = (np.sort((each.double() @ (u / u.norm(dim=0))).numpy(), axis=0) for each in (a, b))
    times = math.lcm(len(x), len(y))
    x, y = np.repeat(x, times // len(x), axis=0), np.repeat(y, times // len(y), axis=0)
    return float(np.sqrt(np.square(x - y).mean()))


@pytest.mark.parametrize("how", [*HOWS, "permuted", "collapsed", "half precision"])
def test_sliced_wasserstein_is_that_of_float64(how: str) -> None:
    a, b = pair(how, 6000, 300)
    found = sliced_wasserstein(a, b, generator=seeded(5), num_projections=16, chunk_size=6)
    assert found == pytest.approx(slow_sliced(a, b, 16, seed=5), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-22, 1e-8, 1e8, 1e19, 3e36])
def test_scales_that_float32_products_cannot_hold(scale: float) -> None:
    a, b = pair("activations", 1100, 1000)
    for metric in (precision_recall, sliced, kid):
        scaled = metric(a * scale, b * scale)
        # the same numbers in float64, whose scale is no matter
        assert scaled == pytest.approx(metric((a * scale).double(), (b * scale).double()), rel=1e-6)
    if scale > 1e-40:
        assert precision_recall(a * scale, b * scale) == precision_recall(a, b)
        assert sliced(a * scale, b * scale) == pytest.approx(scale * sliced(a, b), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_high_powers_that_float32_cannot_hold(scale: float) -> None:
    a, b = (scale * torch.randn(1100, 1000, generator=seeded(seed)) * seed for seed in (1, 2))
    of_32, of_64 = (
        sliced_wasserstein(x, y, generator=seeded(), num_projections=8, power=9.0)
        for x, y in ((a, b), (a.double(), b.double()))
    )
    assert of_32 == pytest.approx(of_64, rel=1e-6)


def sliced(a: Tensor, b: Tensor) -> float:
    return sliced_wasserstein(a, b, generator=seeded(), num_projections=8)


def kid(a: Tensor, b: Tensor) -> float:
    return kernel_distance(a, b, generator=seeded(), num_subsets=2, subset_size=400).mean


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("factor", [1e3, 1e6, 1e9, 1e15])
def test_kid_beside_a_huge_row_that_is_not_drawn(factor: float, side: int) -> None:
    sets = [torch.randn(1100, 1000, generator=seeded(seed)) for seed in (1, 2)]
    drawn = torch.stack(
        [torch.randperm(1100, generator=generator)[:400] for generator in [seeded()] for _ in range(4)]
    )
    left_out = next(row for row in range(1100) if row not in drawn)
    expected = kid(*(each.double() for each in sets))
    sets[side][left_out] *= factor
    assert kid(*sets) == pytest.approx(expected, rel=1e-5)


def test_precision_and_recall_of_the_smallest_numbers() -> None:
    a, b = (each.double() for each in pair("activations", 40, 5))
    assert precision_recall(a * 1e-150, b * 1e-150) == precision_recall(a, b)
    assert precision_recall(a * 1e-310, b * 1e-310).precision <= 1


def test_features_that_take_gradients() -> None:
    a, b = pair("activations", 1100, 1000)
    for metric in (precision_recall, sliced, kid):
        assert metric(a.requires_grad_(), b) == metric(a.detach(), b)


def reduced_generic() -> None:
    torch.backends.fp32_precision = "tf32"


def reduced_cuda() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def reduced_cpu() -> None:
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


@pytest.fixture
def settings_are_put_back() -> Iterator[None]:
    backends = torch.backends, torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = [backend.fp32_precision for backend in backends]
    yield
    for backend, precision in zip(backends, before, strict=True):
        backend.fp32_precision = precision


@pytest.mark.parametrize("setting", [reduced_generic, reduced_cuda, reduced_cpu])
def test_settings_of_less_precision_do_not_hold(settings_are_put_back: None, setting: Callable[[], None]) -> None:
    a, b = pair("activations", 1100, 1000)
    shares, *distances = (metric(a, b) for metric in (precision_recall, sliced, kid))
    setting()
    assert precision_recall(a, b) == shares
    assert [metric(a, b) for metric in (sliced, kid)] == pytest.approx(distances, rel=1e-6)
