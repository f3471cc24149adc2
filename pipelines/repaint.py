"""RePaint (Lugmayr et al. 2022, arXiv 2201.09865): inpainting by an unconditional DDPM that goes back and forth."""

from __future__ import annotations

import torch
from torch import Tensor


def resampling_path(num_steps: int, jump_length: int, num_resamples: int) -> list[int]:
    """How many steps are left after each move of a sampler that jumps back to noisier samples (appendix B).

    On the way down, from where one step is left, and every `jump_length` steps above that, the sampler jumps up by
    `jump_length` steps, `num_resamples` - 1 times, as the authors' code does.

    Args:
        num_steps: Of the sampler.
        jump_length: j of the paper, at least 1.
        num_resamples: r of the paper, at least 1; 1 for no jumps.

    Returns:
        From `num_steps` to 0. Where a number is greater than the one before, noise is added.
    """
    jumps = dict.fromkeys(range(1, num_steps - jump_length + 1, jump_length), num_resamples - 1)
    path = [num_steps]
    while path[-1] > 0:
        path.append(path[-1] - 1)
        if jumps.get(path[-1], 0) > 0:
            jumps[path[-1]] -= 1
            path.append(path[-1] + jump_length)
    return path


def diffuse(sample: Tensor, noise: Tensor, alpha_bar: Tensor, noisier: Tensor) -> Tensor:
    """A draw from q(x_t | x_s), s < t, of standard normal `noise`.

    Args:
        sample: x_s.
        noise: Same shape.
        alpha_bar: At s.
        noisier: alpha-bar at t.
    """
    kept = noisier / alpha_bar
    return kept.sqrt() * sample + (1 - kept).sqrt() * noise


def keep_known(sample: Tensor, known: Tensor, mask: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Replace what is known by its noisy version, exact where alpha-bar is 1 (eq. 8a and 8c).

    Args:
        sample: x_t, (batch, channels, height, width).
        known: The image in [-1, 1] where `mask` is 1; whatever elsewhere.
        mask: (1 or channels, height, width), 1 where a pixel is known.
        noise: Standard normal, the shape of `sample`.
        alpha_bar: At t.
    """
    noisy = diffuse(known, noise, torch.ones_like(alpha_bar), alpha_bar)
    return torch.where(mask.to(sample) > 0, noisy, sample)
