"""Family `diffusion_gan`: its options, which of them go together, and how its networks are built or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..checks import check_minimums, check_positive, check_widths
from ..data.spec import DataSpec
from .base import DISCRIMINATOR_RATE, Family, adopt_saved_options, load_networks
from .denoisers import UNetArguments, check_unet, find_levels, norm_groups, saved_sampler

if TYPE_CHECKING:
    from diffusers import DDPMScheduler

    from ..objectives.diffusion_gan import DiffusionGANObjective

MOST_BLOCKS = 4  # of the discriminator, where no one says how many
VECTOR_BLOCKS = (128, 128)


@dataclass
class DiffusionGANArguments(UNetArguments):
    """Options of `train_diffusion_gan.py`."""

    # the authors' generator's on CIFAR-10; their discriminator has a learning rate of 1.25e-4
    loop_defaults: ClassVar[dict[str, Any]] = {
        "learning_rate": 1.6e-4,
        "adam_beta1": 0.5,
        "adam_beta2": 0.9,
        "use_ema": True,
    }

    diffusion_steps: int = field(
        default=4, metadata={"help": "T: steps in which noise is added, and network calls of a sample."}
    )
    latent_dim: int = field(default=100, metadata={"help": "Dimension of the latents z of each step."})
    discriminator_channels: list[int] | None = field(
        default=None,
        metadata={
            "help": "Widths of the discriminator's blocks, all but the first of which halve an image (default: 64 128 "
            "128 128, fewer for small images; 128 128 for vectors)."
        },
    )
    discriminator_learning_rate: float | None = field(default=None, metadata=DISCRIMINATOR_RATE)
    penalty_weight: float = field(default=0.02, metadata={"help": "gamma of R1 on the less noisy sample; 0: none."})
    penalty_every: int = field(default=15, metadata={"help": "R1 in every so many steps."})


def build(args: DiffusionGANArguments, data: DataSpec) -> "DiffusionGANObjective":
    """The objective with new networks; see `Family.build`."""
    from ..models.stochastic_unet import StochasticUNet
    from ..models.time_discriminator import TimeDiscriminator

    check_values(args)
    levels = find_levels(args, data.shape, data.name)
    shape: dict[str, Any] = {"in_channels": data.channels, "sample_size": data.sample_size}
    generator = StochasticUNet(
        **shape,
        latent_dim=args.latent_dim,
        block_out_channels=levels,
        layers_per_block=args.layers_per_block,
        attention=args.attention,
        dropout=args.dropout,
        norm_num_groups=norm_groups(levels, data.is_image),
    )
    discriminator = TimeDiscriminator(**shape, block_out_channels=discriminator_channels(args, data))
    return objective(args, generator, discriminator, build_scheduler(args.diffusion_steps), data)


def reload(folder: Path, args: DiffusionGANArguments, data: DataSpec) -> "DiffusionGANObjective":
    """The objective around saved networks; see `Family.reload`. A checkpoint's do not say the steps: options do."""
    from diffusers import DDPMScheduler

    networks = load_networks(folder, data, {"generator": ("StochasticUNet",), "discriminator": ("TimeDiscriminator",)})
    generator, discriminator = networks["generator"], networks["discriminator"]
    scheduler = saved_sampler(DDPMScheduler, folder)
    steps = {} if scheduler is None else {"diffusion_steps": scheduler.config.num_train_timesteps}
    adopt_saved_options(args, saved_options(generator.config, discriminator.config) | steps)
    check_values(args)
    return objective(args, generator, discriminator, scheduler or build_scheduler(args.diffusion_steps), data)


def objective(
    args: DiffusionGANArguments, generator: Any, discriminator: Any, scheduler: Any, data: DataSpec
) -> "DiffusionGANObjective":
    """The objective with the options' numbers."""
    from ..objectives.diffusion_gan import DiffusionGANObjective

    return DiffusionGANObjective(
        generator,
        discriminator,
        scheduler,
        data,
        penalty_weight=args.penalty_weight,
        penalty_every=args.penalty_every,
        discriminator_learning_rate=args.discriminator_learning_rate,
    )


def build_scheduler(steps: int) -> "DDPMScheduler":
    """The noise in so many steps, with the draw from the posterior that sampling takes."""
    from diffusers import DDPMScheduler

    from ..losses.diffusion import variance_preserving_betas

    return DDPMScheduler(
        num_train_timesteps=steps,
        trained_betas=variance_preserving_betas(steps),
        prediction_type="sample",
        clip_sample=False,
    )


def discriminator_channels(args: DiffusionGANArguments, data: DataSpec) -> tuple[int, ...]:
    """Widths of the discriminator's blocks: by default as many as leave 4 pixels, at most four."""
    if args.discriminator_channels is not None:
        return tuple(args.discriminator_channels)
    if data.size is None:
        return VECTOR_BLOCKS
    short, long = sorted(data.size)
    halvings = 0
    while halvings < MOST_BLOCKS - 1 and short >= 8 and short % 2 == long % 2 == 0:
        short, long, halvings = short // 2, long // 2, halvings + 1
    return (64, *[128] * halvings)


def saved_options(generator: Any, discriminator: Any) -> dict[str, Any]:
    """The options that shape the networks, of saved ones' configurations."""
    return {
        "block_out_channels": list(generator.block_out_channels),
        "layers_per_block": generator.layers_per_block,
        "attention": generator.attention,
        "dropout": generator.dropout,
        "latent_dim": generator.latent_dim,
        "discriminator_channels": list(discriminator.block_out_channels),
    }


def check_values(args: DiffusionGANArguments) -> None:
    """Refuse impossible values.

    Raises:
        UserError: One line that names the option.
    """
    check_unet(args)
    check_minimums(args, diffusion_steps=1, latent_dim=1, penalty_weight=0, penalty_every=1)
    check_positive(args, "discriminator_learning_rate")
    check_widths("--discriminator_channels", args.discriminator_channels or ())


FAMILY = Family(
    "diffusion_gan",
    "Denoising diffusion GAN",
    DiffusionGANArguments,
    build,
    reload,
    "DiffusionGANPipeline",
)
