"""How well points in the plane cover a mixture whose modes are known."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ModeCoverage(NamedTuple):
    """What `mode_coverage` finds: how many modes have a sample, and the share of samples that belong to one."""

    modes: int
    high_quality: float


def mode_coverage(samples: Tensor, centres: Tensor, std: float) -> ModeCoverage:
    """Modes covered and share of high-quality samples, as for PacGAN (Lin et al. 2018, arXiv 1712.04086).

    A sample is of high quality if it lies within three standard deviations of a mode's centre, and a mode is covered
    if a sample of high quality lies there. (Of a 2-D Gaussian's own samples 98.9 % are of high quality.)

    Args:
        samples: (count, dim).
        centres: (modes, dim), at least six standard deviations apart.
        std: Of every mode.
    """
    distance, nearest = torch.cdist(samples.double(), centres.double()).min(dim=1)
    good = distance <= 3 * std
    return ModeCoverage(len(nearest[good].unique()), good.double().mean().item())
