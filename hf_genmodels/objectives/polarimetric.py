"""The objective of translators to the four angles of a polarimetric camera: CycleGAN under the physics of light."""

from typing import Any, get_args

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..blocks.polarimetry import luminance
from ..checks import check_choice
from ..choices import ConeLoss, GANLossName, LeftInverse, Penalty, PixelLoss, PolarimetricView
from ..data.spec import DataSpec
from ..losses.gan import GANLoss
from ..losses.polarimetry import (
    calibration_loss,
    camera_matrix,
    check_passes_no_more_than_there_is,
    cone_loss,
    left_inverse,
    normalised_stokes,
    project_intensities,
    proximal_cone_loss,
    stokes_vector,
    to_intensities,
)
from ..losses.translation import absolute_error, pixel_loss
from ..metrics.polarimetry import c1_residual, c2_violation_rate
from ..pipelines.polarimetric import PolarimetricPipeline
from .base import Batch, Noise, Phase
from .cyclegan import CycleGANObjective
from .pictures import in_unit_range, side_by_side, value_scales


class PolarimetricObjective(CycleGANObjective):
    """CycleGAN + mu C1 + nu C2 on the translations to domain B (Ruffino et al. 2022, CVIU, and thesis, section 3.4).

    Domain A holds RGB or grey images, domain B (I0, I45, I90, I135). C1 is that the four angles agree, y = A B y; C2
    is that no more light is polarised than there is. Both are of intensities in [0, 255]; C1 is the pixel mean of
    ||y - A B y||_2, as in the thesis' text. What differs from the authors' code: that compares a reshaped, not a
    transposed image in C1, trains each translator by its own cycle alone, with a squared error, and lets the
    translators' losses see the pool. C3, S0 >= 0, holds by construction. A `generator_ab` whose head is a cone
    (`blocks.polarimetry`) needs neither loss: C1 and C2 hold in every pixel of every step.

    The identity loss is of images without the other domain's gift: G_AB, given the brightness of an image of domain B
    in every channel, shall find that image's polarisation, |G_AB(mean of b) - b|; G_BA, given an unpolarised image as
    bright as an image of domain A, its colours. So every polarimetric image is a pair by itself, of what a camera
    without polarisers sees and of what one with them does.

    Batch keys: `image_a` and `image_b`, or those of pairs. A mirrored image of domain B has I45 and I135 exchanged.
    """

    pipeline_class = PolarimetricPipeline
    identity_adapts = True
    calibration: Tensor
    inverse: Tensor

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        return super().losses(phase, networks, as_domains(batch), noise, cache)

    def translation_losses(self, raw: Tensor, fake_b: Tensor, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        intensities = to_intensities(raw)
        calibration, inverse = self.camera_on(raw.device)
        losses = {}
        # Measured without weight too: how far an unconstrained model is from physics is worth knowing.
        with torch.set_grad_enabled(self.calibration_weight > 0):
            losses["C1"] = self.calibration_weight, calibration_loss(intensities, calibration, inverse)
        with torch.set_grad_enabled(self.cone_weight > 0):
            distance = cone_loss if self.cone_loss == "relu" else proximal_cone_loss
            losses["C2"] = self.cone_weight, distance(intensities, inverse)
        if self.paired_weight > 0:
            losses["paired"] = self.paired_weight, self.distance_b(fake_b, batch["image_b"])
        return losses

    def as_a(self, image: Tensor) -> Tensor:
        """As bright in each channel of domain A as an image of domain B is without polarisers."""
        calibration, inverse = self.camera_on(image.device)
        s0 = stokes_vector(to_intensities(image, 1.0), inverse)[:, :1]
        return (2 * s0 * calibration[:, 0].mean() - 1).expand(-1, self.data.channels, -1, -1)

    def as_b(self, image: Tensor) -> Tensor:
        """Light as bright as an image of domain A, of which nothing is polarised."""
        calibration, _ = self.camera_on(image.device)
        share = calibration[:, 0] / calibration[:, 0].mean()
        return 2 * luminance(image) * share[:, None, None] - 1

    def finished(self, translation: Tensor) -> Tensor:
        """A Pi(B y), with `project_translations`."""
        if not self.project_translations:
            return translation
        camera = self.camera_on(translation.device)
        return 2 * project_intensities(to_intensities(translation, 1.0), *camera, maximum=1.0) - 1

    def shown(self, image: Tensor) -> Tensor:
        """(S0, S1 / S0, S2 / S0), with `discriminator_input="stokes"`."""
        return image if self.discriminator_input == "intensities" else self.normalised(image)

    def distance_b(self, image: Tensor, target: Tensor) -> Tensor:
        """That of the intensities, and `stokes_weight` times that of (S1, S2) / S0, which dark pixels have, too."""
        distance = super().distance_b(image, target)
        if self.stokes_weight == 0:
            return distance
        polarised, wanted = (self.normalised(each)[:, 1:] for each in (image, target))
        return distance + self.stokes_weight * pixel_loss(self.reconstruction_loss, polarised, wanted)

    def normalised(self, image: Tensor) -> Tensor:
        """`normalised_stokes` of images in [-1, 1]."""
        return normalised_stokes(to_intensities(image, 1.0), self.camera_on(image.device)[1])

    def camera_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """A and B, kept where they are needed: a copy in each step would make the host wait for the device."""
        self.calibration, self.inverse = self.calibration.to(device), self.inverse.to(device)
        return self.calibration, self.inverse

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        generator_ab: ModelMixin,
        generator_ba: ModelMixin,
        discriminator_a: ModelMixin,
        discriminator_b: ModelMixin,
        data: DataSpec,
        gan_loss: GANLossName | GANLoss = "least_squares",
        cycle_weight: float = 10.0,
        identity_weight: float = 0.0,
        reconstruction_loss: PixelLoss = "l1",
        pool_size: int = 50,
        discriminator_learning_rate: float | None = None,
        calibration_weight: float = 1.0,
        cone_weight: float = 1.0,
        paired_weight: float = 0.0,
        calibration: list[list[float]] | None = None,
        left_inverse: LeftInverse = "authors",
        gradient_penalty: Penalty = "none",
        gradient_penalty_weight: float | None = None,
        cone_loss: ConeLoss = "relu",
        project_translations: bool = False,
        discriminator_input: PolarimetricView = "intensities",
        stokes_weight: float = 0.0,
    ) -> None:
        """Put the parts together.

        Args:
            generator_ab: From RGB or grey images to (I0, I45, I90, I135).
            generator_ba: Back.
            discriminator_a: RGB or grey image -> logits of "real".
            discriminator_b: The same of polarimetric images.
            data: What the RGB or grey images look like, and the polarimetric ones in `data.other`.
            gan_loss: As of `CycleGANObjective`.
            cycle_weight: As of `CycleGANObjective`.
            identity_weight: Of the identity loss, see the class.
            reconstruction_loss: As of `CycleGANObjective`; of pairs as well.
            pool_size: As of `CycleGANObjective`.
            discriminator_learning_rate: As of `CycleGANObjective`.
            calibration_weight: mu, of C1.
            cone_weight: nu, of C2.
            paired_weight: Of the distance between a translation and its target; above 0 batches must be pairs.
            calibration: A, four rows of three numbers; None for an ideal camera's.
            left_inverse: B, see `losses.polarimetry.left_inverse`.
            gradient_penalty: As of `CycleGANObjective`.
            gradient_penalty_weight: As of `CycleGANObjective`.
            cone_loss: C2: "relu", max(S1^2 + S2^2 - S0^2, 0), or "proximal", 1/2 ||S - Pi(S)||^2.
            project_translations: Give the discriminator, the cycle and the user A Pi(B G_AB(a)) instead of G_AB(a);
                C1 and C2 remain losses of G_AB(a) itself.
            discriminator_input: What `discriminator_b` sees: the four "intensities", or "stokes", three channels, see
                `losses.polarimetry.normalised_stokes`.
            stokes_weight: Of the distance between (S1, S2) / S0 of two images, relative to that of their intensities,
                in the identity loss and in that of pairs.

        Raises:
            UserError: `calibration` has another shape or no such inverse, or `project_translations` would make
                negative intensities with it; or as of `CycleGANObjective`.
        """
        check_choice("cone_loss", cone_loss, get_args(ConeLoss))
        check_choice("discriminator_input", discriminator_input, get_args(PolarimetricView))
        super().__init__(
            generator_ab,
            generator_ba,
            discriminator_a,
            discriminator_b,
            data,
            gan_loss,
            cycle_weight,
            identity_weight,
            reconstruction_loss,
            pool_size,
            discriminator_learning_rate,
            gradient_penalty,
            gradient_penalty_weight,
        )
        self.calibration_weight, self.cone_weight, self.paired_weight = calibration_weight, cone_weight, paired_weight
        self.calibration, self.inverse = camera(calibration, left_inverse)
        self.left_inverse, self.cone_loss = left_inverse, cone_loss
        self.project_translations, self.discriminator_input = project_translations, discriminator_input
        self.stokes_weight = stokes_weight
        if project_translations:
            check_passes_no_more_than_there_is(self.calibration, "project_translations")

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, ModelMixin]) -> PolarimetricPipeline:
        return PolarimetricPipeline(
            networks["generator_ab"],
            networks["generator_ba"],
            calibration=self.calibration.tolist(),
            left_inverse=self.left_inverse,
            project=self.project_translations,
            **value_scales(self.data),
        )

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        image = in_unit_range(as_domains(batch)["image_a"])
        output = pipeline(image=image, output_type="pt")
        cycle = pipeline.reconstruct_source(output.images, output_type="pt").images
        return {"A, I0, polarisation, cycle": side_by_side(image, output.images, output.picture, cycle)}

    def evaluate(self, networks: dict[str, Any], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        return super().evaluate(networks, as_domains(batch), generator)

    def translation_figures(self, fake_b: Tensor, batch: Batch) -> dict[str, Tensor]:
        intensities = in_unit_range(fake_b.float())
        calibration, inverse = self.camera_on(fake_b.device)
        figures = {
            "C1": c1_residual(intensities, calibration, inverse),
            "C2 violated": c2_violation_rate(intensities, inverse),
        }
        if self.paired_weight > 0:
            figures["L1"] = absolute_error(fake_b, batch["image_b"])
        return figures


def camera(calibration: list[list[float]] | None, kind: LeftInverse) -> tuple[Tensor, Tensor]:
    """A, (4, 3), and its left inverse B, (3, 4); of an ideal camera where A is None.

    Raises:
        UserError: A has another shape, or no such inverse.
    """
    matrix = camera_matrix(calibration)
    return matrix, left_inverse(matrix, kind)


def as_domains(batch: Batch) -> Batch:
    """A batch of pairs with the names of one of two domains."""
    if "image_a" in batch:
        return batch
    return {**batch, "image_a": batch["conditioning_image"], "image_b": batch["target_image"]}
