"""Small convolutional classifier whose penultimate layer serves as the features of FID and its relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..blocks.autoencoding import build_trunk, check_sample
from ..blocks.outputs import UNSET
from ..checks import check_widths
from ..errors import UserError
from ..sizes import SampleSize, height_width, in_words

SMALLEST_IMAGE = 8
# Of the sinusoids that stand for a time step, and of the maps beside the image that are made of them.
TIME_DIM, TIME_CHANNELS = 32, 4


@dataclass
class ClassifierOutput(BaseOutput):
    """What one pass through a classifier gives.

    Args:
        logits (`torch.Tensor` of shape `(batch, num_classes)`): log p(y|x) up to a constant.
        features (`torch.Tensor` of shape `(batch, feature_dim)`): Non-negative activations of the last hidden layer.
    """

    logits: Tensor
    features: Tensor = UNSET


class Classifier(ModelMixin, ConfigMixin):
    """Stride-2 convolutions with group normalisation, one dense layer (the features), one linear layer (the logits).

    Trained on the data set that a generator is measured on, it takes the place of the Inception network, whose
    features say little about images that do not look like ImageNet's. Group normalisation makes the features of one
    image independent of the batch it came in.

    One that was trained on the noisy images of a diffusion model guides that model's samples to a class (Dhariwal &
    Nichol 2021, arXiv 2105.05233). It is told the time step, by a few constant maps beside the image; theirs is told
    it in every block.

    Args:
        in_channels: Channels of an image, any number.
        sample_size: Height and width of an image, one number for a square; at least 8.
        num_classes: Number of classes.
        block_out_channels: Widths of the stride-2 convolutions.
        feature_dim: Width of the feature layer.
        noise_schedule: Of the noisy images that it was trained on, as a DDPMScheduler's arguments; None if these were
            clean.

    Raises:
        UserError: `sample_size` is below 8 or too small for the number of convolutions, or a width is below 1.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 1,
        sample_size: SampleSize = 28,
        num_classes: int = 10,
        block_out_channels: tuple[int, ...] = (32, 64),
        feature_dim: int = 64,
        noise_schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if min(height_width(sample_size)) < SMALLEST_IMAGE:
            raise UserError(
                f"Classifier: sample_size {in_words(sample_size)} is too small; use {SMALLEST_IMAGE} or more "
                "(--resolution)"
            )
        check_widths("feature_dim", [feature_dim])
        self.time: nn.Module | None = None
        if noise_schedule is not None:
            hidden = nn.Linear(TIME_DIM, TIME_DIM)
            self.time = nn.Sequential(hidden, nn.SiLU(), nn.Linear(TIME_DIM, TIME_CHANNELS))
        self.trunk = build_trunk(
            "conv",
            in_channels + (0 if noise_schedule is None else TIME_CHANNELS),
            sample_size,
            hidden_dims=(feature_dim,),
            block_out_channels=block_out_channels,
            norm="group",
            activation="relu",
        )
        self.head = nn.Linear(feature_dim, num_classes)

    def forward(
        self, sample: Tensor, return_dict: bool = True, *, timestep: Tensor | None = None
    ) -> ClassifierOutput | tuple[Tensor, ...]:
        """Classify.

        Args:
            sample: (batch, channels, height, width) in [-1, 1], or x_t of such images.
            return_dict: Return a `ClassifierOutput` instead of a tuple.
            timestep: How noisy they are, one number or (batch,); None for clean ones, and where nothing else was
                learnt.

        Raises:
            UserError: The sample has another shape than the network was built for, or a time step means nothing to it.
        """
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        if self.time is not None:
            timestep = torch.zeros(1, device=sample.device) if timestep is None else timestep.to(sample.device)
            waves = get_timestep_embedding(timestep.reshape(-1), TIME_DIM).to(sample.dtype)
            maps = self.time(waves)[:, :, None, None]
            sample = torch.cat([sample, maps.expand(len(sample), -1, *sample.shape[2:])], 1)
        elif timestep is not None:
            raise UserError("Classifier: it was trained on clean images (noise_schedule is None); leave timestep out")
        features = self.trunk(sample)
        output = ClassifierOutput(self.head(features), features)
        return output if return_dict else output.to_tuple()
