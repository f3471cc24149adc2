"""Pipeline of the translator to polarimetric images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.losses.polarimetry import (
    angle_of_linear_polarization,
    camera_matrix,
    check_passes_no_more_than_there_is,
    degree_of_linear_polarization,
    left_inverse,
    project_intensities,
    same_camera,
    stokes_vector,
)
from hf_genmodels.metrics.polarimetry import c1_residual, c2_violation_rate, c3_violation_rate
from hf_genmodels.plots import polarization_picture
from hf_genmodels.roles import Translator

from .base import GenerativePipelineOutput
from .images import from_network, to_network
from .translation import TranslationPipeline, check_head, image_size


@dataclass
class PolarimetricPipelineOutput(BaseOutput):
    """A polarimetric image and what it means; arrays, or tensors for `output_type="pt"`.

    Args:
        images: Intensities (I0, I45, I90, I135) in [0, 1]: array (batch, height, width, 4), or tensor (batch, 4,
            height, width).
        stokes: S0, S1 and S2 in units of the intensities, three channels.
        dolp: Degree of linear polarisation in [0, inf), one channel; at most 1 where C2 holds.
        aolp: Angle of linear polarisation in radians, one channel, see `angle_of_linear_polarization`.
        picture: Colours in [0, 1]: the hue is the angle, the saturation the degree, the value S0.
        violations: {"C1": relative residual, "C2": share of violating pixels, "C3": the same}, (batch,) tensors.
    """

    images: Any
    stokes: Any
    dolp: Any
    aolp: Any
    picture: Any
    violations: dict[str, Tensor]


class PolarimetricPipeline(TranslationPipeline):
    """Translates RGB (or grey) images to the four angles of a polarimetric camera.

    Args:
        generator_ab: From RGB to (I0, I45, I90, I135).
        generator_ba: Back; None where it was not published.
        calibration: A, four rows of three numbers; None for an ideal camera's.
        left_inverse: "authors" or "orthogonal", see `losses.polarimetry.left_inverse`.
        value_scale: What 1 stands for in the polarimetric data: 255 for 8-bit images, 65535 for 16-bit ones.
        source_value_scale: The same of the RGB images.
        project: Whether calls project by default: it was trained with its projected translations.

    Raises:
        UserError: `generator_ab` does not make four channels or has a head for another camera, or `calibration` has no
            such inverse.
    """

    measures = frozenset({"translations", "violations"})
    data_layout = "domains"
    sampling_options = frozenset({"project", "tile_size", "tile_overlap"})
    model_cpu_offload_seq = "generator_ab->generator_ba"
    _optional_components: ClassVar[list[str]] = ["generator_ba"]
    generator_ab: Translator
    generator_ba: Translator | None

    def __init__(
        self,
        generator_ab: Translator,
        generator_ba: Translator | None = None,
        calibration: list[list[float]] | None = None,
        left_inverse: str = "authors",
        value_scale: float = 255.0,
        source_value_scale: float = 255.0,
        project: bool = False,
    ) -> None:
        super().__init__()
        if generator_ab.config.out_channels != 4:
            raise UserError(
                f"generator_ab makes {generator_ab.config.out_channels} channels; a polarimetric image has I0, I45, "
                "I90 and I135: 4 channels"
            )
        head = generator_ab.config
        if head.get("output_head") == "cone" and not same_camera(head.get("calibration"), calibration):
            raise UserError(
                f"the head of generator_ab was made for calibration={head.get('calibration')}, the pipeline has "
                f"calibration={calibration}: give it the same"
            )
        check_head("generator_ab", generator_ab)
        check_head("generator_ba", generator_ba)
        self.register_modules(generator_ab=generator_ab, generator_ba=generator_ba)
        self.register_to_config(
            calibration=calibration,
            left_inverse=left_inverse,
            value_scale=value_scale,
            source_value_scale=source_value_scale,
            project=project,
        )
        self.matrices()

    def matrices(self) -> tuple[Tensor, Tensor]:
        """A, (4, 3), and its left inverse B, (3, 4), on this pipeline's device."""
        calibration = camera_matrix(self.config.calibration)
        inverse = left_inverse(calibration, self.config.left_inverse)
        return calibration.to(self._execution_device), inverse.to(self._execution_device)

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        project: bool | None = None,
        tile_size: int | None = None,
        tile_overlap: int | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        max_batch_size: int | None = None,
    ) -> PolarimetricPipelineOutput | tuple[Any]:
        """Polarimetric images, one of each image.

        Args:
            image: One or a list of PIL images, arrays (height, width[, channels]) or tensors (channels, height, width)
                in [0, 1], all of one size; without tiles the sides must be multiples of what the network halves.
            project: Replace every pixel by A Pi(B y), with Pi the projection onto the cone S0^2 >= S1^2 + S2^2:
                physically admissible whatever the network says. A pixel with an intensity above 1 is dimmed. By
                default as it was trained, which the configuration tells.
            tile_size: Translate tiles of this side one by one, for images that are too large for the memory, or whose
                sides are no such multiples. Images smaller than a tile are extended to one and cut again.
            tile_overlap: Pixels by which tiles overlap; there they are blended. By default a quarter of a tile, at
                most 32.
            output_type: "np" (the default) or "pt".
            return_dict: Return a `PolarimetricPipelineOutput` instead of a tuple with the intensities.
            max_batch_size: Most images that go through the network at once; the images are the same to rounding.

        Raises:
            UserError: The image's mode, channels or size do not fit, another output type, or a camera whose projection
                can be negative.
        """
        output_type = output_type or "np"
        if output_type not in ("np", "pt"):
            raise UserError(f"output_type must be 'np' or 'pt', got {output_type!r}: four angles are no picture")
        project = self.config.project if project is None else project
        if project:
            check_passes_no_more_than_there_is(self.matrices()[0], "project=True")
        return self.translate(
            self.generator_ab,
            image,
            value_scale=self.config.source_value_scale,
            tile_size=tile_size,
            tile_overlap=tile_overlap,
            finish=lambda sample: self._show(sample, project, output_type, return_dict),
            max_batch_size=max_batch_size,
        )

    def _show(
        self, sample: Tensor, project: bool, output_type: str, return_dict: bool
    ) -> PolarimetricPipelineOutput | tuple[Any]:
        """What a call returns of its network's samples."""
        intensities: Tensor = from_network(sample, "pt", self.config.value_scale)
        if project:
            # rounding leaves values just below 0 where a polariser is crossed with the light
            intensities = project_intensities(intensities, *self.matrices(), maximum=1.0).clamp(min=0)
        if not return_dict:
            return (_as(output_type, intensities),)
        stokes = stokes_vector(intensities, self.matrices()[1])
        maps = (stokes, degree_of_linear_polarization(stokes), angle_of_linear_polarization(stokes))
        shown = [_as(output_type, values) for values in (intensities, *maps, polarization_picture(stokes))]
        return PolarimetricPipelineOutput(*shown, violations=self.violations(intensities))

    @torch.no_grad()
    def violations(self, intensities: Any) -> dict[str, Tensor]:
        """How far polarimetric images are from physics (Ruffino, thesis, section 3.5).

        Args:
            intensities: (I0, I45, I90, I135) in [0, 1], as images are given to a call.

        Returns:
            "C1": ||y - A B y|| / (||y|| + ||A B y||) of each image; "C2", "C3": the share of its pixels with S0^2 <
            S1^2 + S2^2, with S0 < 0. (batch,) float32.
        """
        images = (to_network(intensities, (4, *image_size(intensities, 4)), self.config.value_scale) + 1) / 2
        images = images.to(self._execution_device)
        calibration, inverse = self.matrices()
        return {
            "C1": c1_residual(images, calibration, inverse),
            "C2": c2_violation_rate(images, inverse),
            "C3": c3_violation_rate(images, inverse),
        }

    @torch.no_grad()
    def reconstruct_source(self, intensities: Any, output_type: str | None = None) -> GenerativePipelineOutput:
        """RGB (or grey) images of polarimetric ones, by `generator_ba`.

        Args:
            intensities: (I0, I45, I90, I135) in [0, 1], as images are given to a call.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.

        Raises:
            UserError: There is no `generator_ba`, or the images do not fit.
        """
        if self.generator_ba is None:
            raise UserError("this model has no generator_ba; it translates to polarimetric images alone")
        images = self.translate(
            self.generator_ba,
            intensities,
            value_scale=self.config.value_scale,
            tile_size=None,
            tile_overlap=None,
            finish=lambda sample: from_network(sample, output_type, self.config.source_value_scale),
        )
        return GenerativePipelineOutput(images=images)


def _as(output_type: str, values: Tensor) -> Any:
    return values if output_type == "pt" else values.cpu().numpy().transpose(0, 2, 3, 1)
