"""RGB (or intensity) to the four angles of a polarimetric camera: CycleGAN under the physics of light."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec, Layout
from ..data.layouts import MIRRORED_ANGLES
from ..errors import UserError
from ..files import read_json
from ..losses.polarimetry import calibration_loss, calibration_matrix, cone_loss, left_inverse, to_intensities
from ..metrics.polarimetry import c1_residual, c2_violation_rate
from ..pipelines.polarimetric import PolarimetricPipeline
from .base import Batch, Noise, Phase, check_minimums
from .cyclegan import CycleGANArguments, CycleGANObjective
from .translation import absolute_error, in_unit_range, pixel_loss, side_by_side

ANGLES = 4


@dataclass
class PolarimetricArguments(CycleGANArguments):
    """Options of `train_polarimetric.py`."""

    architecture: Literal["unet", "resnet", "polarcycle"] = field(  # type: ignore[assignment]
        default="resnet",
        metadata={
            "help": "unet (pix2pix's, with skips), resnet (CycleGAN's residual blocks) or polarcycle (the authors' "
            "own: zero padding, no norm in the blocks)."
        },
    )
    calibration_weight: float = field(
        default=1.0,
        metadata={
            "help": "mu, of C1: y = A B y, for y in [0, 255]. The default is the thesis', for a million steps; a few "
            "thousand want less, such as 0.02."
        },
    )
    cone_weight: float = field(
        default=1.0,
        metadata={
            "help": "nu, of C2: S0^2 >= S1^2 + S2^2, for y in [0, 255]. As of --calibration_weight, such as 0.001."
        },
    )
    paired_weight: float = field(
        default=0.0,
        metadata={
            "help": "Of the distance between a translation and its target; above 0 the data must be pairs of RGB and "
            "polarimetric images of the same scene."
        },
    )
    calibration: list[float] | None = field(
        default=None,
        metadata={
            "help": "A of the camera, 12 numbers: the rows of I0, I45, I90 and I135, in the columns of S0, S1 and S2. "
            "Default: an ideal camera's, or that of the model that is trained further."
        },
    )
    left_inverse: Literal["authors", "orthogonal"] = field(
        default="authors",
        metadata={"help": "B: the thesis' left inverse of A (of an ideal camera), or Moore and Penrose's."},
    )

    def check(self, data: DataSpec) -> None:
        super().check(data)
        check_minimums(self, calibration_weight=0, cone_weight=0, paired_weight=0)
        assert data.other is not None  # `Objective.layout`
        if data.other.channels != ANGLES:
            raise UserError(
                f"domain B of {data.other.name} has {data.other.channels} channels instead of the {ANGLES} angles I0, "
                "I45, I90 and I135; stack one column of each with --image_columns, or store .npy files"
            )
        matrix_of(self)


def matrix_of(args: PolarimetricArguments) -> tuple[Tensor, Tensor]:
    """A, (4, 3), and its left inverse B, (3, 4).

    Raises:
        UserError: Not 12 numbers, or no such inverse.
    """
    numbers = args.calibration
    if numbers is not None and len(numbers) != 3 * ANGLES:
        raise UserError(f"--calibration takes 12 numbers, row by row, got {len(numbers)}")
    matrix = calibration_matrix() if numbers is None else torch.tensor(numbers).reshape(ANGLES, 3)
    return matrix, left_inverse(matrix, args.left_inverse)


def adopt_camera(args: PolarimetricArguments, folder: Path) -> None:
    """Take A, and B where it is not asked for, of the model in `folder`, or of the run of a checkpoint's networks."""
    index, run = folder / "model_index.json", folder.parent.parent / "training_args.json"
    if args.calibration is not None or not (index.is_file() or run.is_file()):
        return
    if index.is_file():
        saved = read_json(index)
        rows = saved.get("calibration")
        args.calibration = None if rows is None else [number for row in rows for number in row]
    else:
        saved = read_json(run)["arguments"]
        args.calibration = saved.get("calibration")
    if args.left_inverse == PolarimetricArguments.left_inverse:
        args.left_inverse = saved.get("left_inverse", args.left_inverse)


class PolarimetricObjective(CycleGANObjective):
    """CycleGAN + mu C1 + nu C2 on the translations to domain B (Ruffino et al. 2022, CVIU, and thesis, section 3.4).

    Domain A holds RGB or grey images, domain B (I0, I45, I90, I135). C1 is that the four angles agree, y = A B y; C2
    is that no more light is polarised than there is. Both are of intensities in [0, 255]; C1 is the pixel mean of
    ||y - A B y||_2, as in the thesis' text. What differs from the authors' code: that compares a reshaped, not a
    transposed image in C1, trains each translator by its own cycle alone, with a squared error, and lets the
    translators' losses see the pool. C3, S0 >= 0, holds by construction.

    A mirrored image of domain B has I45 and I135 exchanged.
    """

    Arguments = PolarimetricArguments

    def __init__(self, networks: dict[str, Any], data: DataSpec, args: PolarimetricArguments) -> None:
        super().__init__(networks, data, args)
        self.calibration, self.inverse = matrix_of(args)

    @classmethod
    def from_pretrained(cls, folder: Path, args: Any, data: DataSpec) -> "CycleGANObjective":
        adopt_camera(args, folder)
        return super().from_pretrained(folder, args, data)

    @classmethod
    def layout(cls, args: Any) -> Layout:
        return Layout("pair" if args.paired_weight > 0 else "domains", mirrored_channels=MIRRORED_ANGLES)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        return super().losses(phase, networks, as_domains(batch), noise, cache)

    def translation_losses(self, fake_b: Tensor, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        intensities = to_intensities(fake_b)
        calibration, inverse = self.calibration.to(fake_b.device), self.inverse.to(fake_b.device)
        losses = {}
        # Measured without weight too: how far an unconstrained model is from physics is worth knowing.
        with torch.set_grad_enabled(self.args.calibration_weight > 0):
            losses["C1"] = self.args.calibration_weight, calibration_loss(intensities, calibration, inverse)
        with torch.set_grad_enabled(self.args.cone_weight > 0):
            losses["C2"] = self.args.cone_weight, cone_loss(intensities, inverse)
        if self.args.paired_weight > 0:
            distance = pixel_loss(self.args.reconstruction_loss, fake_b, batch["image_b"])
            losses["paired"] = self.args.paired_weight, distance
        return losses

    def pipeline(self, networks: dict[str, ModelMixin]) -> Any:
        to_b: Any = networks["generator_ab"]
        to_a: Any = networks["generator_ba"]
        return PolarimetricPipeline(
            to_b,
            to_a,
            calibration=self.calibration.tolist(),
            left_inverse=self.args.left_inverse,
            value_scale=self.other.value_scale,
            source_value_scale=self.data.value_scale,
        )

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        image = in_unit_range(as_domains(batch)["image_a"])
        output = pipeline(image=image, output_type="pt")
        cycle = pipeline.reconstruct_source(output.images, output_type="pt").images
        return {"A, I0, polarisation, cycle": side_by_side(image, output.images, output.picture, cycle)}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        return super().evaluate(networks, as_domains(batch), generator)

    def translation_figures(self, fake_b: Tensor, batch: Batch) -> dict[str, Tensor]:
        intensities = in_unit_range(fake_b.float())
        calibration, inverse = self.calibration.to(fake_b.device), self.inverse.to(fake_b.device)
        figures = {
            "C1": c1_residual(intensities, calibration, inverse),
            "C2 violated": c2_violation_rate(intensities, inverse),
        }
        if self.args.paired_weight > 0:
            figures["L1"] = absolute_error(fake_b, batch["image_b"])
        return figures


def as_domains(batch: Batch) -> Batch:
    """A batch of pairs with the names of one of two domains."""
    if "image_a" in batch:
        return batch
    return {**batch, "image_a": batch["conditioning_image"], "image_b": batch["target_image"]}
