"""What a latent space has learnt: units in use, how near the codes are to the prior, and disentanglement."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UserError
from .distribution import check_features

ACTIVE = 0.01
BINS = 20
NEIGHBOUR = 3
ROWS = 1024  # whose distances are in memory at a time


class InformationGap(NamedTuple):
    """Mutual information gap: the mean over factors, and that of each factor, (factors,)."""

    mean: float
    of_factors: Tensor


def active_units(codes: Tensor) -> int:
    """Dimensions in use: those whose posterior mean varies with the example, Var_x E_q(z|x)[z] > 0.01.

    Burda et al. 2015 (arXiv 1509.00519, section 5.2).

    Args:
        codes: Posterior means, (examples, latent_dim).
    """
    check_features(codes, "codes")
    return int((codes.double().var(0) > ACTIVE).sum())


def aggregate_gaussian_kl(mean: Tensor, log_std: Tensor) -> float:
    """KL(N(m, S) || N(0, I)) in nats, of the mean and covariance of the aggregate posterior q(z) = E_x q(z|x).

    The KL of q(z) to the prior (the marginal KL of Hoffman & Johnson 2016, "ELBO surgery") has no closed form; this
    one is of the Gaussian with its moments, and blind to holes within them.

    Args:
        mean: Of q(z|x), (examples, latent_dim).
        log_std: Its log standard deviation, the same shape.
    """
    check_features(mean, "codes")
    mean, log_std = mean.double(), log_std.double()
    centre = mean.mean(0)
    deviation = mean - centre
    covariance = deviation.T @ deviation / len(mean) + torch.exp(2 * log_std).mean(0).diag()
    trace = covariance.trace() + centre.square().sum()
    return 0.5 * (trace - len(centre) - torch.linalg.slogdet(covariance).logabsdet).item()


def holes(codes: Tensor, prior: Tensor) -> Tensor:
    """Which draws of the prior lie where no codes are.

    A draw is near codes if it lies in the ball around one of them that reaches to its third nearest neighbour among
    the codes: the share of those that do is the precision of Kynkaanniemi et al. 2019 (arXiv 1904.06991) with the
    codes as the data. Of draws from one distribution some lie outside, too, the more the more dimensions there are.

    Args:
        codes: Draws from the aggregate posterior, (examples, latent_dim).
        prior: Draws from the prior, (draws, latent_dim).

    Returns:
        (draws,) bool.

    Raises:
        UserError: There are no more than three codes, or numbers that are not finite.
    """
    check_features(codes, "codes", smallest=NEIGHBOUR + 1)
    check_features(prior, "prior", smallest=1)
    codes, prior = codes.double(), prior.double()
    # a code is its own nearest
    radii = [torch.cdist(rows, codes).kthvalue(NEIGHBOUR + 1, dim=1).values for rows in codes.split(ROWS)]
    near = [(torch.cdist(rows, codes) <= torch.cat(radii)).any(1) for rows in prior.split(ROWS)]
    return ~torch.cat(near)


def mutual_information_gap(codes: Tensor, factors: Tensor, num_bins: int = BINS) -> InformationGap:
    """How much more the best dimension knows of each factor than the second best, as a share of the factor's entropy.

    1/K sum_k (I(z_j(k); v_k) - max_j I(z_j; v_k)) / H(v_k), the maximum over the others than the best one j(k) (Chen
    et al. 2018, arXiv 1802.04942, eq. 6). The mutual information is that of codes in bins of equal width between the
    smallest and the largest, as Locatello et al. 2019 (arXiv 1811.12359) measure it, where Chen et al. integrate over
    q(z|x): so it is for encoders without a posterior, too. Counts of few examples make both terms too large.

    Args:
        codes: Posterior means, (examples, latent_dim).
        factors: What each example was made of, (examples, K), each factor with few values.
        num_bins: Bins of each dimension.

    Raises:
        UserError: There is one dimension only, or a factor that has the same value in all examples.
    """
    check_features(codes, "codes")
    if codes.shape[1] < 2:
        raise UserError("the mutual information gap compares dimensions of the code, and there is one only")
    codes = codes.double()
    low, high = codes.amin(0), codes.amax(0)
    bins = ((codes - low) / (high - low).clamp(min=1e-300) * num_bins).long().clamp(max=num_bins - 1)
    gaps = []
    for number, column in enumerate(factors.T):
        values, places = column.unique(return_inverse=True)
        if len(values) < 2:
            raise UserError(f"factor {number} has the same value in all {len(codes)} examples; use more of them")
        information = torch.stack([_mutual_information(each, places, num_bins, len(values)) for each in bins.T])
        best = information.topk(2).values
        gaps.append((best[0] - best[1]) / _entropy(torch.bincount(places).double() / len(places)))
    of_factors = torch.stack(gaps)
    return InformationGap(of_factors.mean().item(), of_factors)


def _mutual_information(a: Tensor, b: Tensor, num_a: int, num_b: int) -> Tensor:
    """Nats that two discrete variables, (examples,) each, know of each other: I = H(a) + H(b) - H(a, b)."""
    joint = torch.bincount(a * num_b + b, minlength=num_a * num_b).reshape(num_a, num_b).double() / len(a)
    return _entropy(joint.sum(1)) + _entropy(joint.sum(0)) - _entropy(joint)


def _entropy(probabilities: Tensor) -> Tensor:
    return -torch.xlogy(probabilities, probabilities).sum()
