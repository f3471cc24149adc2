"""What every solver of inverse problems shares: measurements as users give them, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.operators import Inpainting, MeasurementOperator

from .base import GenerativePipelineOutput
from .images import SampleShape, to_network


@dataclass
class InverseProblemOutput(GenerativePipelineOutput):
    """Images that explain measurements.

    Args:
        images: As of every pipeline.
        consistency_error: (batch,) root mean square of A(x) - y, in the units of [0, 1], of each image.
    """

    consistency_error: Tensor


def prepare_measurement(
    measurement: Any, operator: MeasurementOperator, sample_shape: SampleShape, value_scale: float
) -> Tensor:
    """User's measurements -> (n, *operator.measurement_shape(sample_shape)) float32.

    Args:
        measurement: A tensor ([n,] channels, height, width), of any values since noise leads out of [0, 1]; or PIL
            images and arrays as for `images.to_network`.
        operator: What was measured.
        sample_shape: Of the model's images.
        value_scale: What 1 stands for in the model's data.

    Raises:
        UserError: `operator` is none or does not fit the model, or the measurement does not fit the operator.
    """
    if not isinstance(operator, MeasurementOperator):
        raise UserError(f"operator must be one of hf_genmodels.operators, got {type(operator).__name__}")
    operator.check_image_shape(sample_shape, "the model makes")
    shape = operator.measurement_shape(sample_shape)
    if not isinstance(measurement, Tensor):
        try:
            measurement = (to_network(measurement, shape, value_scale) + 1) / 2
        except UserError as error:
            raise UserError(f"measurement: {error} (here the network's images are the operator's output)") from None
    batch = measurement if measurement.ndim == 4 else measurement[None]
    if tuple(batch.shape[1:]) != shape or not len(batch):
        raise UserError(
            f"measurement must be ([n,] {', '.join(map(str, shape))}), which the operator makes of the model's "
            f"images, got {tuple(measurement.shape)}"
        )
    if not batch.isfinite().all():
        raise UserError("measurement: there are values that are not finite")
    batch = batch.to(torch.float32)
    # a damaged picture has something where nothing is known
    return operator(batch) if isinstance(operator, Inpainting) else batch


def consistency_error(operator: MeasurementOperator, images: Tensor, target: Tensor) -> Tensor:
    """(batch,) root mean square of A(x) - y, of images (batch, channels, height, width) in [0, 1]."""
    return (operator(images) - target).square().flatten(1).mean(1).sqrt()


def check_differentiable(operator: MeasurementOperator, measured: Tensor) -> None:
    """Refuse an operator whose output, for images with a gradient, has none.

    Raises:
        UserError: It is not differentiable.
    """
    if not measured.requires_grad:
        raise UserError(
            f"operator {type(operator).__name__} is not differentiable: its output has no gradient; compute it with "
            "torch's functions alone"
        )
