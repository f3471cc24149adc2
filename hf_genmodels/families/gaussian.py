"""Family `gaussian`: its options, and how its network is built from them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..data.spec import DataSpec
from .base import Family
from .closed_form import DensityArguments, check_covariance_size, density_options

if TYPE_CHECKING:
    from ..objectives.gaussian import GaussianObjective


@dataclass
class GaussianArguments(DensityArguments):
    """Options of `train_gaussian.py`."""

    num_components: int | None = field(
        default=None,
        metadata={"help": "Principal directions; the others share one variance. All of them by default."},
    )


def build(args: GaussianArguments, data: DataSpec) -> "GaussianObjective":
    """The objective with a new network; see `Family.build`."""
    from ..models.gaussian import GaussianModel
    from ..objectives.gaussian import GaussianObjective

    check_covariance_size(data, "choose a smaller --resolution")
    gaussian = GaussianModel(num_components=args.num_components, **density_options(args, data))
    return GaussianObjective(gaussian, data)


FAMILY = Family(
    "gaussian", "Gaussian (PCA) model", GaussianArguments, build, pipeline="GaussianPipeline", is_fitted=True
)
