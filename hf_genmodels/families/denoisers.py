"""diffusers' UNet2DModel and DDPMScheduler as a family's options shape them, and as a saved model has them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..checks import check_minimums, check_unused
from ..data.spec import DataSpec
from ..errors import UserError
from ..files import read_json
from ..sizes import as_sample_size, in_words, sample_shape
from .base import adopt_saved_options, check_labels, check_shape, class_notes, load_saved

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DModel

    from ..models.vae import VAE

IMAGE_CHANNELS = (32, 64, 64)
VECTOR_CHANNELS = (64,)
MAX_NORM_GROUPS = 32
CHANNELS_IN_A_GROUP = 4
# What the paper's linear schedule goes from and to, times its 1000 steps.
LINEAR_BETAS = (0.1, 20.0)


@dataclass
class UNetArguments:
    """Options that shape a U-Net."""

    block_out_channels: list[int] | None = field(
        default=None,
        metadata={"help": "Widths of the levels, each of half the size (default: 32 64 64; one of 64 for vectors)."},
    )
    layers_per_block: int = field(default=2, metadata={"help": "Residual blocks of a level."})
    attention: bool = field(
        default=False, metadata={"help": "Self-attention in all levels but the first, not in the middle alone."}
    )
    dropout: float = field(default=0.0, metadata={"help": "Dropout in the residual blocks."})


@dataclass
class DenoiserArguments(UNetArguments):
    """Options of every family that trains one denoising network."""

    # Ho et al. 2020, appendix B, and the clipping of their code
    loop_defaults: ClassVar[dict[str, Any]] = {"learning_rate": 2e-4, "use_ema": True, "max_grad_norm": 1.0}

    class_conditional: bool = field(
        default=False, metadata={"help": "Tell the network the class, for samples with classifier-free guidance."}
    )
    label_dropout: float = field(
        default=0.1, metadata={"help": "class_conditional: how often the network is not told the class."}
    )
    vae_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of a trained VAE, in whose latents to diffuse."}
    )

    def learns_variances(self) -> bool:
        """Whether the network gives the variance of each step, too."""
        return False


@dataclass(frozen=True)
class Parts:
    """The networks of an objective, new or saved.

    Attributes:
        unet: Denoises.
        vae: In whose latents; None for the data themselves.
        scaling_factor: What latents are multiplied by.
        notes: See `Objective.notes`.
    """

    unet: Any
    vae: Any = None
    scaling_factor: float = 1.0
    notes: tuple[str, ...] = ()

    def options(self, args: DenoiserArguments) -> dict[str, Any]:
        """Arguments of a `DenoisingObjective` about classes and latents."""
        return {
            "class_conditional": args.class_conditional,
            "label_dropout": args.label_dropout,
            "vae": self.vae,
            "scaling_factor": self.scaling_factor,
        }

    @property
    def is_image(self) -> bool:
        """Whether what is denoised are images, no vectors or latents."""
        return bool(self.unet.config.sample_size != 1)


def check_denoiser(args: DenoiserArguments) -> None:
    """Refuse impossible values of the options that all denoising families have.

    Raises:
        UserError: One line that names the option.
    """
    check_unet(args)
    check_share(args, "label_dropout")
    if not args.class_conditional:
        check_unused(args, "without --class_conditional", "label_dropout")


def check_unet(args: UNetArguments) -> None:
    """Refuse impossible values of the options that shape a U-Net, but for its levels, see `find_levels`.

    Raises:
        UserError: One line that names the option.
    """
    check_minimums(args, layers_per_block=1)
    check_share(args, "dropout")


def check_share(args: Any, name: str) -> None:
    """Refuse a share of an option that does not lie in [0, 1).

    Raises:
        UserError: One line that names the option.
    """
    if not 0 <= getattr(args, name) < 1:
        raise UserError(f"--{name} must lie in [0, 1), got {getattr(args, name)}")


# networks ------------------------------------------------------------------------------------------------------------


def build_networks(args: DenoiserArguments, data: DataSpec) -> Parts:
    """A new denoising network, and the VAE in whose latents it works if the options name one.

    Raises:
        UserError: The data have no labels for it to know, the VAE takes other samples, or the options do not fit them.
    """
    num_classes = check_labels(data, "--class_conditional") if args.class_conditional else None
    if args.vae_model_name_or_path is None:
        return Parts(build_unet(args, data.shape, num_classes, data.name))
    vae = load_vae(args.vae_model_name_or_path)
    check_shape(vae, data)
    return Parts(build_unet(args, (vae.config.latent_dim,), num_classes, "the VAE"), vae)


def load_networks(folder: Path, args: DenoiserArguments, data: DataSpec) -> Parts:
    """The networks of a saved model, or of a checkpoint; `args` take over what shapes them.

    diffusers' first models have no folder `unet`.

    Raises:
        UserError: They are missing or damaged, do not fit the data, or an option would change them.
    """
    from diffusers import UNet2DModel

    from ..loading import load_network

    if args.vae_model_name_or_path is not None:
        raise UserError("--vae_model_name_or_path cannot be changed with --pretrained_model_name_or_path")
    unet = load_network(UNet2DModel, folder / "unet" if (folder / "unet").is_dir() else folder)
    known_options = {name: value for name, value in saved_unet_options(unet.config).items() if hasattr(args, name)}
    adopt_saved_options(args, known_options)
    check_denoiser(args)
    known = unet.config.num_class_embeds
    if args.class_conditional and check_labels(data, "this model") != known - 1:
        raise UserError(f"the saved network knows {known - 1} classes, {data.name} has {len(data.class_names or ())}")
    notes = class_notes(folder, data) if args.class_conditional else ()
    if has_latents(folder):
        vae, scaling_factor = load_latents(folder)
        check_shape(vae, data)
        return Parts(unet, vae, scaling_factor, notes)
    found = sample_shape(unet.config.in_channels, unet.config.sample_size)
    if found != (data.channels, *(data.size or (1, 1))):
        raise UserError(f"the pretrained network takes samples of shape {found}, {data.name} has {data.shape}")
    return Parts(unet, notes=notes)


def norm_groups(block_out_channels: tuple[int, ...], is_image: bool) -> int:
    """Groups of the group norms: as many as divide every level's channels, up to 32, of at least 4 channels.

    A level of one pixel would be normalised away in groups of one channel; vectors, which are one pixel, have one
    group.
    """
    common, smallest = math.gcd(*block_out_channels), min(block_out_channels)
    most = min(MAX_NORM_GROUPS, smallest // CHANNELS_IN_A_GROUP) if is_image else 1
    return next(groups for groups in range(max(1, most), 0, -1) if common % groups == 0)


def find_levels(args: UNetArguments, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Widths of a U-Net's levels for samples of a shape: one level for vectors, which are one pixel.

    Args:
        args: Options of the family.
        shape: (channels, height, width), or (dim,).
        name: Of the data, for errors.

    Raises:
        UserError: The levels do not fit the shape.
    """
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
    return channels


def build_unet(args: DenoiserArguments, shape: tuple[int, ...], num_classes: int | None, name: str) -> "UNet2DModel":
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

    channels, is_image = find_levels(args, shape, name), len(shape) == 3
    deeper = "AttnDownBlock2D", "AttnUpBlock2D"
    down, up = deeper if args.attention else ("DownBlock2D", "UpBlock2D")
    return UNet2DModel(
        sample_size=as_sample_size(shape[1], shape[2]) if is_image else 1,
        in_channels=shape[0],
        out_channels=shape[0] * (2 if args.learns_variances() else 1),
        block_out_channels=channels,
        down_block_types=("DownBlock2D", *[down] * (len(channels) - 1)),
        up_block_types=(*[up] * (len(channels) - 1), "UpBlock2D"),
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


def saved_sampler(scheduler_class: Any, folder: Path) -> Any:
    """A saved pipeline's sampler as the one that its family trains with; None of a checkpoint's networks.

    Raises:
        UserError: It is damaged.
    """
    from ..loading import load_scheduler

    return load_scheduler(scheduler_class, folder / "scheduler") if (folder / "scheduler").is_dir() else None


# noise schedules -----------------------------------------------------------------------------------------------------


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


def has_latents(folder: Path) -> bool:
    """Whether a saved model, or a checkpoint of networks, is one of a VAE's latents."""
    if (folder / "model_index.json").is_file():
        return (folder / "vae").is_dir()
    return any(place.is_dir() for place in (folder / "vae", folder.parent.parent / "frozen" / "vae"))


def load_latents(folder: Path) -> tuple[Any, float]:
    """The VAE of a saved pipeline of latents, and the factor that its latents were scaled by.

    Raises:
        UserError: The folder holds no pipeline: a checkpoint's networks do not say the factor.
    """
    if not (folder / "model_index.json").is_file():
        raise UserError(f"{folder} does not say how latents were scaled; give the folder of a finished run instead")
    scaling_factor: float = read_json(folder / "model_index.json").get("scaling_factor", 1.0)
    return load_saved(folder, "vae", ("VAE",)), scaling_factor
