"""What families share whose density is written down and fitted to all data at once."""

import math
from dataclasses import dataclass, field
from typing import Any

from ..checks import check_unused
from ..data.spec import DataSpec
from ..errors import UserError
from .levels import choose_num_levels

# The covariance of so many numbers takes half a gigabyte in float64.
LARGEST_COVARIANCE = 8192


@dataclass
class DensityArguments:
    """The option of every family whose network is a `DensityModel`."""

    num_levels: int | None = field(
        default=None, metadata={"help": "Grey levels by which images are dequantised; those of the data by default."}
    )


def density_options(args: Any, data: DataSpec) -> dict[str, Any]:
    """What the constructor of a `DensityModel` takes about the data.

    Raises:
        UserError: Grey levels were asked for of vectors, or the data have none.
    """
    num_levels = None
    if data.is_image:
        num_levels = choose_num_levels(args, data, "dequantisation")
    else:
        check_unused(args, f"for vectors, which {data.name} has", "num_levels")
    return {"in_channels": data.channels, "sample_size": data.sample_size, "num_levels": num_levels}


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
