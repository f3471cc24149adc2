"""Closed forms of noise whose level is a number: Karras' preconditioning, straight paths, variance that explodes.

Levels are (batch,); samples and noise, which is standard normal, are (batch, ...).

Sources: Karras et al. 2022 (EDM, arXiv 2206.00364), Lipman et al. 2023 (flow matching, arXiv 2210.02747), Liu et al.
2023 (rectified flow, arXiv 2209.03003), Esser et al. 2024 (SD3, arXiv 2403.03206), Song & Ermon 2019 (arXiv
1907.05600), Song et al. 2021 (arXiv 2011.13456).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def over(level: Tensor, like: Tensor) -> Tensor:
    """Levels (batch,) as factors of (batch, ...) tensors."""
    return level.reshape(-1, *[1] * (like.ndim - 1))


def normal_quantile(places: Tensor) -> Tensor:
    """Standard normal numbers at places in [0, 1) of their distribution, finite at 0, too."""
    return torch.special.ndtri(places.float().clamp(1e-6, 1 - 1e-6))


# EDM -----------------------------------------------------------------------------------------------------------------


class Preconditioning(NamedTuple):
    """D(x; sigma) = skip x + out F(inner x; noise), (batch,) each (Karras et al., eq. 7 and table 1).

    Attributes:
        skip: c_skip = sigma_data^2 / (sigma^2 + sigma_data^2).
        out: c_out = sigma sigma_data / sqrt(sigma^2 + sigma_data^2).
        inner: c_in = 1 / sqrt(sigma^2 + sigma_data^2).
        noise: c_noise = ln(sigma) / 4.
    """

    skip: Tensor
    out: Tensor
    inner: Tensor
    noise: Tensor


def precondition(sigma: Tensor, sigma_data: float) -> Preconditioning:
    """The four functions of the noise's standard deviation that wrap the network.

    Args:
        sigma: (batch,), positive.
        sigma_data: Standard deviation of the data.
    """
    total = sigma.square() + sigma_data**2
    return Preconditioning(sigma_data**2 / total, sigma * sigma_data / total.sqrt(), total.rsqrt(), sigma.log() / 4)


def edm_target(sample: Tensor, noisy: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """What F is to say for D to be the sample: (sample - c_skip noisy) / c_out (Karras et al., eq. 8).

    The weight lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 of the error of D is 1 / c_out^2, so
    that the error of F has the weight 1 at every sigma.
    """
    scales = precondition(sigma, sigma_data)
    return (sample - over(scales.skip, noisy) * noisy) / over(scales.out, noisy)


def log_normal_sigma(places: Tensor, mean: float, std: float) -> Tensor:
    """exp(N(mean, std^2)) at places in [0, 1) of its distribution (Karras et al., table 1: P_mean, P_std)."""
    return torch.exp(mean + std * normal_quantile(places))


# flow matching -------------------------------------------------------------------------------------------------------


def straight_path(sample: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x_t = (1 - t) x_0 + t epsilon (Liu et al., eq. 1, with time from the data to the noise as in diffusers)."""
    time = over(time, sample)
    return (1 - time) * sample + time * noise


def path_velocity(sample: Tensor, noise: Tensor) -> Tensor:
    """D x_t / dt = epsilon - x_0, at every t."""
    return noise - sample


def logit_normal_time(places: Tensor, mean: float, std: float) -> Tensor:
    """sigmoid(N(mean, std^2)) at places in [0, 1) of its distribution (Esser et al., eq. 19)."""
    return torch.sigmoid(mean + std * normal_quantile(places))


def shifted_time(time: Tensor, shift: float) -> Tensor:
    """Shift t / (1 + (shift - 1) t): more noise for shift > 1 (Esser et al., eq. 23)."""
    return shift * time / (1 + (shift - 1) * time)


# variance that explodes ----------------------------------------------------------------------------------------------


def geometric_sigma(places: Tensor, smallest: float, greatest: float) -> Tensor:
    """Smallest (greatest / smallest)^place: levels that are uniform on a logarithmic scale (Song et al., eq. 30)."""
    return smallest * (greatest / smallest) ** places.float()


def score_input(noisy: Tensor, sigma: Tensor) -> Tensor:
    """What the network sees of x = x_0 + sigma epsilon: x / sqrt(1 + sigma^2), of about one size at every level.

    Song et al. leave that to the norms of their network.
    """
    return noisy / over(1 + sigma.square(), noisy).sqrt()


def score_of(prediction: Tensor, sigma: Tensor) -> Tensor:
    """The score -F / sigma of a network F that predicts the noise; NCSN++ divides its output by sigma, too.

    The weight sigma^2 of the error of the score (Song & Ermon 2019, section 4.2) is 1 for F.
    """
    return -prediction / over(sigma, prediction)


def langevin_step_size(sigma: Tensor, signal_to_noise: float) -> Tensor:
    """2 (r sigma)^2, the step of a Langevin correction at a noise level.

    Song et al. (algorithm 4) take 2 (r |z| / |s|)^2 with the lengths of the step's noise z and of the score s, and for
    few samples sqrt(d) for |z|. Here |s| is sqrt(d) / sigma too, its value where the noise covers the data. That makes
    it the step of Song & Ermon 2019, proportional to sigma^2: a sample does not depend on those beside it, and none is
    thrown far away from a place where the score vanishes.
    """
    return 2 * (signal_to_noise * sigma) ** 2


def furthest(samples: Tensor) -> Tensor:
    """The greatest Euclidean distance between two of (number, ...) samples."""
    flat = samples.flatten(1).float()
    return torch.cdist(flat, flat).max()
