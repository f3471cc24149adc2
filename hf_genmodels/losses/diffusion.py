"""Closed forms of Gaussian diffusion: noising, what a network is asked for, and the variational bound.

Time steps are 1 .. T in the papers and indices 0 .. T - 1 in the code. alpha_bar, the papers' alpha with a bar, is the
product of 1 - beta up to a time step: the scheduler's `alphas_cumprod` at its index, one number or (batch,) of them.
It is alpha_bar, not one step's alpha, that noises a sample and that turns a prediction into x_0.

Sources: Ho et al. 2020 (DDPM, arXiv 2006.11239), Nichol & Dhariwal 2021 (learned variances, arXiv 2102.09672),
Salimans & Ho 2022 (v, arXiv 2202.00512), Hang et al. 2023 (min-SNR weights, arXiv 2303.09556), Xiao et al. 2022
(denoising diffusion GAN, arXiv 2112.07804).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..choices import PredictionType
from .likelihood import gaussian_nll, sum_per_sample


def _scales(alpha_bar: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar), of the sample, and sqrt(1 - alpha_bar), of the noise, as factors of (batch, ...) tensors."""
    alpha_bar = alpha_bar.to(like.device).reshape(-1, *[1] * (like.ndim - 1))
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def _wide(values: Tensor) -> Tensor:
    """In float32, unless they are in float64."""
    return values if values.dtype == torch.float64 else values.float()


def signal_to_noise(alpha_bar: Tensor) -> Tensor:
    """alpha_bar / (1 - alpha_bar)."""
    return alpha_bar / (1 - alpha_bar)


# noise and predictions -----------------------------------------------------------------------------------------------


def q_sample(sample: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon (Ho et al., eq. 4).

    Args:
        sample: x_0, (batch, ...).
        noise: epsilon, same shape, standard normal.
        alpha_bar: (batch,).
    """
    signal, spread = _scales(alpha_bar, sample)
    return signal * sample + spread * noise


def prediction_target(prediction_type: PredictionType, sample: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """What the network is to predict of x_t: epsilon, x_0, or v = sqrt(alpha_bar) epsilon - sqrt(1 - alpha_bar) x_0.

    v is that of Salimans & Ho 2022, section 4; the arguments are those of `q_sample`.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return sample
    signal, spread = _scales(alpha_bar, sample)
    return signal * noise - spread * sample


def predicted_sample(prediction_type: PredictionType, prediction: Tensor, noisy: Tensor, alpha_bar: Tensor) -> Tensor:
    """The x_0 that a prediction for x_t stands for (Ho et al., eq. 15; Salimans & Ho, section 4).

    Args:
        prediction_type: What `prediction` is of.
        prediction: (batch, ...).
        noisy: x_t, same shape.
        alpha_bar: (batch,) or one number.
    """
    if prediction_type == "sample":
        return prediction
    signal, spread = _scales(alpha_bar, noisy)
    if prediction_type == "epsilon":
        return (noisy - spread * prediction) / signal
    return signal * noisy - spread * prediction


def predicted_noise(prediction_type: PredictionType, prediction: Tensor, noisy: Tensor, alpha_bar: Tensor) -> Tensor:
    """The epsilon that a prediction for x_t stands for; arguments as for `predicted_sample`."""
    if prediction_type == "epsilon":
        return prediction
    signal, spread = _scales(alpha_bar, noisy)
    if prediction_type == "sample":
        return (noisy - signal * prediction) / spread
    return signal * prediction + spread * noisy


def guided_prediction(
    prediction_type: PredictionType, prediction: Tensor, gradient: Tensor, alpha_bar: Tensor
) -> Tensor:
    """A prediction for x_t once log p(y | x_t) has its say (Dhariwal & Nichol 2021, arXiv 2105.05233, algorithm 2).

    The score of p(x_t) p(y | x_t)^scale is the sum of both, so epsilon loses sqrt(1 - alpha_bar) times the gradient,
    and v and x_0 change with it (Salimans & Ho, section 4).

    Args:
        prediction_type: What `prediction` is of.
        prediction: (batch, ...).
        gradient: Of scale * log p(y | x_t) with respect to x_t, same shape.
        alpha_bar: (batch,) or one number.
    """
    signal, spread = _scales(alpha_bar, prediction)
    if prediction_type == "epsilon":
        return prediction - spread * gradient
    if prediction_type == "sample":
        return prediction + spread.square() / signal * gradient
    return prediction - spread / signal * gradient


def min_snr_weight(prediction_type: PredictionType, alpha_bar: Tensor, gamma: float) -> Tensor:
    """Weight of a squared error, such that the error of x_0 has the weight min(SNR, gamma) (Hang et al.).

    At a given x_t an error of x_0 is one of epsilon times 1 / sqrt(SNR), and one of v times 1 / sqrt(SNR + 1).

    Args:
        prediction_type: What the error is of.
        alpha_bar: (batch,).
        gamma: 5 in the paper.

    Returns:
        (batch,).
    """
    snr = signal_to_noise(alpha_bar)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1.0)
    weight = snr.clamp(max=gamma)
    return weight if prediction_type == "sample" else weight / (snr + 1)


# few large steps -----------------------------------------------------------------------------------------------------


def variance_preserving_betas(num_steps: int) -> list[float]:
    """Betas of the variance-preserving diffusion in so many steps (Song et al. 2021, arXiv 2011.13456, eq. 33).

    Its rate goes from 0.1 to 20, and times are evenly spread from 0.001, where the data count as clean, to 1, as in
    the code of Xiao et al.
    """
    least, greatest, start = 0.1, 20.0, 1e-3
    times = torch.linspace(start, 1, num_steps + 1, dtype=torch.float64)
    log_alpha_bars = -0.5 * times.square() * (greatest - least) - times * least
    betas: list[float] = (-torch.expm1(log_alpha_bars.diff())).tolist()
    return betas


def posterior_sample(
    sample: Tensor, noisy: Tensor, noise: Tensor, alpha_bar: Tensor, previous_alpha_bar: Tensor
) -> Tensor:
    """A draw from q(x_{t-1} | x_t, x_0), which is Gaussian (Ho et al., eq. 6 and 7).

    Args:
        sample: x_0, (batch, ...).
        noisy: x_t, same shape.
        noise: Standard normal, same shape.
        alpha_bar: Of t, (batch,).
        previous_alpha_bar: Of t - 1, (batch,); 1 before the first step, where the draw is x_0.
    """
    places = (-1, *[1] * (sample.ndim - 1))
    alpha_bar, previous = (each.to(sample.device).reshape(places) for each in (alpha_bar, previous_alpha_bar))
    alpha = alpha_bar / previous
    of_sample = previous.sqrt() * (1 - alpha) / (1 - alpha_bar)
    of_noisy = alpha.sqrt() * (1 - previous) / (1 - alpha_bar)
    variance = (1 - alpha) * (1 - previous) / (1 - alpha_bar)
    return of_sample * sample + of_noisy * noisy + variance.sqrt() * noise


# variational bound ---------------------------------------------------------------------------------------------------


def prior_kl(sample: Tensor, alpha_bar: Tensor) -> Tensor:
    """KL(q(x_T | x_0) || N(0, I)), the L_T of Ho et al., eq. 5.

    Args:
        sample: x_0, (batch, ...).
        alpha_bar: Of the last time step, one number.

    Returns:
        (batch,) nats.
    """
    alpha_bar = alpha_bar.to(sample.device)
    return sum_per_sample(0.5 * alpha_bar * (sample.float().square() - 1) - 0.5 * torch.log1p(-alpha_bar))


def log_variance_bounds(alpha_bars: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the least and greatest variance of each reverse step: beta with a tilde (Ho et al., eq. 7), beta.

    They are right where all that is known of the data is their value, or nothing (Ho et al., section 3.2). The first
    step's least variance would be 0; as in the code of Nichol & Dhariwal it is the second step's.

    Args:
        alpha_bars: Of all steps, or of those of them that a sampler takes, from the first on; two or more.

    Returns:
        (steps,) and (steps,), float64.
    """
    alpha_bars = alpha_bars.double()
    previous = torch.cat([torch.ones_like(alpha_bars[:1]), alpha_bars[:-1]])
    greatest = 1 - alpha_bars / previous
    least = greatest * (1 - previous) / (1 - alpha_bars)
    return torch.cat([least[1:2], least[1:]]).log(), greatest.log()


def fixed_log_variances(alpha_bars: Tensor) -> Tensor:
    """Log sigma^2 of reverse steps with the posterior variance, and beta_1 in the first, where that is 0; (steps,)."""
    least, greatest = log_variance_bounds(alpha_bars)
    return torch.cat([greatest[:1], least[1:]])


def learned_log_variance(values: Tensor, least: Tensor, greatest: Tensor) -> Tensor:
    """Log sigma^2 of a network that says where it lies between its bounds (Nichol & Dhariwal, eq. 15).

    As in their code and in diffusers (`variance_type="learned_range"`) -1 stands for the least and 1 for the greatest,
    and nothing keeps values between the two.

    Args:
        values: The second half of the network's channels, (batch, ...).
        least: See `log_variance_bounds`, (batch,).
        greatest: Likewise.

    Returns:
        (batch, ...) in float32, or the type of `values` if that is wider.
    """
    values = _wide(values)
    least, greatest = (
        bound.to(values.device, values.dtype).reshape(-1, *[1] * (values.ndim - 1)) for bound in (least, greatest)
    )
    share = (values + 1) / 2
    return share * greatest + (1 - share) * least


def posterior_kl(
    sample: Tensor,
    predicted: Tensor,
    alpha_bar: Tensor,
    previous_alpha_bar: Tensor,
    log_ratio: Tensor | None = None,
) -> Tensor:
    """KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), the L_{t-1} of Ho et al., eq. 5, for t > 1.

    p is q with the predicted x_0 in place of the true one: the means (eq. 7) differ by sqrt(previous_alpha_bar)
    beta_t / (1 - alpha_bar) times the error of x_0. Where both have the posterior variance (beta with a tilde, eq.
    7), what comes out is half the error's square times the loss of signal-to-noise ratio from t - 1 to t.

    Args:
        sample: x_0, (batch, ...).
        predicted: The network's x_0, same shape.
        alpha_bar: Of t, (batch,).
        previous_alpha_bar: Of t - 1, (batch,).
        log_ratio: log of the posterior variance over that of p, (batch, ...) or broadcast against it; None for 0.

    Returns:
        (batch,) nats.
    """
    # the ratios' difference, without what cancels in it
    loss = (previous_alpha_bar - alpha_bar) / ((1 - alpha_bar) * (1 - previous_alpha_bar))
    loss = loss.to(sample.device)
    squared = (_wide(sample) - _wide(predicted)).square()
    if log_ratio is None:
        return 0.5 * loss * sum_per_sample(squared)
    distance = torch.exp(log_ratio) * squared * loss.reshape(-1, *[1] * (sample.ndim - 1))
    return 0.5 * sum_per_sample(distance + torch.expm1(log_ratio) - log_ratio)


def discretized_gaussian_log_likelihood(sample: Tensor, mean: Tensor, log_std: Tensor, num_levels: int) -> Tensor:
    """Log-probability of grey levels whose continuous value is Gaussian (Ho et al., eq. 13).

    A level has what lies closer to it than to its neighbours; the darkest and the brightest have the tails too.

    Args:
        sample: (batch, ...) on the grid 2 k / (num_levels - 1) - 1 of [-1, 1].
        mean: Same shape.
        log_std: Broadcasts against `sample`.
        num_levels: 256 for 8-bit images.

    Returns:
        (batch,) nats.
    """
    half = 1 / (num_levels - 1)
    centred, precision = _wide(sample) - _wide(mean), torch.exp(-_wide(log_std))
    lower = torch.where(sample < half - 1, -math.inf, (centred - half) * precision)
    upper = torch.where(sample > 1 - half, math.inf, (centred + half) * precision)
    # The same interval on the side of the mean where distribution functions are small and their logarithms exact.
    swap = lower + upper > 0
    lower, upper = torch.where(swap, -upper, lower), torch.where(swap, -lower, upper)
    log_upper = torch.special.log_ndtr(upper)
    return sum_per_sample(log_upper + torch.log(-torch.expm1(torch.special.log_ndtr(lower) - log_upper)))


def bound_terms(
    sample: Tensor,
    predicted: Tensor,
    log_variance: Tensor,
    timesteps: Tensor,
    alpha_bars: Tensor,
    least: Tensor,
    num_levels: int | None,
) -> Tensor:
    """The bound's term of each sample's time step: L_0 at the first, else L_{t-1} (Ho et al., eq. 5).

    L_T is not among them, nothing learns by it. Nothing is read back from the device.

    Args:
        sample: x_0, (batch, ...).
        predicted: The network's x_0, same shape.
        log_variance: log sigma^2 of the reverse step, same shape, or one that broadcasts against it.
        timesteps: Index of each sample's time step, (batch,).
        alpha_bars: Of all time steps, (steps,).
        least: Logarithms of the posterior variances, see `log_variance_bounds`, (steps,).
        num_levels: Grey levels of images; None for continuous data, whose L_0 is a density's.

    Returns:
        (batch,) nats.
    """
    is_first = timesteps == 0
    in_first = is_first.reshape(-1, *[1] * (sample.ndim - 1))
    # every sample goes through both, so each is asked only what it can answer, whatever the other gives
    later = timesteps.clamp(min=1)
    log_ratio = least[later].to(log_variance.dtype).reshape(in_first.shape) - log_variance
    log_ratio = torch.where(in_first, 0.0, log_ratio)
    divergence = posterior_kl(sample, predicted, alpha_bars[later], alpha_bars[later - 1], log_ratio)
    mean = torch.where(in_first, predicted, sample)
    log_std = torch.where(in_first, 0.5 * log_variance, 0.0)
    return torch.where(is_first, first_term(sample, mean, log_std, num_levels), divergence)


def first_term(sample: Tensor, mean: Tensor, log_std: Tensor, num_levels: int | None) -> Tensor:
    """L_0 = -log p(x_0 | x_1), (batch,) nats: of grey levels, or of a density where `num_levels` is None."""
    if num_levels is None:
        return gaussian_nll(sample, mean, log_std)
    return -discretized_gaussian_log_likelihood(sample, mean, log_std, num_levels)
