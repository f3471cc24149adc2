"""The DDPM's objective: denoise samples, or a VAE's latents, to any degree of noise."""

from typing import Any, get_args

import torch
from diffusers import DDIMScheduler, ModelMixin, SchedulerMixin
from torch import Tensor

from ..checks import check_choice
from ..choices import DDPMLoss, PredictionType
from ..data.spec import DataSpec
from ..errors import UserError
from ..losses.dequantization import bits_per_dim
from ..losses.diffusion import (
    bound_terms,
    fixed_log_variances,
    learned_log_variance,
    log_variance_bounds,
    min_snr_weight,
    predicted_sample,
    prediction_target,
    q_sample,
)
from ..pipelines.conditional_ddpm import ConditionalDDPMPipeline
from ..pipelines.ddpm import DDPMPipeline
from ..pipelines.denoising import DenoisingPipeline
from ..pipelines.latent_ddpm import LatentDDPMPipeline
from ..pipelines.noise_schedules import ddim_of
from .base import Batch, Noise, Phase
from .denoising import DenoisingObjective

# Of the bound in bits a dimension, beside a mean squared error (Nichol & Dhariwal 2021, section 3.1).
BOUND_WEIGHT = 0.001


class DDPMObjective(DenoisingObjective):
    """||target - network(x_t, t)||^2 for x_t of a random time step t (Ho et al. 2020, arXiv 2006.11239, eq. 14).

    As there and in diffusers, a sample's loss is the mean over its dimensions, not the sum. The target is the noise,
    the sample or v, and the weights are 1 or the min-SNR ones (`losses/diffusion.py`).

    That is loss "simple". "vlb" is the variational bound of -log p(x_0) itself (eq. 5) in bits a dimension, of which
    the term of a sample's time step, times their number, is an estimate. "hybrid" is simple + 0.001 vlb (Nichol &
    Dhariwal 2021, arXiv 2102.09672, eq. 16): the bound teaches the variances, which the network then gives in as many
    channels more, and its gradient reaches them and the layers that they share with the mean, but not the mean's own
    output. With "vlb" variances may be learned or fixed. Time steps
    are uniform, also where the paper draws those of a large bound more often.

    Classes and a VAE's latents are as in `objectives/denoising.py`.
    """

    alpha_bar: Tensor
    least: Tensor
    greatest: Tensor
    fixed: Tensor
    loss: DDPMLoss
    num_levels: int | None

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image = batch["image"]
        timesteps = (noise.uniform((len(image),), like=image) * len(self.alpha_bar)).long()
        labels = self.told(batch, noise)
        sample = self.clean(networks, image, lambda shape: noise.normal(shape, like=image))
        epsilon = noise.normal(tuple(sample.shape), like=sample)
        errors, bound, alpha_bar = self.errors(networks["unet"], sample, timesteps, epsilon, labels)
        if self.loss == "vlb":
            return {"loss": bound.mean()}
        figures = {"denoising_mse": errors.mean()} if self.loss == "hybrid" or self.snr_gamma is not None else {}
        if self.snr_gamma is not None:
            errors = min_snr_weight(self.prediction_type, alpha_bar, self.snr_gamma) * errors
        if self.loss == "simple":
            return {"loss": errors.mean(), **figures}
        return {"loss": errors.mean() + BOUND_WEIGHT * bound.mean(), **figures, "bits_per_dim": bound.mean()}

    def errors(
        self, unet: Any, sample: Tensor, timesteps: Tensor, noise: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of each sample: mean squared error of the prediction, bound (zeros with "simple"), alpha_bar; (batch,)."""
        self.alpha_bar, self.least = self.alpha_bar.to(sample.device), self.least.to(sample.device)
        alpha_bar = self.alpha_bar[timesteps]
        conditions = {} if labels is None else {"class_labels": labels}
        noisy = q_sample(sample, noise, alpha_bar)
        output = unet(noisy, timesteps, **conditions, return_dict=False)[0].float()
        prediction, values = output[:, : sample.shape[1]], output[:, sample.shape[1] :]
        errors = (prediction - prediction_target(self.prediction_type, sample, noise, alpha_bar)).square()
        errors = errors.flatten(1).mean(1)
        if self.loss == "simple":
            return errors, torch.zeros_like(errors), alpha_bar
        mean = prediction.detach() if self.loss == "hybrid" else prediction
        predicted = predicted_sample(self.prediction_type, mean, noisy, alpha_bar)
        return errors, self.bound(sample, predicted, values, timesteps), alpha_bar

    def bound(self, sample: Tensor, predicted: Tensor, values: Tensor, timesteps: Tensor) -> Tensor:
        """The bound in bits a dimension, as the term of each sample's time step says, (batch,).

        Args:
            sample: x_0, (batch, channels, height, width).
            predicted: The network's x_0, same shape.
            values: What it says of the variances, same shape, or without channels where they are fixed.
            timesteps: (batch,).
        """
        self.fixed, self.greatest = self.fixed.to(sample.device), self.greatest.to(sample.device)
        if self.learns_variances:
            log_variance = learned_log_variance(values, self.least[timesteps], self.greatest[timesteps])
        else:
            log_variance = self.fixed[timesteps].reshape(-1, 1, 1, 1)
        terms = bound_terms(sample, predicted, log_variance, timesteps, self.alpha_bar, self.least, self.num_levels)
        return bits_per_dim(-len(self.alpha_bar) * terms, sample[0].numel())

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        data: DataSpec,
        snr_gamma: float | None = None,
        class_conditional: bool = False,
        label_dropout: float = 0.1,
        num_inference_steps: int = 50,
        vae: ModelMixin | None = None,
        scaling_factor: float = 1.0,
        loss: DDPMLoss = "simple",
    ) -> None:
        """Put the parts together.

        Args:
            unet: x_t, t -> what the scheduler's `prediction_type` says. Vectors and latents are images of one pixel.
            scheduler: The noise, a `DDPMScheduler`.
            data: What the training data look like.
            snr_gamma: gamma of the min-SNR weights (paper: 5); all weights are 1 if None.
            class_conditional: Tell the network the class; it knows one more than the data have, the last, for "any".
            label_dropout: How often it is told "any".
            num_inference_steps: DDIM steps of the pictures made during training, at most those of the scheduler.
            vae: In whose latents to diffuse; None to diffuse the data themselves.
            scaling_factor: What latents are multiplied by; `initialize` finds it for a new network.
            loss: "simple", "hybrid" or "vlb".

        Raises:
            UserError: The network makes other channels than the loss and the scheduler's `variance_type` ask for, or
                `snr_gamma` is given with loss "vlb".
        """
        if loss == "vlb" and snr_gamma is not None:
            raise UserError("DDPMObjective: snr_gamma has no meaning with loss 'vlb', which weighs by itself; drop it")
        self.learns_variances = check_variances(unet, scheduler, loss)
        steps = min(num_inference_steps, len(scheduler.alphas_cumprod))
        super().__init__(unet, scheduler, data, class_conditional, label_dropout, steps, vae, scaling_factor)
        self.alpha_bar = self.scheduler.alphas_cumprod
        # found in float64, which not every device has
        bounds = (*log_variance_bounds(self.alpha_bar), fixed_log_variances(self.alpha_bar))
        self.least, self.greatest, self.fixed = (bound.float() for bound in bounds)
        is_graded = data.is_image and vae is None and data.value_scale != 1
        self.num_levels = int(data.value_scale) + 1 if is_graded else None
        self.loss = loss
        self.prediction_type: PredictionType = self.scheduler.config.prediction_type
        self.snr_gamma = snr_gamma

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def pipeline_with(self, scheduler: SchedulerMixin, networks: dict[str, Any]) -> DenoisingPipeline:
        """The pipeline around `networks`, with any sampler."""
        parts = {"unet": networks["unet"], "scheduler": scheduler, "value_scale": self.data.value_scale}
        if "vae" in networks:
            return LatentDDPMPipeline(vae=networks["vae"], scaling_factor=self.scaling_factor, **parts)
        return ConditionalDDPMPipeline(**parts) if self.class_conditional else DDPMPipeline(**parts)

    def picture_scheduler(self, pipeline: Any) -> DDIMScheduler:
        """DDIM, which needs few steps."""
        return ddim_of(pipeline.scheduler, pipeline.trained_schedule())

    def held_out(
        self, unet: Any, sample: Tensor, places: Tensor, noise: Tensor, labels: Tensor | None
    ) -> dict[str, Tensor]:
        """Unweighted error of the prediction, and the bound where a loss has it; see `DenoisingObjective`."""
        timesteps = (places * len(self.alpha_bar)).long()
        errors, bound, _ = self.errors(unet, sample, timesteps, noise, labels)
        return {"denoising_mse": errors} | ({} if self.loss == "simple" else {"bits_per_dim": bound})


def check_variances(unet: Any, scheduler: Any, loss: DDPMLoss) -> bool:
    """Whether the network gives the variances too, once it is known that the loss can teach it what it gives.

    Raises:
        UserError: It makes other channels than it takes, or than twice as many with learned variances.
    """
    check_choice("loss", loss, get_args(DDPMLoss))
    taken = unet.config.in_channels
    made = unet.config.get("out_channels", taken)
    if made not in (taken, 2 * taken):
        raise UserError(
            f"DDPMObjective: the network makes {made} channels of {taken}: expected {taken} or {2 * taken}"
        )
    is_learned = bool(made == 2 * taken)
    kind = scheduler.config.variance_type
    if is_learned != (kind == "learned_range"):
        raise UserError(
            f"DDPMObjective: the network makes {made} channels of {taken}, and the scheduler's variance_type is "
            f"{kind!r}; twice as many go with 'learned_range'"
        )
    if is_learned and loss == "simple":
        raise UserError(
            "DDPMObjective: loss 'simple' does not teach the variances that the network predicts; use "
            "'hybrid' or 'vlb'"
        )
    if loss == "hybrid" and not is_learned:
        raise UserError("DDPMObjective: loss 'hybrid' teaches variances, and the network predicts none; use 'vlb'")
    return is_learned
