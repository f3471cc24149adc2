"""What families share that are fitted to all data at once instead of trained step by step."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..losses.dequantization import bits_per_dim, discrete_log_likelihood
from .base import Batch, Objective


@dataclass(frozen=True)
class Fit:
    """What a fit says of itself.

    Attributes:
        figures: Figures of the training data by name: one value for each step of the fit, the last of them final.
        warning: Why the result may not be good, if so: a clause for the log and the card.
    """

    figures: dict[str, list[float]]
    warning: str | None = None


class ClosedFormObjective(Objective):
    """A family without phases: `fit` sets its networks' parameters. See `Objective` for the rest."""

    phases = ()

    def fit(self, batches: Iterable[Batch], generator: torch.Generator) -> Fit:
        """Set the networks' parameters (one process calls this, with the networks on the CPU).

        Args:
            batches: Every training example once, in order, without augmentation.
            generator: CPU generator of every random number.

        Raises:
            UserError: The data allow no fit.
        """
        raise NotImplementedError


# likelihoods of a `DensityModel` -------------------------------------------------------------------------------------


def fitted_likelihoods(density: Any, log_densities: Iterable[float]) -> dict[str, list[float]]:
    """`Fit.figures`: those of `held_out_likelihoods`, over the training data.

    Args:
        density: The network.
        log_densities: For each step of the fit the mean log-density of what the network takes, nats.
    """
    log_probability = torch.tensor(list(log_densities), dtype=torch.float64)
    if (num_levels := density.config.num_levels) is not None:
        log_probability = discrete_log_likelihood(log_probability, density.dim, num_levels)
    return {name: values.tolist() for name, values in named(log_probability, density.dim).items()}


def held_out_likelihoods(density: Any, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Figures of each sample, (batch,): exact for vectors; of images a bound, by one draw of the dequantising noise.

    Args:
        density: The network.
        image: (batch, channels, height, width) in [-1, 1], or (batch, dim).
        generator: For the noise.
    """
    return named(density.log_probability(image, torch.rand(image.shape, generator=generator).to(image)), density.dim)


def named(log_probability: Tensor, dim: int) -> dict[str, Tensor]:
    """The figures that stand for log-probabilities in nats, of samples of `dim` numbers."""
    return {"negative_log_likelihood": -log_probability, "bits_per_dim": bits_per_dim(log_probability, dim)}
