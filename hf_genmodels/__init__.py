"""Generative models that are not giant text-to-image models, with the habits of diffusers.

Importing this package imports neither torch nor diffusers; a public name is imported when it is first used:

    from hf_genmodels import VAEPipeline
    pipe = VAEPipeline.from_pretrained("runs/vae")
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# In a source checkout `pipelines/`, `training/` and `model_cards/` lie beside this folder; an installed package has
# them inside.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "setup.py").is_file() and (_ROOT / "pipelines").is_dir():
    __path__.append(str(_ROOT))

# public name -> the module that defines it
_PUBLIC = {
    # networks
    "Autoencoder": "hf_genmodels.models.autoencoder",
    "BEGANDiscriminator": "hf_genmodels.models.began",
    "BEGANGenerator": "hf_genmodels.models.began",
    "BiGANDiscriminator": "hf_genmodels.models.bigan",
    "Classifier": "hf_genmodels.models.classifier",
    "DCGANDiscriminator": "hf_genmodels.models.dcgan",
    "DCGANEncoder": "hf_genmodels.models.dcgan",
    "DCGANGenerator": "hf_genmodels.models.dcgan",
    "GaussianMixtureModel": "hf_genmodels.models.gaussian_mixture",
    "GaussianModel": "hf_genmodels.models.gaussian",
    "Glow": "hf_genmodels.models.glow",
    "InfoGANDiscriminator": "hf_genmodels.models.infogan",
    "LensNetwork": "hf_genmodels.models.lens",
    "MLPDiscriminator": "hf_genmodels.models.mlp",
    "MLPEncoder": "hf_genmodels.models.mlp",
    "MLPGenerator": "hf_genmodels.models.mlp",
    "NICE": "hf_genmodels.models.nice",
    "PatchDiscriminator": "hf_genmodels.models.patch_discriminator",
    "PixelwiseGenerator": "hf_genmodels.models.pixelwise",
    "PlanarFlow": "hf_genmodels.models.residual_flows",
    "RadialFlow": "hf_genmodels.models.residual_flows",
    "RealNVP": "hf_genmodels.models.realnvp",
    "ResNetTranslator": "hf_genmodels.models.resnet_translator",
    "SNGANDiscriminator": "hf_genmodels.models.sngan",
    "SNGANGenerator": "hf_genmodels.models.sngan",
    "StationaryTexture": "hf_genmodels.models.texture",
    "StochasticUNet": "hf_genmodels.models.stochastic_unet",
    "TimeDiscriminator": "hf_genmodels.models.time_discriminator",
    "UNetTranslator": "hf_genmodels.models.unet_translator",
    "VAE": "hf_genmodels.models.vae",
    "VAEDecoder": "hf_genmodels.models.vae_parts",
    "VAEEncoder": "hf_genmodels.models.vae_parts",
    # pipelines
    "AAEPipeline": "hf_genmodels.pipelines.aae",
    "AVAEPipeline": "hf_genmodels.pipelines.avae",
    "AutoPipeline": "hf_genmodels.pipelines.auto",
    "AutoencoderPipeline": "hf_genmodels.pipelines.autoencoder",
    "BiGANPipeline": "hf_genmodels.pipelines.bigan",
    "ConditionalDDPMPipeline": "hf_genmodels.pipelines.conditional_ddpm",
    "CycleGANPipeline": "hf_genmodels.pipelines.cyclegan",
    "DDPMPipeline": "hf_genmodels.pipelines.ddpm",
    "DiffusionGANPipeline": "hf_genmodels.pipelines.diffusion_gan",
    "EDMPipeline": "hf_genmodels.pipelines.edm",
    "EncodingPipeline": "hf_genmodels.pipelines.encoding",
    "FlowMatchingPipeline": "hf_genmodels.pipelines.flow_matching",
    "FlowPipeline": "hf_genmodels.pipelines.flow",
    "GANPipeline": "hf_genmodels.pipelines.gan",
    "GaussianMixturePipeline": "hf_genmodels.pipelines.gaussian_mixture",
    "GaussianPipeline": "hf_genmodels.pipelines.gaussian",
    "GenerativePipeline": "hf_genmodels.pipelines.base",
    "InfoGANCodes": "hf_genmodels.pipelines.infogan",
    "InfoGANPipeline": "hf_genmodels.pipelines.infogan",
    "InverseProblemPipeline": "hf_genmodels.pipelines.inverse_problem",
    "LatentDDPMPipeline": "hf_genmodels.pipelines.latent_ddpm",
    "LabelMapPipeline": "hf_genmodels.pipelines.label_map",
    "LatentEDMPipeline": "hf_genmodels.pipelines.latent_edm",
    "LatentFlowMatchingPipeline": "hf_genmodels.pipelines.latent_flow_matching",
    "LatentScorePipeline": "hf_genmodels.pipelines.latent_score",
    "Pix2PixPipeline": "hf_genmodels.pipelines.pix2pix",
    "PixelwisePipeline": "hf_genmodels.pipelines.pixelwise",
    "PolarimetricPipeline": "hf_genmodels.pipelines.polarimetric",
    "PosteriorPipeline": "hf_genmodels.pipelines.encoding",
    "ScorePipeline": "hf_genmodels.pipelines.score",
    "TexturePipeline": "hf_genmodels.pipelines.texture",
    "VAEGANPipeline": "hf_genmodels.pipelines.vaegan",
    "VAEPipeline": "hf_genmodels.pipelines.vae",
    # control of trained models
    "InverseProblemOutput": "hf_genmodels.pipelines.measurements",
    "solve_inverse_problem": "hf_genmodels.control.inverse_problems",
    # objectives, and training with them
    "AAEObjective": "hf_genmodels.objectives.aae",
    "AVAEObjective": "hf_genmodels.objectives.avae",
    "AutoencoderObjective": "hf_genmodels.objectives.autoencoder",
    "BEGANObjective": "hf_genmodels.objectives.began",
    "BiGANObjective": "hf_genmodels.objectives.bigan",
    "ClassifierObjective": "hf_genmodels.objectives.classifier",
    "CycleGANObjective": "hf_genmodels.objectives.cyclegan",
    "DDPMObjective": "hf_genmodels.objectives.ddpm",
    "DiffusionGANObjective": "hf_genmodels.objectives.diffusion_gan",
    "EDMObjective": "hf_genmodels.objectives.edm",
    "FactorVAEObjective": "hf_genmodels.objectives.factorvae",
    "FlowMatchingObjective": "hf_genmodels.objectives.flow_matching",
    "FlowObjective": "hf_genmodels.objectives.flow",
    "GANObjective": "hf_genmodels.objectives.gan",
    "GaussianMixtureObjective": "hf_genmodels.objectives.gaussian_mixture",
    "GaussianObjective": "hf_genmodels.objectives.gaussian",
    "InfoGANObjective": "hf_genmodels.objectives.infogan",
    "Pix2PixObjective": "hf_genmodels.objectives.pix2pix",
    "LabelMapObjective": "hf_genmodels.objectives.label_maps",
    "MomentMatchingObjective": "hf_genmodels.objectives.moment_matching",
    "PixelwiseObjective": "hf_genmodels.objectives.pixelwise",
    "PolarimetricObjective": "hf_genmodels.objectives.polarimetric",
    "ScoreObjective": "hf_genmodels.objectives.score",
    "TemperedGANObjective": "hf_genmodels.objectives.tempered_gan",
    "TextureObjective": "hf_genmodels.objectives.texture",
    "VAEGANObjective": "hf_genmodels.objectives.vaegan",
    "VAEObjective": "hf_genmodels.objectives.vae",
    "GANLoss": "hf_genmodels.losses.gan",
    "Noise": "hf_genmodels.objectives.base",
    "Objective": "hf_genmodels.objectives.base",
    "Phase": "hf_genmodels.objectives.base",
    "TrainingArguments": "hf_genmodels.training.arguments",
    "train": "hf_genmodels.training.entry",
    # the rest of what other people's code needs
    "UserError": "hf_genmodels.errors",
    "FAMILIES": "hf_genmodels.families",
    "Family": "hf_genmodels.families",
    "register": "hf_genmodels.registration",
    "DataArguments": "hf_genmodels.data",
    "DataSpec": "hf_genmodels.data",
    "LabelMaps": "hf_genmodels.data",
    "Layout": "hf_genmodels.data",
    "load_data": "hf_genmodels.data",
    # diffusers finds the loading methods of a component by these base classes of the library it names
    "ModelMixin": "diffusers",
    "SchedulerMixin": "diffusers",
}
__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from diffusers import ModelMixin, SchedulerMixin

    from .control.inverse_problems import solve_inverse_problem
    from .data import DataArguments, DataSpec, LabelMaps, Layout, load_data
    from .errors import UserError
    from .families import FAMILIES, Family
    from .losses.gan import GANLoss
    from .models.autoencoder import Autoencoder
    from .models.began import BEGANDiscriminator, BEGANGenerator
    from .models.bigan import BiGANDiscriminator
    from .models.classifier import Classifier
    from .models.dcgan import DCGANDiscriminator, DCGANEncoder, DCGANGenerator
    from .models.gaussian import GaussianModel
    from .models.gaussian_mixture import GaussianMixtureModel
    from .models.glow import Glow
    from .models.infogan import InfoGANDiscriminator
    from .models.lens import LensNetwork
    from .models.mlp import MLPDiscriminator, MLPEncoder, MLPGenerator
    from .models.nice import NICE
    from .models.patch_discriminator import PatchDiscriminator
    from .models.pixelwise import PixelwiseGenerator
    from .models.realnvp import RealNVP
    from .models.residual_flows import PlanarFlow, RadialFlow
    from .models.resnet_translator import ResNetTranslator
    from .models.sngan import SNGANDiscriminator, SNGANGenerator
    from .models.stochastic_unet import StochasticUNet
    from .models.texture import StationaryTexture
    from .models.time_discriminator import TimeDiscriminator
    from .models.unet_translator import UNetTranslator
    from .models.vae import VAE
    from .models.vae_parts import VAEDecoder, VAEEncoder
    from .objectives.aae import AAEObjective
    from .objectives.autoencoder import AutoencoderObjective
    from .objectives.avae import AVAEObjective
    from .objectives.base import Noise, Objective, Phase
    from .objectives.began import BEGANObjective
    from .objectives.bigan import BiGANObjective
    from .objectives.classifier import ClassifierObjective
    from .objectives.cyclegan import CycleGANObjective
    from .objectives.ddpm import DDPMObjective
    from .objectives.diffusion_gan import DiffusionGANObjective
    from .objectives.edm import EDMObjective
    from .objectives.factorvae import FactorVAEObjective
    from .objectives.flow import FlowObjective
    from .objectives.flow_matching import FlowMatchingObjective
    from .objectives.gan import GANObjective
    from .objectives.gaussian import GaussianObjective
    from .objectives.gaussian_mixture import GaussianMixtureObjective
    from .objectives.infogan import InfoGANObjective
    from .objectives.label_maps import LabelMapObjective
    from .objectives.moment_matching import MomentMatchingObjective
    from .objectives.pix2pix import Pix2PixObjective
    from .objectives.pixelwise import PixelwiseObjective
    from .objectives.polarimetric import PolarimetricObjective
    from .objectives.score import ScoreObjective
    from .objectives.tempered_gan import TemperedGANObjective
    from .objectives.texture import TextureObjective
    from .objectives.vae import VAEObjective
    from .objectives.vaegan import VAEGANObjective
    from .pipelines.aae import AAEPipeline
    from .pipelines.auto import AutoPipeline
    from .pipelines.autoencoder import AutoencoderPipeline
    from .pipelines.avae import AVAEPipeline
    from .pipelines.base import GenerativePipeline
    from .pipelines.bigan import BiGANPipeline
    from .pipelines.conditional_ddpm import ConditionalDDPMPipeline
    from .pipelines.cyclegan import CycleGANPipeline
    from .pipelines.ddpm import DDPMPipeline
    from .pipelines.diffusion_gan import DiffusionGANPipeline
    from .pipelines.edm import EDMPipeline
    from .pipelines.encoding import EncodingPipeline, PosteriorPipeline
    from .pipelines.flow import FlowPipeline
    from .pipelines.flow_matching import FlowMatchingPipeline
    from .pipelines.gan import GANPipeline
    from .pipelines.gaussian import GaussianPipeline
    from .pipelines.gaussian_mixture import GaussianMixturePipeline
    from .pipelines.infogan import InfoGANCodes, InfoGANPipeline
    from .pipelines.inverse_problem import InverseProblemPipeline
    from .pipelines.label_map import LabelMapPipeline
    from .pipelines.latent_ddpm import LatentDDPMPipeline
    from .pipelines.latent_edm import LatentEDMPipeline
    from .pipelines.latent_flow_matching import LatentFlowMatchingPipeline
    from .pipelines.latent_score import LatentScorePipeline
    from .pipelines.measurements import InverseProblemOutput
    from .pipelines.pix2pix import Pix2PixPipeline
    from .pipelines.pixelwise import PixelwisePipeline
    from .pipelines.polarimetric import PolarimetricPipeline
    from .pipelines.score import ScorePipeline
    from .pipelines.texture import TexturePipeline
    from .pipelines.vae import VAEPipeline
    from .pipelines.vaegan import VAEGANPipeline
    from .registration import register
    from .training.arguments import TrainingArguments
    from .training.entry import train


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
