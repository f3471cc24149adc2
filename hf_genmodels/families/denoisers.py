"""diffusers' UNet2DModel and DDPMScheduler as a family's options shape them, and as a saved model has them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..sizes import as_sample_size, in_words

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DModel

    from ..models.vae import VAE

IMAGE_CHANNELS = (32, 64, 64)
VECTOR_CHANNELS = (64,)
MAX_NORM_GROUPS = 32
CHANNELS_IN_A_GROUP = 4
# What the paper's linear schedule goes from and to, times its 1000 steps.
LINEAR_BETAS = (0.1, 20.0)


def norm_groups(block_out_channels: tuple[int, ...], is_image: bool) -> int:
    """Groups of the group norms: as many as divide every level's channels, up to 32, of at least 4 channels.

    A level of one pixel would be normalised away in groups of one channel; vectors, which are one pixel, have one
    group.
    """
    common, smallest = math.gcd(*block_out_channels), min(block_out_channels)
    most = min(MAX_NORM_GROUPS, smallest // CHANNELS_IN_A_GROUP) if is_image else 1
    return next(groups for groups in range(max(1, most), 0, -1) if common % groups == 0)


def build_unet(args: Any, shape: tuple[int, ...], num_classes: int | None, name: str) -> "UNet2DModel":
    """The denoising network for samples of a shape.

    As in Ho et al. 2020, appendix B, attention has one head and is in the middle too; here it is, where it is wanted,
    in all levels but the first, which is the dearest. For vectors the network is a dense one: one level of one pixel.

    Args:
        args: Options of the family.
        shape: (channels, height, width), or (dim,).
        num_classes: None for an unconditional network; otherwise it gets one class more, for "any".
        name: Of the data, for errors.

    Raises:
        UserError: The levels do not fit the shape.
    """
    from diffusers import UNet2DModel

    is_image = len(shape) == 3
    channels = tuple(args.block_out_channels or (IMAGE_CHANNELS if is_image else VECTOR_CHANNELS))
    levels = len(channels)
    if min(channels) < 1:
        raise UserError(f"--block_out_channels must be at least 1, got {min(channels)}")
    if is_image and max(shape[1:]) == 1:
        raise UserError(f"{name} has images of one pixel; a denoising network takes larger ones, or vectors")
    if any(side % 2 ** (levels - 1) for side in shape[1:]):
        raise UserError(
            f"--block_out_channels has {levels} levels, so height and width of images must be multiples of "
            f"{2 ** (levels - 1)}, but {name} has {in_words((shape[1], shape[2]))}; give fewer levels or another "
            "--resolution"
        )
    if not is_image and levels > 1:
        raise UserError(f"--block_out_channels must be one number for vectors, which {name} has, got {levels}")
    if args.attention and levels == 1:
        raise UserError("--attention has no meaning with one level of --block_out_channels; leave it out")
    deeper = "AttnDownBlock2D", "AttnUpBlock2D"
    down, up = deeper if args.attention else ("DownBlock2D", "UpBlock2D")
    return UNet2DModel(
        sample_size=as_sample_size(shape[1], shape[2]) if is_image else 1,
        in_channels=shape[0],
        out_channels=shape[0] * (2 if args.ddpm_variance_type == "learned_range" else 1),
        block_out_channels=channels,
        down_block_types=("DownBlock2D", *[down] * (levels - 1)),
        up_block_types=(*[up] * (levels - 1), "UpBlock2D"),
        layers_per_block=args.layers_per_block,
        dropout=args.dropout,
        attention_head_dim=None,
        norm_num_groups=norm_groups(channels, is_image),
        add_attention=is_image,
        num_class_embeds=None if num_classes is None else num_classes + 1,
    )


def saved_unet_options(config: Any) -> dict[str, Any]:
    """The options that shape a network, of a saved one's configuration."""
    return {
        "block_out_channels": list(config.block_out_channels),
        "layers_per_block": config.layers_per_block,
        "attention": any(kind.startswith("Attn") for kind in config.down_block_types),
        "dropout": config.dropout,
        "class_conditional": config.num_class_embeds is not None,
        "ddpm_variance_type": "learned_range" if config.out_channels == 2 * config.in_channels else "fixed_small",
    }


def build_scheduler(args: Any, is_image: bool) -> "DDPMScheduler":
    """The noise schedule; only images are clipped to [-1, 1] on the way.

    The linear one goes from 1e-4 to 0.02 in 1000 steps (Ho et al. 2020, section 4). With another number it ends in the
    same noise (as in the code of Nichol & Dhariwal 2021, arXiv 2102.09672): each of 100 steps takes away ten times as
    much. With the paper's values 100 steps would leave 36 % of the signal's variance, and x_T would be far from the
    noise that sampling starts with.

    By default the noise of images is predicted, as in the paper, but v of vectors. At the last time steps a small
    error in the noise is a large one in x_0, which does no harm where x_0 is clipped; without that, a sample now and
    then leaves the data for good. v has no such time steps.

    Raises:
        UserError: So few steps that the linear schedule's last one would take away more than there is.
    """
    from diffusers import DDPMScheduler

    steps = args.ddpm_num_steps
    betas = {}
    if args.ddpm_beta_schedule in ("linear", "scaled_linear", "sigmoid"):
        betas = {"beta_start": LINEAR_BETAS[0] / steps, "beta_end": LINEAR_BETAS[1] / steps}
        if not betas["beta_end"] < 1:
            raise UserError(
                f"--ddpm_beta_schedule {args.ddpm_beta_schedule} needs more than {LINEAR_BETAS[1]:.0f} "
                f"--ddpm_num_steps, got {steps}; give more, or --ddpm_beta_schedule squaredcos_cap_v2"
            )
    return DDPMScheduler(
        num_train_timesteps=steps,
        **betas,
        beta_schedule=args.ddpm_beta_schedule,
        prediction_type=args.prediction_type or ("epsilon" if is_image else "v_prediction"),
        clip_sample=is_image,
        variance_type=args.ddpm_variance_type,
    )


def load_scheduler(folder: Path, trained: Mapping[str, Any]) -> "DDPMScheduler":
    """The noise schedule of a saved pipeline, from the configuration of whichever sampler it was saved with.

    Args:
        folder: Holds `scheduler_config.json`.
        trained: What the pipeline says of the noise of its training, see `noise_schedules.schedule_of`.

    Raises:
        UserError: There is none, or it is damaged.
    """
    from diffusers import DDPMScheduler

    from .. import loading
    from ..pipelines.noise_schedules import training_scheduler

    scheduler: DDPMScheduler = loading.load_scheduler(DDPMScheduler, folder)
    if not trained:
        return scheduler
    training_scheduler(trained)
    found: DDPMScheduler = DDPMScheduler.from_config(scheduler.config, **trained)
    return found


def saved_scheduler_options(config: Any) -> dict[str, Any]:
    """The options that shape the noise schedule, of a saved one's configuration."""
    return {
        "prediction_type": config.prediction_type,
        "ddpm_num_steps": config.num_train_timesteps,
        "ddpm_beta_schedule": config.beta_schedule,
    }


def load_vae(name_or_path: str) -> "VAE":
    """The VAE of a saved VAEPipeline, or one saved by itself, in a folder or on the Hub.

    Raises:
        UserError: There is none.
    """
    from ..folders import resolve_folder
    from ..loading import load_network
    from ..models.vae import VAE

    folder = resolve_folder(name_or_path)
    return load_network(VAE, folder / "vae" if (folder / "vae").is_dir() else folder)
