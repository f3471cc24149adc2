"""Distances between two sets of feature vectors, and the label entropy of one set.

Everything here is a pure function of tensors, as good as if all were computed in float64; products of float32 features
stay in float32 where sums of many, or a second look, make up for it. Features are (number, dim); which network made
them is the caller's affair and has to be reported next to the number, since none of these compare across extractors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ..errors import UserError
from .neighbours import Balls, Points, count_inside
from .products import as_floats, largest, product

_ACCURACY = 1e-6  # relative error of the Frechet distance up to which the quick route will do
_ROWS = 16384  # rows turned to float64 at a time, which bounds the memory of the covariance
_COLUMNS = 256  # width of the blocks of which only one triangle is multiplied out
_BLOCK = 1024  # rows that are centred while they are in the processor's cache
_CACHED = 2**16  # numbers of a kernel matrix that are in float64 while they are there
_FEW = 256  # rows of a subset up to which the errors of float32 products do not average out
_OUTLIER = 16.0  # of the mean squared norm, beyond which a row's errors do not average out either


class KernelDistance(NamedTuple):
    """Mean and standard deviation of KID over its subsets."""

    mean: float
    std: float


class PrecisionRecall(NamedTuple):
    """Fractions in [0, 1]: of generated samples near the data, and of data near the generated samples."""

    precision: float
    recall: float


class LabelEntropy(NamedTuple):
    """Inception score, in [1, classes], and the entropies in nats behind it: score = exp(marginal - conditional)."""

    score: float
    marginal: float
    conditional: float


def check_features(features: Tensor, name: str, smallest: int = 2) -> None:
    """Raise a `UserError` unless `features` is a (number >= smallest, dim) tensor of finite numbers."""
    if features.ndim != 2:
        raise UserError(f"{name} features have shape {tuple(features.shape)}, expected (number, dim)")
    if len(features) < smallest:
        raise UserError(f"{name} features: {len(features)} rows, this metric needs at least {smallest}")
    if torch.isfinite(features.sum()):
        return
    bad = int((~torch.isfinite(features)).any(dim=1).sum())
    if bad:
        raise UserError(
            f"{name} features: {bad} of {len(features)} rows hold NaN or infinity; "
            "the samples or the extractor have diverged"
        )


def check_pair(features_a: Tensor, features_b: Tensor, smallest: int = 2) -> None:
    """`check_features` for both sets, which must have the same dimension; the first is the real one."""
    check_features(features_a, "first (real)", smallest)
    check_features(features_b, "second (generated)", smallest)
    if features_a.shape[1] != features_b.shape[1]:
        raise UserError(
            f"the features have {features_a.shape[1]} and {features_b.shape[1]} dimensions; use one extractor for both"
        )


def mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (dim,) and unbiased covariance (dim, dim) of features (number, dim), in float64.

    The mean is subtracted before multiplying, so no digits are lost to a large mean.
    """
    number, dim = features.shape
    mean = features.mean(dim=0, dtype=torch.float64)
    covariance = torch.zeros(dim, dim, dtype=torch.float64, device=features.device)
    for rows in features.split(_ROWS):
        centred = rows.double() - mean
        for start in range(0, dim, _COLUMNS):
            block = slice(start, start + _COLUMNS)
            covariance[block, start:].addmm_(centred[:, block].T, centred[:, start:])
    upper = covariance.triu_()
    return mean, (upper + upper.triu(1).T).div_(number - 1)


def _factor_of_covariance(covariance: Tensor) -> Tensor:
    """F with F^T F = covariance, (rank, dim): Cholesky, or from the eigenvectors where that breaks down."""
    variances = covariance.diagonal()
    live = variances > 0  # units that are never active are common, and would spoil Cholesky
    block = covariance if live.all() else covariance[live][:, live]
    factor, failed = torch.linalg.cholesky_ex(block, upper=True)
    if failed:
        values, vectors = torch.linalg.eigh(block)
        # Eigenvalues of this size are rounding; their roots would not be small.
        kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
        factor = values[kept].sqrt()[:, None] * vectors[:, kept].T
    if live.all():
        return factor
    whole = factor.new_zeros(len(factor), len(covariance))
    whole[:, live] = factor
    return whole


def _factor_of_features(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and F with F^T F = covariance of (number, dim) features; F has min(number, dim) rows at most."""
    number, dim = features.shape
    if number > dim:
        mean, covariance = mean_and_covariance(features)
        return mean, _factor_of_covariance(covariance)
    mean = features.mean(dim=0, dtype=torch.float64)
    return mean, (features.double() - mean) / (number - 1) ** 0.5


def _distance(mean_a: Tensor, factor_a: Tensor, mean_b: Tensor, factor_b: Tensor) -> float:
    """||m_a - m_b||^2 + Tr(S_a + S_b) - 2 * (sum of the singular values of F_a F_b^T)."""
    without_root = ((mean_a - mean_b).square().sum() + factor_a.square().sum() + factor_b.square().sum()).item()
    product = factor_a @ factor_b.T
    if product.shape[0] > product.shape[1]:
        product = product.T
    if len(product) == 0:
        return without_root
    # The roots of the Gram matrix's eigenvalues are the singular values at a third of the cost. They lose digits when
    # small: an eigenvalue off by `noise` puts its root off by noise / (2 root).
    eigenvalues = torch.linalg.eigvalsh(product @ product.T)
    noise = 10 * torch.finfo(torch.float64).eps * eigenvalues[-1]
    roots = eigenvalues.clamp(min=noise).sqrt()
    squared = without_root - 2 * roots.sum().item()
    if (noise / roots).sum().item() <= _ACCURACY * squared:
        return squared
    squared = without_root - 2 * torch.linalg.svdvals(product).sum().item()
    return max(squared, 0.0)  # a square; rounding may leave it a hair below zero


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians, ||m_a - m_b||^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)).

    Dowson & Landau 1982; as FID, Heusel et al. 2017 (arXiv 1706.08500, eq. 6). With S_a = F_a^T F_a and
    S_b = F_b^T F_b the trace of the root is the sum of the singular values of F_a F_b^T, so no root of a non-symmetric
    matrix is taken, and singular covariances need no added diagonal.

    Args:
        mean_a: (dim,).
        cov_a: (dim, dim), symmetric and positive semi-definite.
        mean_b: (dim,).
        cov_b: (dim, dim), symmetric and positive semi-definite.

    Returns:
        The distance, at least 0, in squared units of the features.

    Raises:
        UserError: The shapes do not belong together or a number is not finite.
    """
    dim = len(mean_a)
    if mean_b.shape != (dim,) or cov_a.shape != (dim, dim) or cov_b.shape != (dim, dim):
        shapes = [tuple(t.shape) for t in (mean_a, cov_a, mean_b, cov_b)]
        raise UserError(
            f"means and covariances of shapes {shapes} do not belong together, expected (dim,) and (dim, dim)"
        )
    mean_a, cov_a, mean_b, cov_b = (statistic.double() for statistic in (mean_a, cov_a, mean_b, cov_b))
    if not all(torch.isfinite(statistic).all() for statistic in (mean_a, cov_a, mean_b, cov_b)):
        raise UserError("a mean or covariance holds NaN or infinity; the features it was made from have diverged")
    return _distance(mean_a, _factor_of_covariance(cov_a), mean_b, _factor_of_covariance(cov_b))


def frechet_distance_from_features(features_a: Tensor, features_b: Tensor) -> float:
    """Frechet distance (FID) of two feature sets, (number, dim) each, with unbiased covariances.

    See `frechet_distance`. A set with no more samples than dimensions stays in its sample form, whose product costs
    less than the covariance and loses nothing to rank deficiency.

    Raises:
        UserError: Fewer than two rows, different dimensions, or numbers that are not finite.
    """
    check_pair(features_a, features_b)
    return _distance(*_factor_of_features(features_a), *_factor_of_features(features_b))


def kernel_distance(
    features_a: Tensor,
    features_b: Tensor,
    *,
    generator: Generator,
    num_subsets: int = 100,
    subset_size: int = 1000,
) -> KernelDistance:
    """KID: unbiased squared MMD with the kernel (x.y / dim + 1)^3, over random subsets.

    Binkowski et al. 2018 (arXiv 1801.01401).

    Args:
        features_a: (number, dim).
        features_b: (number, dim); the numbers may differ.
        generator: Draws the subsets, without replacement within one.
        num_subsets: Number of subsets.
        subset_size: Rows of each set in a subset.

    Returns:
        Mean and (biased) standard deviation over the subsets; the mean may be negative, being unbiased.

    Raises:
        UserError: A set smaller than `subset_size`, a subset of fewer than two, or bad features.
    """
    check_pair(features_a, features_b)
    smaller = min(len(features_a), len(features_b))
    if not 2 <= subset_size <= smaller:
        raise UserError(f"KID: subset_size {subset_size} must lie between 2 and the {smaller} rows of the smaller set")
    dim = features_a.shape[1]
    a, b = as_floats(features_a, features_b)
    # x.y + dim = (x - c).(y - c) + t(x) + t(y): of the first, small as it is, float32 keeps enough
    centre = a.mean(dim=0)
    even = subset_size > _FEW and all(_is_even(features, centre) for features in (a, b))
    dtype = a.dtype if even else torch.float64
    if not even:  # what pulls the centre away would leave the other rows no digits
        centre = torch.zeros_like(centre)

    def offsets(features: Tensor) -> Tensor:
        c = centre.double()
        products = torch.cat([rows.double() @ c for rows in features.split(_BLOCK)])
        return (products - c @ c / 2) / dim + 0.5

    def draw(features: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        index = torch.randperm(len(features), generator=generator)[:subset_size].to(features.device)
        return features[index].to(dtype).sub_(centre), offsets[index]

    offsets_a, offsets_b = offsets(a), offsets(b)
    values = []
    for _ in range(num_subsets):
        x, y = draw(a, offsets_a), draw(b, offsets_b)
        within = (_sum_within(*x) + _sum_within(*y)) / (subset_size * (subset_size - 1))
        values.append(within - 2 * _sum_of_cubes(product(x[0], y[0]), x[1], y[1], dim) / subset_size**2)
    stacked = torch.stack(values)
    return KernelDistance(stacked.mean().item(), stacked.std(correction=0).item())


def _is_even(features: Tensor, centre: Tensor) -> bool:
    """Whether no row outweighs the others so much that its errors do not average out."""
    norms = torch.cat([(rows - centre).square_().sum(1) for rows in features.split(_BLOCK)])
    return bool(norms.amax() <= _OUTLIER * norms.mean())


def _sum_within(x: Tensor, offsets: Tensor) -> Tensor:
    """Sum of the kernel over all pairs of different rows, of which one triangle is multiplied out."""
    total = offsets.new_zeros(())
    for start in range(0, len(x), _COLUMNS):
        rows, later = slice(start, start + _COLUMNS), slice(start + _COLUMNS, None)
        products = product(x[rows], x[start:])
        total += _sum_of_cubes(products[:, :_COLUMNS], offsets[rows], offsets[rows], x.shape[1], hollow=True)
        total += 2 * _sum_of_cubes(products[:, _COLUMNS:], offsets[rows], offsets[later], x.shape[1])
    return total


def _sum_of_cubes(products: Tensor, offsets_x: Tensor, offsets_y: Tensor, dim: int, hollow: bool = False) -> Tensor:
    """Sum of (products / dim + offsets)^3 in float64, without the diagonal where `hollow`."""
    total = offsets_x.new_zeros(())
    step = max(1, _CACHED // max(1, products.shape[1]))
    for start in range(0, len(products), step):
        rows = slice(start, start + step)
        kernel = (offsets_x[rows, None] + offsets_y).add_(products[rows], alpha=1 / dim)
        if hollow:
            kernel.diagonal(start).fill_(0)
        total += torch.linalg.vecdot(kernel.square().flatten(), kernel.flatten())
    return total


def precision_recall(features_a: Tensor, features_b: Tensor, *, k: int = 3, chunk_size: int = 1024) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1-2).

    The manifold of a set is the union of the balls around its points that reach to their k-th nearest neighbour in the
    set. Precision is the share of `features_b` inside the manifold of `features_a`, recall the share of `features_a`
    inside that of `features_b`.

    Args:
        features_a: Real features, (number, dim).
        features_b: Generated features, (number, dim).
        k: Neighbour whose distance is the radius; a point is not its own neighbour.
        chunk_size: Rows of either set between which distances are held in memory at a time.

    Raises:
        UserError: A set with no more than `k` rows, or bad features.
    """
    check_pair(features_a, features_b, smallest=k + 1)
    features = as_floats(features_a, features_b)
    centre = features[0].mean(dim=0)
    _, exponent = math.frexp(max(map(largest, features)))
    balls = [Balls(Points(each, centre, 2.0 ** min(-exponent, 1000), chunk_size), k) for each in features]
    inside_a, inside_b = count_inside(*balls)
    return PrecisionRecall(precision=inside_a / len(features_b), recall=inside_b / len(features_a))


def inception_score(probabilities: Tensor) -> LabelEntropy:
    """Inception score exp(E_x KL(p(y|x) || p(y))) and its entropies (Salimans et al. 2016, arXiv 1606.03498).

    The original averages over ten splits, which biases the score of small sets; here all samples are one.

    Args:
        probabilities: p(y|x) of each sample, (number, classes), rows that sum to 1.

    Raises:
        UserError: Rows that are no probabilities.
    """
    check_features(probabilities, "class probability", smallest=1)
    p = probabilities.double()
    if (p < 0).any() or (p.sum(1) - 1).abs().max() > 1e-3:
        raise UserError(
            "class probabilities must be at least 0 and sum to 1 in each row; apply a softmax to the logits"
        )
    marginal_p = p.mean(dim=0)
    marginal = -torch.xlogy(marginal_p, marginal_p).sum()
    conditional = -torch.xlogy(p, p).sum(dim=1).mean()
    return LabelEntropy((marginal - conditional).exp().item(), marginal.item(), conditional.item())
