"""Small convolutional classifier whose penultimate layer serves as the features of FID and its relatives."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ..blocks.autoencoding import build_trunk, check_sample
from ..blocks.outputs import UNSET
from ..checks import check_widths
from ..errors import UserError
from ..sizes import SampleSize, height_width, in_words

SMALLEST_IMAGE = 8


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

    Args:
        in_channels: Channels of an image, any number.
        sample_size: Height and width of an image, one number for a square; at least 8.
        num_classes: Number of classes.
        block_out_channels: Widths of the stride-2 convolutions.
        feature_dim: Width of the feature layer.

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
    ) -> None:
        super().__init__()
        if min(height_width(sample_size)) < SMALLEST_IMAGE:
            raise UserError(
                f"Classifier: sample_size {in_words(sample_size)} is too small; use {SMALLEST_IMAGE} or more "
                "(--resolution)"
            )
        check_widths("feature_dim", [feature_dim])
        self.trunk = build_trunk(
            "conv",
            in_channels,
            sample_size,
            hidden_dims=(feature_dim,),
            block_out_channels=block_out_channels,
            norm="group",
            activation="relu",
        )
        self.head = nn.Linear(feature_dim, num_classes)

    def forward(self, sample: Tensor, return_dict: bool = True) -> ClassifierOutput | tuple[Tensor, ...]:
        """Classify.

        Args:
            sample: (batch, channels, height, width) in [-1, 1].
            return_dict: Return a `ClassifierOutput` instead of a tuple.

        Raises:
            UserError: The sample has another shape than the network was built for.
        """
        check_sample(sample, self.config.in_channels, self.config.sample_size)
        features = self.trunk(sample)
        output = ClassifierOutput(self.head(features), features)
        return output if return_dict else output.to_tuple()
