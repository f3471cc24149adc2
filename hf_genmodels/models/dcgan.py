"""DCGAN's convolutional networks (Radford et al. 2016, arXiv 1511.06434): generator, discriminator and encoder.

`avae_layout` turns them into the networks of AVAE (Plumerault et al. 2020, arXiv 2012.11551) as its authors' code has
them. What differs: a stride-2 convolution of kernel 5 pads two pixels on each side, where TensorFlow's "SAME" pads one
before and two after, and the transposed ones mirror it. That moves feature maps by one pixel: networks trained from
scratch do not care, weights of the authors would.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..blocks.adversarial import (
    BatchNorm,
    DCGANTrunk,
    DiscriminatorHead,
    DiscriminatorOutput,
    EncoderOutput,
    GeneratorOutput,
    UpBlock,
    append_classes,
    check_class_input,
    check_conditioning,
    check_latents,
    dcgan_plan,
    initialise_normal,
    pack,
    smallest_map,
    spectral_normalise,
    up_convolution,
)
from ..blocks.autoencoding import check_sample
from ..blocks.recomputation import call_block
from ..checks import check_choice, check_widths
from ..choices import DiscriminatorNorm, NormStatistics
from ..errors import UserError
from ..sizes import SampleSize, height_width

GeneratorConditioning = Literal["none", "concat", "batch_norm"]
DiscriminatorConditioning = Literal["none", "concat", "projection", "acgan"]


def avae_layout(sample_size: SampleSize) -> dict[str, Any]:
    """Arguments of the three networks below that make them AVAE's: at 32 pixels the third block has stride 1."""
    return {
        "kernel_size": 5,
        "norm_eps": 1e-3,
        "strides": (2, 2, 1, 2) if min(height_width(sample_size)) == 32 else None,
    }


class DCGANGenerator(ModelMixin, ConfigMixin):
    """x = G(z): a dense layer to a 4x4 map, transposed convolutions with batch norm and ReLU, a last one with tanh.

    The paper's generator is `sample_size=64, width=64` (its figure 1 has width 128). AVAE's xi is simply more latent
    dimensions: G([z, xi]). AVAE's decoder and generator are `DCGANGenerator(latent_dim=100 or 200, width=128,
    **avae_layout(sample_size))`.

    Args:
        latent_dim: Dimension of z.
        out_channels: Channels of an image, any number.
        sample_size: Height and width of an image, one number for a square: the shorter side a power of two, at least
            8, the longer one a multiple of a quarter of that.
        width: Channels of the map before the last convolution; they double towards the 4x4 map, up to 8 x width.
        kernel_size: 4, or 5.
        strides: Of the transposed convolutions, from the image down to the 4x4 map, the discriminator's order; None
            for twos, as many as `sample_size` needs. Ones (kernel 5 only) deepen the network.
        conditioning: "none", "concat" (one-hot classes beside z, Mirza & Osindero 2014) or "batch_norm" (a gain and a
            shift for each class, Dumoulin et al. 2017).
        num_classes: Number of classes; None with conditioning "none".
        norm_eps: Of the batch norms.
        norm_statistics: What the batch norms use in eval mode: "running" averages, or those of the "batch" itself.

    Raises:
        UserError: An unknown choice, no width, or size, kernel and strides, or conditioning and classes that do not
            go together.
    """

    _supports_gradient_checkpointing = True
    gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        latent_dim: int = 100,
        out_channels: int = 3,
        sample_size: SampleSize = 64,
        width: int = 64,
        kernel_size: Literal[4, 5] = 4,
        strides: tuple[int, ...] | None = None,
        conditioning: GeneratorConditioning = "none",
        num_classes: int | None = None,
        norm_eps: float = 1e-5,
        norm_statistics: NormStatistics = "running",
    ) -> None:
        super().__init__()
        check_conditioning("DCGANGenerator", conditioning, get_args(GeneratorConditioning), num_classes)
        check_widths("latent_dim", [latent_dim])
        plan = dcgan_plan("DCGANGenerator", sample_size, width, kernel_size, strides)[::-1]

        def norm(channels: int) -> BatchNorm:
            classes = num_classes if conditioning == "batch_norm" else None
            return BatchNorm(channels, norm_eps, classes, norm_statistics)

        smallest = plan[0][0]
        self.first_size = smallest_map(sample_size, plan)
        in_features = latent_dim + (num_classes or 0) * (conditioning == "concat")
        self.project = nn.Linear(in_features, math.prod(self.first_size) * smallest, bias=False)
        self.first_norm = norm(smallest)
        # a block undoes the stride of its own layer of the discriminator and leads to the channels of the one before
        self.blocks = nn.ModuleList(
            UpBlock(channels, narrower, kernel_size, stride, norm(narrower))
            for (channels, stride), (narrower, _) in pairwise(plan)
        )
        last, stride = plan[-1]
        self.to_image = up_convolution(last, out_channels, kernel_size, stride, bias=True)
        initialise_normal(self)

    def forward(
        self, latents: Tensor, labels: Tensor | None = None, return_dict: bool = True
    ) -> GeneratorOutput | tuple[Tensor, ...]:
        """Generate.

        Args:
            latents: z, (batch, latent_dim), standard normal.
            labels: (batch,) classes of a conditional network.
            return_dict: Return a `GeneratorOutput` instead of a tuple.

        Raises:
            UserError: Latents or labels do not fit the network.
        """
        check_latents(latents, self.config.latent_dim)
        check_class_input(labels, self.config.conditioning, latents.shape[0])
        if self.config.conditioning == "concat":
            latents = append_classes(latents, labels, self.config.num_classes)
        hidden = self.project(latents).unflatten(1, (-1, *self.first_size))
        hidden = torch.relu(self.first_norm(hidden, labels))
        for block in self.blocks:
            hidden = call_block(self, block, hidden, labels)
        output = GeneratorOutput(torch.tanh(self.to_image(hidden)))
        return output if return_dict else output.to_tuple()


class DCGANDiscriminator(ModelMixin, ConfigMixin):
    """d(x): convolutions with LeakyReLU(0.2), from the second on with a norm, and a linear layer to a logit of "real".

    AVAE's critic is `DCGANDiscriminator(width=128, **avae_layout(sample_size))`.

    Args:
        in_channels: Channels of an image.
        sample_size: Height and width of an image, one number for a square: the shorter side a power of two, at least
            8, the longer one a multiple of a quarter of that.
        width: Channels after the first convolution; they double up to 8 x width.
        kernel_size: 4, or 5.
        strides: Of the convolutions; None for twos, as many as `sample_size` needs. Ones need kernel 5. With them any
            size will do that can be halved: as many twos as leave at least 3 pixels of both sides, see
            `most_halvings`.
        norm: "batch" (not under a gradient penalty), "instance", "layer", "none", or "spectral" (normalised weights
            instead of activations).
        conditioning: "none", "concat" (one-hot planes beside the image), "projection" or "acgan" (predicts the class).
        num_classes: Number of classes; None with conditioning "none".
        packing: m of PacGAN: so many consecutive samples share a logit. With "none" or "concat" only.
        feature_block: The block whose activations are the output's features: 0 the first, -1 the last.
        norm_eps: Of the norms.
        minibatch_kernels: B of minibatch discrimination before the last layer: each sample (or pack) is also judged by
            how close it is to the rest of its batch; 0 for none.

    Raises:
        UserError: An unknown choice, no width, or arguments that do not go together.
    """

    _supports_gradient_checkpointing = True
    gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        sample_size: SampleSize = 64,
        width: int = 64,
        kernel_size: Literal[4, 5] = 4,
        strides: tuple[int, ...] | None = None,
        norm: DiscriminatorNorm = "batch",
        conditioning: DiscriminatorConditioning = "none",
        num_classes: int | None = None,
        packing: int = 1,
        feature_block: int = -1,
        norm_eps: float = 1e-5,
        minibatch_kernels: int = 0,
    ) -> None:
        super().__init__()
        check_conditioning("DCGANDiscriminator", conditioning, get_args(DiscriminatorConditioning), num_classes)
        check_choice("norm", norm, get_args(DiscriminatorNorm))
        check_widths("packing", [packing])
        plan = dcgan_plan("DCGANDiscriminator", sample_size, width, kernel_size, strides)
        if packing > 1 and conditioning not in ("none", "concat"):
            raise UserError(f"DCGANDiscriminator: packing and conditioning {conditioning!r} do not go together")
        if not -len(plan) <= feature_block < len(plan):
            raise UserError(f"DCGANDiscriminator: there is no block {feature_block}, only {len(plan)} blocks")
        channels = in_channels + (num_classes or 0) * (conditioning == "concat")
        self.trunk = DCGANTrunk(packing * channels, sample_size, plan, kernel_size, norm, norm_eps)
        self.head = DiscriminatorHead(self.trunk.out_features, conditioning, num_classes, minibatch_kernels)
        initialise_normal(self)
        if norm == "spectral":
            spectral_normalise(self)

    def forward(
        self, sample: Tensor, labels: Tensor | None = None, return_dict: bool = True
    ) -> DiscriminatorOutput | tuple[Tensor, ...]:
        """Judge.

        Args:
            sample: (batch, channels, height, width) in [-1, 1]; with packing m, m consecutive ones make a pack.
            labels: (batch,) classes; an "acgan" network does not read them.
            return_dict: Return a `DiscriminatorOutput` instead of a tuple.

        Raises:
            UserError: Sample or labels do not fit the network, or packing does not divide the batch.
        """
        config = self.config
        check_sample(sample, config.in_channels, config.sample_size)
        check_class_input(labels, config.conditioning, sample.shape[0])
        if config.conditioning == "concat":
            sample = append_classes(sample, labels, config.num_classes)
        hidden = pack(sample, config.packing)
        maps = []
        for block in self.trunk:
            hidden = call_block(self, block, hidden)
            maps.append(hidden)
        logits, class_logits = self.head(hidden.flatten(1), labels)
        output = DiscriminatorOutput(logits, maps[config.feature_block], class_logits)
        return output if return_dict else output.to_tuple()


class DCGANEncoder(ModelMixin, ConfigMixin):
    """mu(x): the discriminator's trunk with batch norm and a linear layer; optionally one log sigma for all images.

    AVAE's encoder is `DCGANEncoder(latent_dim=100, width=128, shared_log_std=True, **avae_layout(sample_size))`.

    Args:
        in_channels: Channels of an image.
        sample_size: Height and width of an image, one number for a square: the shorter side a power of two, at least
            8, the longer one a multiple of a quarter of that.
        latent_dim: Dimension of mu.
        width: Channels after the first convolution; they double up to 8 x width.
        kernel_size: 4, or 5.
        strides: Of the convolutions; None for twos, as many as `sample_size` needs. Ones need kernel 5.
        shared_log_std: Have a free parameter `log_std` of `latent_dim` numbers, 0 at first.
        norm_eps: Of the batch norms.
        norm_statistics: What the batch norms use in eval mode: "running" averages, or those of the "batch" itself.

    Raises:
        UserError: An unknown choice, no width, or size, kernel and strides that do not go together.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        sample_size: SampleSize = 64,
        latent_dim: int = 100,
        width: int = 64,
        kernel_size: Literal[4, 5] = 4,
        strides: tuple[int, ...] | None = None,
        shared_log_std: bool = False,
        norm_eps: float = 1e-5,
        norm_statistics: NormStatistics = "running",
    ) -> None:
        super().__init__()
        check_widths("latent_dim", [latent_dim])
        plan = dcgan_plan("DCGANEncoder", sample_size, width, kernel_size, strides)
        self.trunk = DCGANTrunk(in_channels, sample_size, plan, kernel_size, "batch", norm_eps, norm_statistics)
        self.to_mean = nn.Linear(self.trunk.out_features, latent_dim)
        self.log_std = nn.Parameter(torch.zeros(latent_dim)) if shared_log_std else None
        initialise_normal(self)

    def forward(self, sample: Tensor, return_dict: bool = True) -> EncoderOutput | tuple[Tensor, ...]:
        """Encode.

        Args:
            sample: (batch, channels, height, width) in [-1, 1].
            return_dict: Return an `EncoderOutput` instead of a tuple.

        Raises:
            UserError: The sample has another shape than the network was built for.
        """
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        output = EncoderOutput(self.to_mean(self.trunk(sample).flatten(1)), self.log_std)
        return output if return_dict else output.to_tuple()
