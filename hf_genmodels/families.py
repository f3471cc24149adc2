"""The registry: every family, and where its parts are. Imports nothing heavy."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:
    from .objectives.base import Objective


@dataclass(frozen=True)
class Family:
    """One family of models; its stem `name` is the same in every folder.

    Attributes:
        name: Stem of `objectives/<name>.py`, `pipelines/<name>.py`, `training/train_<name>.py`,
            `model_cards/<name>.md`.
        title: What it is, for people.
        objective: Name of the `Objective` subclass in `hf_genmodels.objectives.<name>`.
        pipeline: Public name of the pipeline class, or None for a family that only serves others (the classifier).
        pipeline_tag: Task on the Hub.
        variants: Other pipelines that models of the family may be saved as.
    """

    name: str
    title: str
    objective: str
    pipeline: str | None
    pipeline_tag: str
    variants: tuple[str, ...] = ()

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Public names of all its pipeline classes."""
        return () if self.pipeline is None else (self.pipeline, *self.variants)

    @property
    def script(self) -> str:
        """Module that `accelerate launch -m` runs."""
        return f"hf_genmodels.training.train_{self.name}"

    def load_objective(self) -> type[Objective]:
        """Import and return the objective's class."""
        objective: type[Objective] = getattr(
            importlib.import_module(f"hf_genmodels.objectives.{self.name}"), self.objective
        )
        return objective


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "autoencoder", "Autoencoder", "AutoencoderObjective", "AutoencoderPipeline", "image-feature-extraction"
        ),
        Family("vae", "Variational autoencoder", "VAEObjective", "VAEPipeline", "unconditional-image-generation"),
        Family(
            "gan", "Generative adversarial network", "GANObjective", "GANPipeline", "unconditional-image-generation"
        ),
        Family("began", "Boundary equilibrium GAN", "BEGANObjective", "GANPipeline", "unconditional-image-generation"),
        Family(
            "tempered_gan",
            "Tempered adversarial network",
            "TemperedGANObjective",
            "GANPipeline",
            "unconditional-image-generation",
        ),
        Family(
            "avae",
            "Adversarial variational autoencoder",
            "AVAEObjective",
            "AVAEPipeline",
            "unconditional-image-generation",
        ),
        Family("bigan", "Bidirectional GAN", "BiGANObjective", "BiGANPipeline", "unconditional-image-generation"),
        Family("vaegan", "VAE/GAN", "VAEGANObjective", "VAEGANPipeline", "unconditional-image-generation"),
        Family("aae", "Adversarial autoencoder", "AAEObjective", "AAEPipeline", "unconditional-image-generation"),
        Family("flow", "Normalizing flow", "FlowObjective", "FlowPipeline", "unconditional-image-generation"),
        Family(
            "ddpm",
            "Denoising diffusion probabilistic model",
            "DDPMObjective",
            "DDPMPipeline",
            "unconditional-image-generation",
            variants=("ConditionalDDPMPipeline", "LatentDDPMPipeline", "InverseProblemPipeline"),
        ),
        Family("pix2pix", "Pix2Pix", "Pix2PixObjective", "Pix2PixPipeline", "image-to-image"),
        Family("cyclegan", "CycleGAN", "CycleGANObjective", "CycleGANPipeline", "image-to-image"),
        Family(
            "polarimetric",
            "Polarimetric CycleGAN",
            "PolarimetricObjective",
            "PolarimetricPipeline",
            "image-to-image",
        ),
        Family("pixelwise", "Pixel-wise conditioned GAN", "PixelwiseObjective", "PixelwisePipeline", "image-to-image"),
        Family(
            "gaussian",
            "Gaussian (PCA) model",
            "GaussianObjective",
            "GaussianPipeline",
            "unconditional-image-generation",
        ),
        Family(
            "gaussian_mixture",
            "Gaussian mixture",
            "GaussianMixtureObjective",
            "GaussianMixturePipeline",
            "unconditional-image-generation",
        ),
        Family(
            "texture",
            "Stationary Gaussian texture",
            "TextureObjective",
            "TexturePipeline",
            "unconditional-image-generation",
        ),
        Family("classifier", "Feature classifier", "ClassifierObjective", None, "image-classification"),
    )
}

# The pipeline classes that `AutoPipeline` may load.
PIPELINES: frozenset[str] = frozenset(name for family in FAMILIES.values() for name in family.pipelines)


def get_family(name: str) -> Family:
    """Look a family up by its stem.

    Raises:
        UserError: There is no such family.
    """
    if name not in FAMILIES:
        raise UserError(f"unknown family {name!r}; choose one of: {', '.join(FAMILIES)}")
    return FAMILIES[name]
