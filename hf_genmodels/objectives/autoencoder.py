"""The autoencoder's objective: squared error, with a regulariser of the code or a corruption of the input."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec
from ..errors import UserError
from ..loading import load_network
from ..losses.reconstruction import clamped_squared_error
from ..losses.sparsity import contractive_penalty, kl_sparsity, l1_sparsity
from ..models.autoencoder import Architecture, Autoencoder
from ..pipelines.autoencoder import AutoencoderPipeline
from .base import (
    Batch,
    Noise,
    Objective,
    Phase,
    adopt_saved_options,
    check_labels,
    check_minimums,
    check_shape,
    reconstruction_pairs,
)
from .trunk import TrunkArguments, saved_options


@dataclass
class AutoencoderArguments(TrunkArguments):
    """Options of `train_autoencoder.py`."""

    architecture: Architecture = field(
        default="conv", metadata={"help": "linear (= PCA), mlp, or conv (DCGAN-style)."}
    )
    regularizer: Literal["none", "l1", "kl", "contractive"] = field(
        default="none",
        metadata={"help": "Of the code: L1 norm, KL of the mean activation to --sparsity_target, or ||dz/dx||^2."},
    )
    regularizer_weight: float = field(default=1e-3, metadata={"help": "Weight of --regularizer."})
    sparsity_target: float = field(default=0.05, metadata={"help": "kl: wished mean activation, rho of Ng 2011."})
    k_sparse: int | None = field(default=None, metadata={"help": "Keep only the k largest entries of each code."})
    corruption: Literal["none", "gaussian", "masking"] = field(
        default="none", metadata={"help": "Denoising: what is done to the input before it is encoded."}
    )
    corruption_level: float = field(
        default=0.3,
        metadata={
            "help": "gaussian: standard deviation on the [-1, 1] scale; masking: share of entries set to the minimum."
        },
    )
    classification_weight: float = field(
        default=0.0, metadata={"help": "Weight of a linear classifier's cross-entropy on the code (needs labels)."}
    )


class AutoencoderObjective(Objective):
    """||x - g(f(x~))||^2, summed over dimensions and averaged over the batch, plus weight x regulariser.

    x~ is x, or x corrupted (denoising autoencoder, Vincent et al. 2008). Regularisers: `losses/sparsity.py`. The KL's
    mean activation is over one process's micro-batch.
    """

    Arguments = AutoencoderArguments
    ema = ("autoencoder",)

    def __init__(self, autoencoder: Autoencoder, data: DataSpec, args: AutoencoderArguments) -> None:
        check_arguments(args, data, autoencoder)
        self.networks = {"autoencoder": autoencoder}
        self.data = data
        self.args = args
        self.phases = (
            Phase("reconstruction", trains=("autoencoder",), double_backward=args.regularizer == "contractive"),
        )

    @classmethod
    def from_args(cls, args: AutoencoderArguments, data: DataSpec) -> "AutoencoderObjective":
        check_minimums(args, latent_dim=1)
        autoencoder = Autoencoder(
            in_channels=data.channels,
            sample_size=data.size,
            latent_activation="sigmoid" if args.regularizer == "kl" else "identity",
            k_sparse=args.k_sparse,
            num_classes=check_labels(data, "--classification_weight") if args.classification_weight else None,
            **args.network_options(args.architecture),
        )
        return cls(autoencoder, data, args)

    @classmethod
    def from_pretrained(cls, folder: Path, args: AutoencoderArguments, data: DataSpec) -> "AutoencoderObjective":
        autoencoder = load_network(Autoencoder, folder / "autoencoder")
        check_shape(autoencoder, data)
        adopt_saved_options(args, saved_options(autoencoder.config) | {"k_sparse": autoencoder.config.k_sparse})
        if args.regularizer == "contractive" and mixes_the_batch(autoencoder):
            raise UserError(
                "--regularizer contractive needs codes that depend on one image each, but the saved network has batch "
                "normalisation; train one anew with --norm group or none"
            )
        return cls(autoencoder, data, args)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        args, image = self.args, batch["image"]
        sample = corrupt(image, args.corruption, args.corruption_level, noise)
        if args.regularizer == "contractive":
            sample = sample.detach().requires_grad_()
        output = networks["autoencoder"](sample)
        error = (output.reconstruction - image).square().flatten(1).sum(1).mean()
        losses = {"loss": error, "error": error}
        if args.regularizer == "l1":
            losses["regularizer"] = l1_sparsity(output.latents)
        elif args.regularizer == "kl":
            losses["regularizer"] = kl_sparsity(output.latents, args.sparsity_target)
        elif args.regularizer == "contractive":
            losses["regularizer"] = contractive_penalty(output.latents, sample)
        if "regularizer" in losses:
            losses["loss"] = losses["loss"] + args.regularizer_weight * losses["regularizer"]
        if args.classification_weight:
            losses["cross_entropy"] = F.cross_entropy(output.logits, batch["label"])
            losses["loss"] = losses["loss"] + args.classification_weight * losses["cross_entropy"]
        return losses

    def pipeline(self, networks: dict[str, ModelMixin]) -> AutoencoderPipeline:
        return AutoencoderPipeline(autoencoder=networks["autoencoder"], value_scale=self.data.value_scale)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        if not self.data.is_image:
            points = batch["image"]
            return {"data": points, "reconstructions": pipeline.reconstruct(points, output_type="pt").images}
        return {"reconstructions": reconstruction_pairs(pipeline, batch["image"])}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        output = networks["autoencoder"](batch["image"])
        figures = {"mse": clamped_squared_error(output.reconstruction, batch["image"])}
        if output.logits is not None:
            figures["accuracy"] = (output.logits.argmax(1) == batch["label"]).float()
        return figures


def corrupt(image: Tensor, corruption: str, level: float, noise: Noise) -> Tensor:
    """x~: add Gaussian noise of standard deviation `level`, or set a share `level` of the entries to -1, the minimum.

    Args:
        image: (batch, ...) in [-1, 1].
        corruption: "none", "gaussian" or "masking".
        level: See above.
        noise: Where the random numbers come from.
    """
    if corruption == "gaussian":
        return image + level * noise.normal(tuple(image.shape), like=image)
    if corruption == "masking":
        return torch.where(noise.uniform(tuple(image.shape), like=image) < level, -torch.ones_like(image), image)
    return image


def mixes_the_batch(autoencoder: Autoencoder) -> bool:
    """Whether the code of an image depends on the others of its batch while training."""
    return autoencoder.config.architecture == "conv" and autoencoder.config.norm == "batch"


def check_arguments(args: AutoencoderArguments, data: DataSpec, autoencoder: Autoencoder) -> None:
    """Refuse options that do not go together, or not with the network, which may be a saved one.

    Raises:
        UserError: One line for the first such pair.
    """
    config = autoencoder.config
    check_minimums(args, regularizer_weight=0, corruption_level=0, classification_weight=0)
    if args.regularizer == "contractive" and mixes_the_batch(autoencoder):
        raise UserError(
            "--regularizer contractive needs codes that depend on one image each: use --norm group or none"
        )
    if config.k_sparse is not None and not 1 <= config.k_sparse <= config.latent_dim:
        raise UserError(f"--k_sparse {config.k_sparse} must lie between 1 and --latent_dim {config.latent_dim}")
    if not 0 < args.sparsity_target < 1:
        raise UserError(f"--sparsity_target {args.sparsity_target} must lie in (0, 1)")
    if args.regularizer == "kl" and config.latent_activation != "sigmoid":
        raise UserError("--regularizer kl needs codes in (0, 1); the pretrained network was trained without it")
    if args.corruption == "masking" and not args.corruption_level <= 1:
        raise UserError(f"--corruption_level {args.corruption_level} must lie in [0, 1] for masking")
    if args.corruption == "masking" and not data.is_image:
        raise UserError(f"--corruption masking needs images in [-1, 1], but {data.name} has vectors; use gaussian")
    if args.classification_weight and config.num_classes != check_labels(data, "--classification_weight"):
        raise UserError(
            f"--classification_weight needs a head for the classes of {data.name}; the pretrained network has "
            f"{'none' if config.num_classes is None else f'one for {config.num_classes}'}"
        )
