"""The smallest networks of the library for samples of a shape, as the families' cases build pipelines of them."""

from __future__ import annotations

from typing import Any

from diffusers import DDPMScheduler, ModelMixin, UNet2DModel

from hf_genmodels import DCGANEncoder, DCGANGenerator, MLPEncoder, MLPGenerator, ResNetTranslator, StochasticUNet
from hf_genmodels.families.ddpm import DDPMArguments
from hf_genmodels.families.denoisers import DenoiserArguments, build_scheduler, build_unet

Shape = tuple[int, ...]


def size_of(shape: Shape) -> int | None:
    """The `sample_size` of a configuration for samples of a shape."""
    return None if len(shape) == 1 else shape[1]


def tiny_autoencoding(network_class: type[ModelMixin], shape: Shape) -> ModelMixin:
    """A VAE or an autoencoder."""
    architecture = "mlp" if len(shape) == 1 else "conv"
    return network_class(
        in_channels=shape[0],
        sample_size=size_of(shape),
        latent_dim=2,
        architecture=architecture,
        block_out_channels=(4, 8),
    )


def tiny_generator(shape: Shape, latent_dim: int = 2) -> DCGANGenerator | MLPGenerator:
    if len(shape) == 1:
        return MLPGenerator(latent_dim, *shape, hidden_dims=(8,))
    return DCGANGenerator(latent_dim, shape[0], shape[1], width=4)


def tiny_encoder(shape: Shape, shared_log_std: bool = False) -> DCGANEncoder | MLPEncoder:
    if len(shape) == 1:
        return MLPEncoder(*shape, latent_dim=2, hidden_dims=(8,), shared_log_std=shared_log_std)
    return DCGANEncoder(shape[0], shape[1], latent_dim=2, width=4, shared_log_std=shared_log_std)


def tiny_resnet(shape: Shape, out_channels: int | None = None) -> ResNetTranslator:
    return ResNetTranslator(shape[0], out_channels or shape[0], shape[1], width=2, num_blocks=1)


def tiny_denoiser(
    shape: Shape, steps: int = 3, num_classes: int | None = None, **options: Any
) -> tuple[UNet2DModel, DDPMScheduler]:
    """A denoising network of one level and a noise schedule of few steps, as the family builds them."""
    small = {"block_out_channels": [8], "layers_per_block": 1, "ddpm_beta_schedule": "squaredcos_cap_v2"}
    args = DDPMArguments(**{**small, "ddpm_num_steps": steps, **options})
    return build_unet(args, shape, num_classes, "the data"), build_scheduler(args, is_image=len(shape) == 3)


def tiny_unet(shape: Shape, num_classes: int | None = None) -> UNet2DModel:
    """A denoising network of one level, as the families build them."""
    args = DenoiserArguments(block_out_channels=[8], layers_per_block=1)
    return build_unet(args, shape, num_classes, "the data")


def tiny_stochastic_unet(shape: Shape) -> StochasticUNet:
    """A denoising diffusion GAN's generator of one level."""
    small = {"block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 1}
    return StochasticUNet(shape[0], size_of(shape), latent_dim=2, **small)
