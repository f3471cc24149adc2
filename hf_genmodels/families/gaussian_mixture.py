"""Family `gaussian_mixture`: its options, what they need, and how its network is built from them."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..checks import check_minimums
from ..choices import CovarianceType
from ..data.spec import DataSpec
from ..errors import UserError
from .base import Family
from .closed_form import DensityArguments, check_covariance_size, density_options

if TYPE_CHECKING:
    from ..objectives.gaussian_mixture import GaussianMixtureObjective


@dataclass
class GaussianMixtureArguments(DensityArguments):
    """Options of `train_gaussian_mixture.py`."""

    num_components: int = field(default=10, metadata={"help": "Gaussians in the mixture."})
    covariance_type: CovarianceType = field(
        default="full", metadata={"help": "full (each its own), tied (one for all) or diag (each its own diagonal)."}
    )
    reg_covar: float = field(
        default=1e-6, metadata={"help": "Added to every variance in each step, on the scale of what the model takes."}
    )
    max_iter: int = field(default=100, metadata={"help": "Most steps of expectation-maximisation."})
    num_init: int = field(default=1, metadata={"help": "Starts by k-means; the most likely result is kept."})


def build(args: GaussianMixtureArguments, data: DataSpec) -> "GaussianMixtureObjective":
    """The objective with a new network; see `Family.build`."""
    from ..models.gaussian_mixture import GaussianMixtureModel
    from ..objectives.gaussian_mixture import GaussianMixtureObjective

    check_minimums(args, num_components=1, reg_covar=0, max_iter=1, num_init=1)
    if find_spec("sklearn") is None:
        raise UserError("a Gaussian mixture is fitted by scikit-learn: pip install hf_genmodels[builtin]")
    needed = max(2, args.num_components)
    if data.num_examples is not None and needed > data.num_examples:
        raise UserError(
            f"--num_components {args.num_components} needs {needed} examples, {data.name} has {data.num_examples}"
        )
    if args.covariance_type != "diag":
        check_covariance_size(data, "choose a smaller --resolution, or --covariance_type diag")
    mixture = GaussianMixtureModel(
        num_components=args.num_components, covariance_type=args.covariance_type, **density_options(args, data)
    )
    return GaussianMixtureObjective(
        mixture, data, reg_covar=args.reg_covar, max_iter=args.max_iter, num_init=args.num_init
    )


FAMILY = Family(
    "gaussian_mixture",
    "Gaussian mixture",
    GaussianMixtureArguments,
    build,
    pipeline="GaussianMixturePipeline",
    is_fitted=True,
)
