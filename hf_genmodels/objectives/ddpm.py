"""The DDPM's objective: denoise samples, or a VAE's latents, to any degree of noise."""

from collections.abc import Callable
from typing import Any, get_args

import torch
from diffusers import ModelMixin, SchedulerMixin
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
from .base import Batch, Gather, Noise, Objective, Phase, with_class_names

# Of the bound in bits a dimension, beside a mean squared error (Nichol & Dhariwal 2021, section 3.1).
BOUND_WEIGHT = 0.001


class DDPMObjective(Objective):
    """||target - network(x_t, t)||^2 for x_t of a random time step t (Ho et al. 2020, arXiv 2006.11239, eq. 14).

    As there and in diffusers, a sample's loss is the mean over its dimensions, not the sum. The target is the noise,
    the sample or v, and the weights are 1 or the min-SNR ones (`losses/diffusion.py`).

    That is loss "simple". "vlb" is the variational bound of -log p(x_0) itself (eq. 5) in bits a dimension, of which
    the term of a sample's time step, times their number, is an estimate. "hybrid" is simple + 0.001 vlb (Nichol &
    Dhariwal 2021, arXiv 2102.09672, eq. 16): the bound teaches the variances, which the network then gives in as many
    channels more, and its gradient does not reach the mean. With "vlb" variances may be learned or fixed. Time steps
    are uniform, also where the paper draws those of a large bound more often.

    With classes, the network is told "any class" in place of an example's own with probability `label_dropout`, which
    classifier-free guidance needs (Ho & Salimans 2022, arXiv 2207.12598, algorithm 1).

    With a VAE, which stays as it is, the samples are draws from q(z|x) times `scaling_factor`: one over their standard
    deviation in the first batch (Rombach et al. 2022, arXiv 2112.10752, appendix G).
    """

    ema = ("unet",)
    phases = (Phase("denoising", trains=("unet",)),)
    alpha_bar: Tensor

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image, labels = batch["image"], None
        count = (len(image),)
        timesteps = (noise.uniform(count, like=image) * len(self.alpha_bar)).long()
        if self.class_conditional:
            is_dropped = noise.uniform(count, like=image) < self.label_dropout
            labels = torch.where(is_dropped, self.any_class, batch["label"])
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

    def clean(self, networks: dict[str, Any], image: Tensor, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        """What is diffused, (batch, channels, height, width): images, vectors as one pixel, or draws from q(z|x).

        Args:
            networks: Of the loop.
            image: The data.
            draw: Standard normal numbers of a shape.
        """
        if "vae" in networks:
            mean, log_std = self.posterior(networks["vae"], image)
            image = (mean + torch.exp(log_std) * draw(tuple(mean.shape))) * self.scaling_factor
        return image if image.ndim == 4 else image[:, :, None, None]

    def posterior(self, vae: Any, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z|x) by the frozen VAE, each (batch, latent_dim) float32."""
        with torch.no_grad():
            mean, log_std = vae.posterior_parameters(image)
        return mean.float(), log_std.float()

    @property
    def any_class(self) -> int:
        """The label of a conditional network that stands for no particular class."""
        config: Any = self.networks["unet"].config
        number: int = config.num_class_embeds - 1
        return number

    def initialize(self, batch: Batch, noise: Noise, gather: Gather) -> None:
        """Scale latents by the standard deviation of q(z|x) over the first batch of all processes."""
        if "vae" not in self.networks:
            return
        mean, log_std = self.posterior(self.networks["vae"], batch["image"])
        second = mean.square() + torch.exp(2 * log_std)
        moments = gather(torch.stack([mean.mean(), second.mean()])[None]).mean(0)
        self.scaling_factor = float((moments[1] - moments[0].square()).rsqrt())

    def state_dict(self) -> dict[str, Any]:
        return {"scaling_factor": self.scaling_factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaling_factor = state["scaling_factor"]

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
            UserError: The network makes other channels than the loss and the scheduler's `variance_type` ask for.
        """
        self.learns_variances = check_variances(unet, scheduler, loss)
        super().__init__({"unet": unet} if vae is None else {"vae": vae, "unet": unet}, data)
        self.frozen = () if vae is None else ("vae",)
        self.scheduler: Any = scheduler
        self.alpha_bar = self.scheduler.alphas_cumprod
        # found in float64, which not every device has
        bounds = (*log_variance_bounds(self.alpha_bar), fixed_log_variances(self.alpha_bar))
        self.least, self.greatest, self.fixed = (bound.float() for bound in bounds)
        is_graded = data.is_image and vae is None and data.value_scale != 1
        self.num_levels = int(data.value_scale) + 1 if is_graded else None
        self.loss = loss
        self.prediction_type: PredictionType = self.scheduler.config.prediction_type
        self.snr_gamma, self.scaling_factor = snr_gamma, scaling_factor
        self.class_conditional, self.label_dropout = class_conditional, label_dropout
        self.num_inference_steps = min(num_inference_steps, len(self.alpha_bar))

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, ModelMixin]) -> DenoisingPipeline:
        return with_class_names(self.pipeline_with(self.scheduler, networks), self.data)

    def pipeline_with(self, scheduler: SchedulerMixin, networks: dict[str, Any]) -> DenoisingPipeline:
        """The pipeline around `networks`, with any sampler."""
        parts = {"unet": networks["unet"], "scheduler": scheduler, "value_scale": self.data.value_scale}
        if "vae" in networks:
            return LatentDDPMPipeline(vae=networks["vae"], scaling_factor=self.scaling_factor, **parts)
        return ConditionalDDPMPipeline(**parts) if self.class_conditional else DDPMPipeline(**parts)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Samples by DDIM, which needs few steps; the classes one after the other."""
        ddim = ddim_of(pipeline.scheduler, pipeline.trained_schedule())
        sampler: Any = self.pipeline_with(ddim, pipeline.components)
        sampler.set_progress_bar_config(disable=True)
        count, steps = len(batch["image"]), self.num_inference_steps
        labels = torch.arange(count) % self.any_class if self.class_conditional else None
        samples = sampler(count, generator, num_inference_steps=steps, class_labels=labels, output_type="pt").images
        return {"samples": samples} if self.data.is_image else {"data": batch["image"], "samples": samples}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Unweighted error of the prediction, at time steps spread evenly over the batch from a random first one."""
        image = batch["image"]
        places = (torch.arange(len(image)) / len(image) + torch.rand((), generator=generator)) % 1
        timesteps = (places * len(self.alpha_bar)).long().to(image.device)

        def draw(shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=generator).to(image)

        sample = self.clean(networks, image, draw)
        labels = batch["label"] if self.class_conditional else None
        errors, bound, _ = self.errors(networks["unet"], sample, timesteps, draw(tuple(sample.shape)), labels)
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
