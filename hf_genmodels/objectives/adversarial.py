"""What the adversarial families share: options that shape their networks, building them, finding saved ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from ..blocks.adversarial import NormStatistics
from ..checks import check_widths
from ..data import DataSpec
from ..errors import UserError
from ..models.dcgan import DCGANDiscriminator, DCGANEncoder, DCGANGenerator, DiscriminatorNorm, avae_layout
from ..models.mlp import MLPDiscriminator, MLPEncoder, MLPGenerator
from ..models.sngan import DISCRIMINATOR_CHANNELS, GENERATOR_CHANNELS, SNGANDiscriminator, SNGANGenerator
from ..pipelines.base import GenerativePipeline
from .base import Batch, Objective, check_minimums, check_positive, reconstruction_pairs

# Normalisations of a discriminator by architecture; the first one is what it has if none is asked for.
NORMS: dict[str, tuple[str, ...]] = {
    "dcgan": ("batch", "instance", "layer", "none", "spectral"),
    "avae": ("batch", "instance", "layer", "none", "spectral"),
    "sngan": ("spectral", "none"),
    "mlp": ("none",),
}
# What a network that is loaded may be.
GENERATORS = (DCGANGenerator, SNGANGenerator, MLPGenerator)
DISCRIMINATORS = (DCGANDiscriminator, SNGANDiscriminator, MLPDiscriminator)
ENCODERS = (DCGANEncoder, MLPEncoder)


@dataclass
class DiscriminatorRate:
    """The option of every family that has a network called discriminator."""

    discriminator_learning_rate: float | None = field(
        default=None, metadata={"help": "Of the discriminator; --learning_rate by default."}
    )

    def check_rates(self) -> None:
        """Refuse a learning rate that is not positive.

        Raises:
            UserError: One line that names the option.
        """
        check_positive(self, "discriminator_learning_rate")

    def learning_rate_of(self, name: str) -> dict[str, float]:
        """The "lr" of a network's parameter group, where it has one of its own."""
        rate = self.discriminator_learning_rate
        return {} if rate is None or name != "discriminator" else {"lr": rate}


@dataclass
class GeneratorArguments(DiscriminatorRate):
    """Options of every family with a DCGAN-like or dense generator or decoder."""

    loop_defaults: ClassVar[dict[str, Any]] = {"learning_rate": 2e-4, "adam_beta1": 0.5}

    architecture: Literal["dcgan", "avae", "mlp"] = field(
        default="dcgan",
        metadata={
            "help": "dcgan (kernel 4), avae (the AVAE authors' layout, kernel 5), or mlp (vectors, small images)."
        },
    )
    latent_dim: int = field(default=100, metadata={"help": "Dimension of the latent z."})
    width: int | None = field(
        default=None,
        metadata={
            "help": "Channels of the map next to the image, the narrowest; the others have multiples of it "
            "(dcgan, avae: 64)."
        },
    )
    hidden_dims: list[int] | None = field(
        default=None, metadata={"help": "mlp: widths of the hidden layers (128 128)."}
    )
    norm_statistics: NormStatistics = field(
        default="running",
        metadata={"help": "What batch norms use at inference: running averages, or statistics of the batch itself."},
    )

    def check(self, data: DataSpec) -> None:
        """Compare the options with each other and with the data.

        Raises:
            UserError: An option that means nothing here, or an architecture for other data.
        """
        check_minimums(self, latent_dim=1, **({} if self.width is None else {"width": 1}))
        self.check_rates()
        if self.architecture == "mlp":
            for name, default in (("width", None), ("norm_statistics", "running")):
                if getattr(self, name) != default:
                    raise UserError(f"--{name} has no meaning with --architecture mlp; leave it out")
            check_widths("--hidden_dims", self.dims())
        else:
            if self.hidden_dims is not None:
                raise UserError(f"--hidden_dims has no meaning with --architecture {self.architecture}; leave it out")
            if not data.is_image:
                raise UserError(
                    f"--architecture {self.architecture} needs images, but {data.name} has vectors; "
                    "use --architecture mlp"
                )

    def dims(self) -> tuple[int, ...]:
        """Widths of an MLP's hidden layers."""
        return (128, 128) if self.hidden_dims is None else tuple(self.hidden_dims)

    def layout(self, size: int) -> dict[str, Any]:
        """Width, kernel and strides of the convolutional networks for images of `size` pixels."""
        return {"width": self.width or 64, **(avae_layout(size) if self.architecture == "avae" else {})}


@dataclass
class AdversarialArguments(GeneratorArguments):
    """Options of every family with a DCGAN-like or dense generator, and a discriminator of its samples."""

    discriminator_norm: DiscriminatorNorm | None = field(
        default=None,
        metadata={"help": "By default batch (dcgan, avae; layer under a gradient penalty), spectral (sngan)."},
    )

    def check(self, data: DataSpec) -> None:
        super().check(data)
        norm = self.discriminator_norm
        if norm not in (None, *NORMS[self.architecture]):
            if self.architecture == "mlp":
                raise UserError("--discriminator_norm has no meaning with --architecture mlp; leave it out")
            raise UserError(
                f"--discriminator_norm {norm} does not exist with --architecture {self.architecture}; "
                f"choose one of {', '.join(NORMS[self.architecture])}"
            )


# building ------------------------------------------------------------------------------------------------------------


def build_generator(args: GeneratorArguments, data: DataSpec, latent_dim: int, **conditioning: Any) -> ModelMixin:
    """The generator (or decoder) that the options describe, for samples like `data`.

    Args:
        args: The family's options, checked.
        data: What it shall make.
        latent_dim: Dimension of its input.
        conditioning: `conditioning` and `num_classes` of the network's constructor.
    """
    architecture: str = args.architecture
    if architecture == "mlp":
        return MLPGenerator(latent_dim, data.channels, data.size, args.dims(), **conditioning)
    assert data.size is not None  # `GeneratorArguments.check`
    if architecture == "sngan":
        return SNGANGenerator(
            latent_dim,
            data.channels,
            data.size,
            scaled(GENERATOR_CHANNELS[data.size], args.width),
            norm_statistics=args.norm_statistics,
            **conditioning,
        )
    return DCGANGenerator(
        latent_dim,
        data.channels,
        data.size,
        norm_statistics=args.norm_statistics,
        **args.layout(data.size),
        **conditioning,
    )


def build_discriminator(
    args: AdversarialArguments, data: DataSpec, norm: str | None = None, **more: Any
) -> ModelMixin:
    """The discriminator that the options describe.

    Args:
        args: The family's options, checked.
        data: What it shall judge.
        norm: Its normalisation; by default the option's, or the architecture's first one.
        more: Other arguments of the network's constructor: conditioning, packing, feature block.
    """
    architecture: str = args.architecture
    norm = norm or args.discriminator_norm or NORMS[architecture][0]
    if architecture == "mlp":
        return MLPDiscriminator(data.channels, data.size, args.dims(), **more)
    assert data.size is not None  # `GeneratorArguments.check`
    if architecture == "sngan":
        channels, _ = DISCRIMINATOR_CHANNELS[data.size]  # `GANArguments.check`
        return SNGANDiscriminator(data.channels, data.size, scaled(channels, args.width), norm=norm, **more)
    return DCGANDiscriminator(data.channels, data.size, norm=norm, **args.layout(data.size), **more)


def build_encoder(args: GeneratorArguments, data: DataSpec, shared_log_std: bool) -> ModelMixin:
    """The encoder that the options describe: the discriminator's trunk with batch norm, or dense layers."""
    if args.architecture == "mlp":
        return MLPEncoder(data.channels, data.size, args.latent_dim, args.dims(), shared_log_std=shared_log_std)
    assert data.size is not None  # `GeneratorArguments.check`
    return DCGANEncoder(
        data.channels,
        data.size,
        args.latent_dim,
        shared_log_std=shared_log_std,
        norm_statistics=args.norm_statistics,
        **args.layout(data.size),
    )


def scaled(channels: tuple[int, ...], width: int | None) -> tuple[int, ...]:
    """A paper's channels with `width` for the narrowest of them; as they are for None."""
    if width is None:
        return channels
    return tuple(channel * width // min(channels) for channel in channels)


# saved networks ------------------------------------------------------------------------------------------------------


def saved_generator_options(generator: ModelMixin) -> dict[str, Any]:
    """The options of `GeneratorArguments` that a saved generator or decoder answers."""
    config: Any = generator.config
    if isinstance(generator, MLPGenerator):
        return {
            "architecture": "mlp",
            "latent_dim": config.latent_dim,
            "width": None,
            "hidden_dims": list(config.hidden_dims),
            "norm_statistics": "running",
        }
    if isinstance(generator, SNGANGenerator):
        architecture = "sngan"
        width = min(config.block_out_channels or GENERATOR_CHANNELS[config.sample_size])
    else:
        is_avae = config.kernel_size == avae_layout(config.sample_size)["kernel_size"]
        architecture, width = "avae" if is_avae else "dcgan", config.width
    return {
        "architecture": architecture,
        "latent_dim": config.latent_dim,
        "width": width,
        "hidden_dims": None,
        "norm_statistics": config.norm_statistics,
    }


# batch statistics ----------------------------------------------------------------------------------------------------


@contextmanager
def running_averages_kept(network: nn.Module) -> Iterator[None]:
    """Let batch norms see a batch of fakes without putting it into their running averages, which are the data's."""
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


# the objective -------------------------------------------------------------------------------------------------------


class AdversarialObjective(Objective):
    """What is the same in every adversarial family, for a pipeline made of the networks in `ema`.

    Attributes:
        pipeline_class: Of those networks.
        sampler: Name of the network that makes samples of latents.
        args: The family's options.
    """

    pipeline_class: ClassVar[type[GenerativePipeline]]
    sampler: ClassVar[str] = "generator"
    args: Any

    def __init__(self, networks: dict[str, Any], data: DataSpec, args: Any) -> None:
        self.networks = networks
        self.data = data
        self.args = args

    def param_groups(self, name: str) -> list[dict[str, Any]]:
        (group,) = super().param_groups(name)
        return [group | self.args.learning_rate_of(name)]

    def pipeline(self, networks: dict[str, ModelMixin]) -> GenerativePipeline:
        parts: dict[str, Any] = {name: networks[name] for name in self.ema}
        return self.pipeline_class(**parts, value_scale=self.data.value_scale)

    def sample_pictures(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """As many samples as the batch has examples; of points, beside the data."""
        samples = pipeline(batch_size=len(batch["image"]), generator=generator, output_type="pt").images
        return {"samples": samples} if self.data.is_image else {"data": batch["image"], "samples": samples}

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        pictures = self.sample_pictures(pipeline, batch, generator)
        if self.data.is_image and "encoder" in self.networks:
            pictures["reconstructions"] = reconstruction_pairs(pipeline, batch["image"])
        return pictures

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        network: Any = networks[self.sampler]
        latents = torch.randn(count, network.config.latent_dim, generator=generator)
        sample: Tensor = network(latents.to(network.device, network.dtype)).sample
        return sample
