"""Objective of translators whose targets are label maps: cross-entropy and Dice's coefficient."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec, LabelMaps
from ..errors import UserError
from ..losses.segmentation import cross_entropy, soft_dice_loss
from ..metrics.segmentation import agreement, overlaps
from ..pipelines.label_map import LabelMapPipeline
from .base import Batch, Noise, Phase
from .pictures import in_colors, in_unit_range, parts_of_input, side_by_side, source_parts
from .pix2pix import Pix2PixObjective


class LabelMapObjective(Pix2PixObjective):
    """G: x -> logits of the class of each pixel, which minimise a cross-entropy + b (1 - Dice), means over images.

    Batch keys: x is `conditioning_image`; `target_image` holds the numbers of classes, (batch, 1, height, width). No
    discriminator judges them.
    """

    pipeline_class = LabelMapPipeline
    whole = ("overlaps",)

    class_weights: Tensor | None

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        logits = networks["generator"](batch["conditioning_image"]).sample
        return self.label_losses(logits, batch["target_image"][:, 0])

    def label_losses(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The weighted losses of logits (batch, classes, height, width) and labels (batch, height, width)."""
        if self.class_weights is not None:  # kept where they are needed: a copy in each step would make the host wait
            self.class_weights = self.class_weights.to(logits.device)
        weights = self.class_weights
        losses, loss = {}, logits.new_zeros(())
        if self.cross_entropy_weight:
            losses["cross entropy"] = cross_entropy(logits, labels, self.maps.ignore_index, weights).mean()
            loss = loss + self.cross_entropy_weight * losses["cross entropy"]
        if self.dice_weight:
            losses["Dice loss"] = soft_dice_loss(logits, labels, self.maps.ignore_index, weights).mean()
            loss = loss + self.dice_weight * losses["Dice loss"]
        return {"loss": loss, **losses}

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        generator: ModelMixin,
        data: DataSpec,
        cross_entropy_weight: float = 1.0,
        dice_weight: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            generator: G, with one channel of logits for each class.
            data: What x looks like, and the classes in `data.other.label_maps`.
            cross_entropy_weight: Of `losses.segmentation.cross_entropy`.
            dice_weight: Of `losses.segmentation.soft_dice_loss`.
            class_weights: A weight for each class, in both; None for 1 each.

        Raises:
            UserError: The data's targets are no label maps, or the weights are not as many as the classes.
        """
        super().__init__(generator, None, data, adversarial_weight=0.0, reconstruction_weight=0.0)
        if data.other is None or data.other.label_maps is None:
            raise UserError(f"{data.name}: the targets are no label maps; load them by a Layout with label_maps")
        self.maps: LabelMaps = data.other.label_maps
        if class_weights is not None and len(class_weights) != self.maps.num_classes:
            raise UserError(f"class_weights: {len(class_weights)} weights for {self.maps.num_classes} classes")
        self.cross_entropy_weight, self.dice_weight = cross_entropy_weight, dice_weight
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, ModelMixin]) -> LabelMapPipeline:
        return LabelMapPipeline(
            networks["generator"],
            id2label=dict(enumerate(self.maps.names or ())),
            label_colors=[list(color) for color in self.maps.colors or ()] or None,
            ignore_index=self.maps.ignore_index,
            source_value_scale=self.data.value_scale,
            **source_parts(self.data),
        )

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        condition, colors = in_unit_range(batch["conditioning_image"]), pipeline.config.label_colors
        made = pipeline(image=condition, output_type="pt").images.to(condition.device)
        shown = (in_colors(labels, colors) for labels in (made, batch["target_image"][:, 0]))
        return {"image, labels, target": side_by_side(*parts_of_input(condition, self.data), *shown)}

    def evaluate(self, networks: dict[str, Any], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        labels, ignored = batch["target_image"][:, 0], self.maps.ignore_index
        logits = networks["generator"](batch["conditioning_image"]).sample
        counts = overlaps(logits.argmax(1), labels, self.maps.num_classes, ignored)
        return {"cross entropy": cross_entropy(logits, labels, ignored), "overlaps": counts}

    def summarize(self, gathered: dict[str, Tensor]) -> dict[str, float]:
        found = agreement(gathered["overlaps"])
        return {"mean IoU": found.mean_iou, "pixel accuracy": found.pixel_accuracy}
