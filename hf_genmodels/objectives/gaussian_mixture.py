"""The Gaussian mixture's objective: maximum likelihood by expectation-maximisation, with scikit-learn."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec
from ..errors import UserError
from ..models.gaussian_mixture import GaussianMixtureModel
from ..pipelines.gaussian_mixture import GaussianMixturePipeline
from .base import Batch, check_minimums
from .closed_form import DensityArguments, DensityObjective, Fit, check_covariance_size


@dataclass
class GaussianMixtureArguments(DensityArguments):
    """Options of `train_gaussian_mixture.py`."""

    num_components: int = field(default=10, metadata={"help": "Gaussians in the mixture."})
    covariance_type: Literal["full", "tied", "diag"] = field(
        default="full", metadata={"help": "full (each its own), tied (one for all) or diag (each its own diagonal)."}
    )
    reg_covar: float = field(
        default=1e-6, metadata={"help": "Added to every variance in each step, on the scale of what the model takes."}
    )
    max_iter: int = field(default=100, metadata={"help": "Most steps of expectation-maximisation."})
    num_init: int = field(default=1, metadata={"help": "Starts by k-means; the most likely result is kept."})


class GaussianMixtureObjective(DensityObjective):
    """Expectation-maximisation from a k-means start (Dempster, Laird & Rubin 1977), as scikit-learn does it.

    Images are dequantised by one draw of the noise, which the fit then takes for data: its figures are of that draw.
    """

    Arguments = GaussianMixtureArguments

    def __init__(self, mixture: GaussianMixtureModel, data: DataSpec, options: dict[str, Any]) -> None:
        self.networks = {"mixture": mixture}
        self.data = data
        self.options = options

    @classmethod
    def from_args(cls, args: GaussianMixtureArguments, data: DataSpec) -> "GaussianMixtureObjective":
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
            num_components=args.num_components, covariance_type=args.covariance_type, **args.network_options(data)
        )
        return cls(mixture, data, {"reg_covar": args.reg_covar, "max_iter": args.max_iter, "n_init": args.num_init})

    def fit(self, batches: Iterable[Batch], generator: torch.Generator) -> Fit:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        mixture = self.density
        image = torch.cat([batch["image"] for batch in batches])
        vectors = mixture.continuous(image, torch.rand(image.shape, generator=generator)).flatten(1).double().numpy()
        expectation_maximisation = GaussianMixture(
            n_components=mixture.config.num_components,
            covariance_type=mixture.config.covariance_type,
            random_state=int(torch.randint(2**31, (), generator=generator)),
            **self.options,
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # said in our words below
                expectation_maximisation.fit(vectors)
        except ValueError as error:
            if "reg_covar" not in str(error):
                raise
            raise UserError("a component has shrunk to a point; give a larger --reg_covar") from error
        mixture.set_components(
            *(
                torch.from_numpy(array)
                for array in (
                    expectation_maximisation.weights_,
                    expectation_maximisation.means_,
                    expectation_maximisation.covariances_,
                )
            )
        )
        # a bound is that of the parameters before the step it belongs to
        log_densities = [*expectation_maximisation.lower_bounds_[1:], expectation_maximisation.score(vectors)]
        warning = None
        if not expectation_maximisation.converged_:
            warning = f"the likelihood was still rising after {len(log_densities)} steps; give a larger --max_iter"
        return Fit(self.figures(log_densities), warning)

    def pipeline(self, networks: dict[str, ModelMixin]) -> GaussianMixturePipeline:
        mixture: Any = networks["mixture"]
        return GaussianMixturePipeline(mixture=mixture, value_scale=self.data.value_scale)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        samples = pipeline(batch_size=len(batch["image"]), generator=generator, output_type="pt").images
        if not self.data.is_image:
            return {"data": batch["image"], "samples": samples}
        mixture = pipeline.mixture
        heaviest = mixture.log_weights.argsort(descending=True)[: len(samples)]
        means = mixture.shown(mixture.unflatten(mixture.means[heaviest]))
        return {"samples": samples, "means of the components": (means + 1) / 2}
