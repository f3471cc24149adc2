"""The Gaussian mixture's objective: maximum likelihood by expectation-maximisation, with scikit-learn."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..errors import UserError
from ..pipelines.gaussian_mixture import GaussianMixturePipeline
from .base import Batch
from .closed_form import ClosedFormObjective, Fit, fitted_likelihoods, held_out_likelihoods


class GaussianMixtureObjective(ClosedFormObjective):
    """Expectation-maximisation from a k-means start (Dempster, Laird & Rubin 1977), as scikit-learn does it.

    Images are dequantised by one draw of the noise, which the fit then takes for data: its figures are of that draw.
    """

    pipeline_class = GaussianMixturePipeline
    ema = ("mixture",)

    def fit(self, batches: Iterable[Batch], generator: torch.Generator) -> Fit:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        mixture: Any = self.networks["mixture"]
        image = torch.cat([batch["image"] for batch in batches])
        vectors = mixture.continuous(image, torch.rand(image.shape, generator=generator)).flatten(1).double().numpy()
        expectation_maximisation = GaussianMixture(
            n_components=mixture.config.num_components,
            covariance_type=mixture.config.covariance_type,
            random_state=int(torch.randint(2**31, (), generator=generator)),
            reg_covar=self.reg_covar,
            max_iter=self.max_iter,
            n_init=self.num_init,
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
        return Fit(fitted_likelihoods(mixture, log_densities), warning)

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self, mixture: ModelMixin, data: DataSpec, reg_covar: float = 1e-6, max_iter: int = 100, num_init: int = 1
    ) -> None:
        """Put the parts together.

        Args:
            mixture: A `GaussianMixtureModel`.
            data: What the training data look like.
            reg_covar: Added to every variance in each step, on the scale of what the model takes.
            max_iter: Most steps of expectation-maximisation.
            num_init: Starts by k-means; the most likely result is kept.
        """
        super().__init__({"mixture": mixture}, data)
        self.reg_covar, self.max_iter, self.num_init = reg_covar, max_iter, num_init

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        pictures = super().sample_grid(pipeline, batch, generator)
        if self.data.is_image:
            mixture = pipeline.mixture
            heaviest = mixture.log_weights.argsort(descending=True)[: len(pictures["samples"])]
            means = mixture.shown(mixture.unflatten(mixture.means[heaviest]))
            pictures["means of the components"] = (means + 1) / 2
        return pictures

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        return held_out_likelihoods(networks["mixture"], batch["image"], generator)
