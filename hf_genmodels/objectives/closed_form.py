"""What families share that are fitted to all data at once instead of trained step by step."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec
from ..errors import UserError
from ..losses.dequantization import bits_per_dim, discrete_log_likelihood
from .base import Batch, Objective
from .levels import choose_num_levels

# The covariance of so many numbers takes half a gigabyte in float64.
LARGEST_COVARIANCE = 8192


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


@dataclass
class DensityArguments:
    """The option of every `DensityObjective`."""

    num_levels: int | None = field(
        default=None, metadata={"help": "Grey levels by which images are dequantised; those of the data by default."}
    )

    def network_options(self, data: DataSpec) -> dict[str, Any]:
        """What the constructor of a `DensityModel` takes about the data.

        Raises:
            UserError: Grey levels were asked for of vectors, or the data have none.
        """
        if not data.is_image and self.num_levels is not None:
            raise UserError(f"--num_levels has no meaning for vectors, which {data.name} has; leave it out")
        num_levels = choose_num_levels(self, data, "dequantisation") if data.is_image else None
        return {"in_channels": data.channels, "sample_size": data.size, "num_levels": num_levels}


class DensityObjective(ClosedFormObjective):
    """Maximum likelihood of a `DensityModel`, the only network, of images after uniform dequantisation."""

    @property
    def density(self) -> Any:
        """The network."""
        (network,) = self.networks.values()
        return network

    def figures(self, log_densities: Iterable[float]) -> dict[str, list[float]]:
        """The figures of a fit, those of `evaluate` over the training data.

        Args:
            log_densities: For each step the mean log-density of what the network takes, nats.
        """
        log_probability = torch.tensor(list(log_densities), dtype=torch.float64)
        if (num_levels := self.density.config.num_levels) is not None:
            log_probability = discrete_log_likelihood(log_probability, self.density.dim, num_levels)
        return {name: values.tolist() for name, values in self._named(log_probability).items()}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        network: Any = next(iter(networks.values()))
        image = batch["image"]
        return self._named(network.log_probability(image, torch.rand(image.shape, generator=generator).to(image)))

    def _named(self, log_probability: Tensor) -> dict[str, Tensor]:
        return {
            "negative_log_likelihood": -log_probability,
            "bits_per_dim": bits_per_dim(log_probability, self.density.dim),
        }


def check_covariance_size(data: DataSpec, advice: str) -> None:
    """Refuse samples whose covariance is too large to hold.

    Raises:
        UserError: It is; the message ends in the advice.
    """
    dim = math.prod(data.shape)
    if dim > LARGEST_COVARIANCE:
        raise UserError(
            f"{data.name} has {dim} numbers in a sample, and a covariance can be fitted of at most "
            f"{LARGEST_COVARIANCE}; {advice}"
        )
