"""The DDPM's objective: denoise samples, or a VAE's latents, to any degree of noise."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from diffusers import DDIMScheduler, DDPMScheduler, ModelMixin, SchedulerMixin, UNet2DModel
from torch import Tensor

from ..data import DataSpec
from ..errors import UserError
from ..files import read_json
from ..loading import load_network
from ..losses.diffusion import PredictionType, min_snr_weight, prediction_target, q_sample
from ..models.vae import VAE
from ..pipelines.conditional_ddpm import ConditionalDDPMPipeline
from ..pipelines.ddpm import DDPMPipeline
from ..pipelines.denoising import DenoisingPipeline
from ..pipelines.latent_ddpm import LatentDDPMPipeline
from .base import (
    Batch,
    Noise,
    Objective,
    Phase,
    adopt_saved_options,
    check_labels,
    check_minimums,
    check_positive,
    check_shape,
)
from .denoisers import (
    build_scheduler,
    build_unet,
    load_scheduler,
    load_vae,
    saved_scheduler_options,
    saved_unet_options,
)


@dataclass
class DDPMArguments:
    """Options of `train_ddpm.py`; where diffusers' `train_unconditional` has them, with its names."""

    # Ho et al. 2020, appendix B, and the clipping of their code
    loop_defaults: ClassVar[dict[str, Any]] = {"learning_rate": 2e-4, "use_ema": True, "max_grad_norm": 1.0}

    prediction_type: PredictionType | None = field(
        default=None,
        metadata={
            "help": "What the network predicts: the noise, the sample, or v (Salimans & Ho 2022). Default: the noise "
            "of images, v of vectors and latents, which cannot be clipped."
        },
    )
    ddpm_num_steps: int = field(default=1000, metadata={"help": "T, time steps from a sample to noise."})
    ddpm_beta_schedule: Literal["linear", "squaredcos_cap_v2"] = field(
        default="linear",
        metadata={"help": "Variances: linear (Ho et al. 2020) or cosine (Nichol & Dhariwal 2021)."},
    )
    ddpm_num_inference_steps: int = field(
        default=50, metadata={"help": "DDIM steps of the pictures made during training; at most --ddpm_num_steps."}
    )
    snr_gamma: float | None = field(
        default=None, metadata={"help": "gamma of the min-SNR weights (paper: 5); by default all weights are 1."}
    )
    block_out_channels: list[int] | None = field(
        default=None,
        metadata={"help": "Widths of the levels, each of half the size (default: 32 64 64; one of 64 for vectors)."},
    )
    layers_per_block: int = field(default=2, metadata={"help": "Residual blocks of a level."})
    attention: bool = field(
        default=False, metadata={"help": "Self-attention in all levels but the first, not in the middle alone."}
    )
    dropout: float = field(default=0.0, metadata={"help": "Dropout in the residual blocks."})
    class_conditional: bool = field(
        default=False, metadata={"help": "Tell the network the class, for samples with classifier-free guidance."}
    )
    label_dropout: float = field(
        default=0.1, metadata={"help": "class_conditional: how often the network is not told the class."}
    )
    vae_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of a trained VAE, in whose latents to diffuse."}
    )

    def check(self) -> None:
        """Refuse impossible values.

        Raises:
            UserError: One line that names the option.
        """
        check_minimums(self, ddpm_num_steps=2, ddpm_num_inference_steps=1, layers_per_block=1)
        check_positive(self, "snr_gamma")
        for name in ("dropout", "label_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.label_dropout != type(self).label_dropout and not self.class_conditional:
            raise UserError("--label_dropout has no meaning without --class_conditional; leave it out")


class DDPMObjective(Objective):
    """||target - network(x_t, t)||^2 for x_t of a random time step t (Ho et al. 2020, arXiv 2006.11239, eq. 14).

    As there and in diffusers, a sample's loss is the mean over its dimensions, not the sum. The target is the noise,
    the sample or v, and the weights are 1 or the min-SNR ones (`losses/diffusion.py`).

    With classes, the network is told "any class" in place of an example's own with probability `label_dropout`, which
    classifier-free guidance needs (Ho & Salimans 2022, arXiv 2207.12598, algorithm 1).

    With a VAE, which stays as it is, the samples are draws from q(z|x) times `scaling_factor`: one over their standard
    deviation in the first batch (Rombach et al. 2022, arXiv 2112.10752, appendix G).
    """

    Arguments = DDPMArguments
    ema = ("unet",)
    phases = (Phase("denoising", trains=("unet",)),)

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: DDPMScheduler,
        data: DataSpec,
        args: DDPMArguments,
        vae: VAE | None = None,
        scaling_factor: float = 1.0,
    ) -> None:
        self.networks = {"unet": unet} if vae is None else {"vae": vae, "unet": unet}
        self.scheduler = scheduler
        self.alpha_bar: Tensor = scheduler.alphas_cumprod
        self.data = data
        self.args = args
        self.args.prediction_type = scheduler.config.prediction_type  # a run records what was chosen
        self.scaling_factor = scaling_factor

    @classmethod
    def from_args(cls, args: DDPMArguments, data: DataSpec) -> "DDPMObjective":
        args.check()
        num_classes = check_labels(data, "--class_conditional") if args.class_conditional else None
        vae, shape = None, data.shape
        if args.vae_model_name_or_path is not None:
            vae = load_vae(args.vae_model_name_or_path)
            check_shape(vae, data)
            shape = (vae.config.latent_dim,)
        scheduler = build_scheduler(args, is_image=len(shape) == 3)
        unet = build_unet(args, shape, num_classes, data.name if vae is None else "the VAE")
        return cls(unet, scheduler, data, args, vae)

    @classmethod
    def from_pretrained(cls, folder: Path, args: DDPMArguments, data: DataSpec) -> "DDPMObjective":
        """See `Objective.from_pretrained`. A checkpoint's networks do not say which noise they were trained with."""
        if args.vae_model_name_or_path is not None:
            raise UserError("--vae_model_name_or_path cannot be changed with --pretrained_model_name_or_path")
        unet = load_network(UNet2DModel, folder / "unet")
        adopt_saved_options(args, saved_unet_options(unet.config))
        args.check()
        known = unet.config.num_class_embeds
        if args.class_conditional and check_labels(data, "this model") != known - 1:
            raise UserError(
                f"the saved network knows {known - 1} classes, {data.name} has {len(data.class_names or ())}"
            )
        vae, scaling_factor = load_latents(folder) if (folder / "vae").is_dir() else (None, 1.0)
        if vae is not None:
            check_shape(vae, data)
        elif (unet.config.in_channels, unet.config.sample_size) != (data.channels, data.size or 1):
            found = (unet.config.in_channels, unet.config.sample_size)
            raise UserError(f"the pretrained network takes (channels, size) {found}, {data.name} has {data.shape}")
        if (folder / "scheduler").is_dir():
            scheduler = load_scheduler(folder)
            adopt_saved_options(args, saved_scheduler_options(scheduler.config))
        else:
            scheduler = build_scheduler(args, is_image=unet.config.sample_size != 1)
        return cls(unet, scheduler, data, args, vae, scaling_factor)

    # losses ----------------------------------------------------------------------------------------------------------

    def initialize(self, batch: Batch, reduce: Callable[[Tensor], Tensor]) -> None:
        if "vae" not in self.networks:
            return
        with torch.no_grad():
            mean, log_std = self.posterior(self.networks, batch["image"])
            second = mean.square() + torch.exp(2 * log_std)
            moments = reduce(torch.stack([mean.mean(), second.mean()]))
        self.scaling_factor = float((moments[1] - moments[0].square()).rsqrt())

    def state_dict(self) -> dict[str, Any]:
        return {"scaling_factor": self.scaling_factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaling_factor = state["scaling_factor"]

    def posterior(self, networks: dict[str, Any], image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z|x) by the frozen VAE, each (batch, latent_dim)."""
        vae = networks["vae"].eval()  # the loop puts every network into training mode
        with torch.no_grad():
            mean, log_std = vae.posterior_parameters(image)
        return mean.float(), log_std.float()

    def clean(self, networks: dict[str, Any], image: Tensor, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        """What is diffused, (batch, channels, height, width): images, vectors as one pixel, or draws from q(z|x).

        Args:
            networks: Of the loop.
            image: The data.
            draw: Standard normal numbers of a shape.
        """
        if "vae" in networks:
            mean, log_std = self.posterior(networks, image)
            image = (mean + torch.exp(log_std) * draw(tuple(mean.shape))) * self.scaling_factor
        return image if image.ndim == 4 else image[:, :, None, None]

    def errors(
        self, unet: Any, sample: Tensor, timesteps: Tensor, noise: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Mean squared error of each sample's prediction, and alpha_bar of its time step; both (batch,) float32."""
        kind = self.scheduler.config.prediction_type
        self.alpha_bar = self.alpha_bar.to(sample.device)
        alpha_bar = self.alpha_bar[timesteps]
        conditions = {} if labels is None else {"class_labels": labels}
        prediction = unet(q_sample(sample, noise, alpha_bar), timesteps, **conditions, return_dict=False)[0]
        difference = prediction.float() - prediction_target(kind, sample, noise, alpha_bar)
        return difference.square().flatten(1).mean(1), alpha_bar

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image, labels = batch["image"], None
        count = (len(image),)
        timesteps = (noise.uniform(count, like=image) * len(self.alpha_bar)).long()
        if self.args.class_conditional:
            is_dropped = noise.uniform(count, like=image) < self.args.label_dropout
            labels = torch.where(is_dropped, self.any_class, batch["label"])
        sample = self.clean(networks, image, lambda shape: noise.normal(shape, like=image))
        epsilon = noise.normal(tuple(sample.shape), like=sample)
        errors, alpha_bar = self.errors(networks["unet"], sample, timesteps, epsilon, labels)
        if self.args.snr_gamma is None:
            return {"loss": errors.mean()}
        weights = min_snr_weight(self.scheduler.config.prediction_type, alpha_bar, self.args.snr_gamma)
        return {"loss": (weights * errors).mean(), "denoising_mse": errors.mean()}

    @property
    def any_class(self) -> int:
        """The label of a conditional network that stands for no particular class."""
        number: int = self.networks["unet"].config.num_class_embeds - 1
        return number

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, ModelMixin]) -> DenoisingPipeline:
        return self.pipeline_with(self.scheduler, networks)

    def pipeline_with(self, scheduler: SchedulerMixin, networks: dict[str, Any]) -> DenoisingPipeline:
        """The pipeline around `networks`, with any sampler."""
        parts = {"unet": networks["unet"], "scheduler": scheduler, "value_scale": self.data.value_scale}
        if "vae" in networks:
            return LatentDDPMPipeline(vae=networks["vae"], scaling_factor=self.scaling_factor, **parts)
        return ConditionalDDPMPipeline(**parts) if self.args.class_conditional else DDPMPipeline(**parts)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Samples by DDIM, which needs few steps; the classes one after the other."""
        sampler: Any = self.pipeline_with(DDIMScheduler.from_config(pipeline.scheduler.config), pipeline.components)
        sampler.set_progress_bar_config(disable=True)
        count = len(batch["image"])
        labels = torch.arange(count) % self.any_class if self.args.class_conditional else None
        steps = min(self.args.ddpm_num_inference_steps, self.args.ddpm_num_steps)
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
        labels = batch["label"] if self.args.class_conditional else None
        errors, _ = self.errors(networks["unet"], sample, timesteps, draw(tuple(sample.shape)), labels)
        return {"denoising_mse": errors}


def load_latents(folder: Path) -> tuple[VAE, float]:
    """The VAE of a saved LatentDDPMPipeline, and the factor that its latents were scaled by.

    Raises:
        UserError: The folder holds no pipeline: a checkpoint's networks do not say the factor.
    """
    if not (folder / "model_index.json").is_file():
        raise UserError(f"{folder} does not say how latents were scaled; give the folder of a finished run instead")
    scaling_factor: float = read_json(folder / "model_index.json").get("scaling_factor", 1.0)
    return load_network(VAE, folder / "vae"), scaling_factor
