"""The flows' objective: exact negative log-likelihood, of images after uniform dequantisation."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..blocks.flows import FlowModel
from ..checks import check_widths
from ..data import DataSpec
from ..errors import UserError
from ..losses.dequantization import bits_per_dim, check_range, dequantize, discrete_log_likelihood
from ..models.glow import Glow
from ..models.nice import NICE
from ..models.realnvp import RealNVP
from ..models.residual_flows import PlanarFlow, RadialFlow
from ..pipelines.flow import FlowPipeline
from .base import (
    Batch,
    Noise,
    Objective,
    Phase,
    adopt_saved_options,
    check_labels,
    check_positive,
    check_saved_classes,
    load_networks,
)
from .levels import check_num_levels, choose_num_levels

NETWORKS: dict[str, Any] = {
    "planar": PlanarFlow,
    "radial": RadialFlow,
    "nice": NICE,
    "realnvp": RealNVP,
    "glow": Glow,
}
# For vectors and for images: architecture -> option -> the argument of its network that it sets.
VECTORS: dict[str, dict[str, str]] = {
    "planar": {"num_flow_steps": "num_flows"},
    "radial": {"num_flow_steps": "num_flows"},
    "nice": {"num_flow_steps": "num_couplings", "hidden_dims": "hidden_dims"},
    "realnvp": {"num_flow_steps": "num_couplings", "hidden_dims": "hidden_dims", "scale_limit": "scale_limit"},
}
IMAGES: dict[str, dict[str, str]] = {
    "nice": {"num_flow_steps": "num_couplings", "hidden_dims": "hidden_dims"},
    "realnvp": {name: name for name in ("num_scales", "hidden_channels", "scale_limit")},
    "glow": {name: name for name in ("num_flow_steps", "num_scales", "hidden_channels", "scale_limit")},
}
READER = "dequantisation"  # as the messages about grey levels call it


@dataclass
class FlowArguments:
    """Options of `train_flow.py`. Those that are left out are the network's own."""

    architecture: Literal["planar", "radial", "nice", "realnvp", "glow"] | None = field(
        default=None,
        metadata={
            "help": "planar, radial (vectors), nice, realnvp (both) or glow (images); by default realnvp for vectors, "
            "glow for images."
        },
    )
    num_flow_steps: int | None = field(
        default=None,
        metadata={
            "help": "Bijections one after the other: planar or radial flows (16), couplings of nice (4) or of realnvp "
            "for vectors (8), glow's steps at each scale (8)."
        },
    )
    num_scales: int | None = field(
        default=None,
        metadata={"help": "Scales, each half as wide as the one before: glow (3), realnvp for images (2)."},
    )
    hidden_channels: int | None = field(
        default=None, metadata={"help": "Width of the couplings' convolutions: glow (128), realnvp for images (64)."}
    )
    hidden_dims: list[int] | None = field(
        default=None,
        metadata={"help": "Widths of the couplings' dense layers: nice (256 256), realnvp for vectors (64 64)."},
    )
    scale_limit: float | None = field(
        default=None, metadata={"help": "realnvp, glow: bound of a coupling's |log-scale| (2)."}
    )
    num_levels: int | None = field(
        default=None, metadata={"help": "Grey levels by which images are dequantised; those of the data by default."}
    )
    fixed_prior: bool = field(
        default=False, metadata={"help": "glow: a standard normal prior at every scale instead of learned ones."}
    )
    class_conditional: bool = field(
        default=False, metadata={"help": "glow: a prior for each class; needs labels, and learned priors."}
    )

    def network_options(self, data: DataSpec) -> tuple[str, dict[str, Any]]:
        """The architecture, and these options as its network's constructor takes them.

        Raises:
            UserError: An option that means nothing here, or an architecture for other data.
        """
        check_positive(self, "num_flow_steps", "num_scales", "hidden_channels", "scale_limit")
        check_widths("--hidden_dims", self.hidden_dims or ())
        known, kind, best = (IMAGES, "images", "glow") if data.is_image else (VECTORS, "vectors", "realnvp")
        architecture = self.architecture or best
        if architecture not in known:
            raise UserError(
                f"--architecture {architecture} does not take {kind}, which {data.name} has; "
                f"choose one of {', '.join(known)}"
            )
        names = known[architecture]
        allowed = {*names, "architecture"} | ({"num_levels"} if data.is_image else set())
        allowed |= {"fixed_prior", "class_conditional"} if architecture == "glow" else set()
        for name, default in vars(FlowArguments()).items():
            if name not in allowed and getattr(self, name) != default:
                raise UserError(f"--{name} has no meaning with --architecture {architecture} for {kind}; leave it out")
        options = {argument: getattr(self, name) for name, argument in names.items()}
        return architecture, {argument: value for argument, value in options.items() if value is not None}


class FlowObjective(Objective):
    """-log p(x) of the change of variables, log p(x) = log N(z; 0, I) + log|det dz/dx|, z = f(x).

    One phase trains the flow by exact maximum likelihood (Dinh et al. 2017, arXiv 1605.08803, eq. 2 and 3). Images are
    dequantised by fresh uniform noise each time, which makes the loss an upper bound of the grey levels' negative
    log-probability (Theis et al. 2016, arXiv 1511.01844, section 3.1). The loss is in nats a sample; `bits_per_dim` in
    the log is the same number in the literature's unit.
    """

    Arguments = FlowArguments
    ema = ("flow",)
    phases = (Phase("likelihood", trains=("flow",)),)

    def __init__(self, flow: FlowModel, data: DataSpec) -> None:
        self.networks = {"flow": flow}
        self.data = data
        self.num_levels: int | None = flow.config.get("num_levels")
        self.is_conditional = flow.config.get("num_classes") is not None

    @classmethod
    def from_args(cls, args: FlowArguments, data: DataSpec) -> "FlowObjective":
        architecture, options = args.network_options(data)
        if args.class_conditional and args.fixed_prior:
            raise UserError("--class_conditional and --fixed_prior exclude each other: a class has a prior of its own")
        if data.is_image:
            options |= {"sample_size": data.size, "num_levels": choose_num_levels(args, data, READER)}
        if args.class_conditional:
            options["num_classes"] = check_labels(data, "--class_conditional")
        if args.fixed_prior:
            options["learned_prior"] = False
        return cls(NETWORKS[architecture](in_channels=data.channels, **options), data)

    @classmethod
    def from_pretrained(cls, folder: Path, args: FlowArguments, data: DataSpec) -> "FlowObjective":
        flow = load_networks(folder, data, {"flow": tuple(NETWORKS.values())})["flow"]
        given = args.num_levels
        adopt_saved_options(args, saved_flow_options(flow))
        if args.num_levels is not None and given is None:
            check_num_levels(args.num_levels, data, READER)
        if args.class_conditional:
            check_saved_classes(flow.config.num_classes, data)
        return cls(flow, data)

    def initialize(self, batch: Batch, reduce: Callable[[Tensor], Tensor]) -> None:
        flow: Any = self.networks["flow"]
        image = batch["image"]
        if self.num_levels is not None:
            check_range(image)
        flow.initialize(self.continuous(image, torch.full_like(image, 0.5)), self.labels(batch), reduce)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        drawn = None if self.num_levels is None else noise.uniform(tuple(batch["image"].shape), like=batch["image"])
        log_likelihood = self.log_likelihood(networks["flow"], batch, drawn).mean()
        return {"loss": -log_likelihood, "bits_per_dim": bits_per_dim(log_likelihood, self.dim)}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        image = batch["image"]
        drawn = None if self.num_levels is None else torch.rand(image.shape, generator=generator).to(image)
        log_likelihood = self.log_likelihood(networks["flow"], batch, drawn)
        return {
            "negative_log_likelihood": -log_likelihood,
            "bits_per_dim": bits_per_dim(log_likelihood, self.dim),
        }

    def pipeline(self, networks: dict[str, ModelMixin]) -> FlowPipeline:
        flow: Any = networks["flow"]
        return FlowPipeline(flow=flow, value_scale=self.data.value_scale)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        count = len(batch["image"])
        samples = pipeline(batch_size=count, generator=generator, output_type="pt").images
        if not self.data.is_image:
            return {"data": batch["image"], "samples": samples}
        cooler = pipeline(batch_size=count, generator=generator, temperature=0.7, output_type="pt").images
        return {"samples": samples, "samples at temperature 0.7": cooler}

    # the density ----------------------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Numbers in one sample."""
        return math.prod(self.data.shape)

    def log_likelihood(self, flow: Any, batch: Batch, noise: Tensor | None) -> Tensor:
        """Log p(x) of each sample, (batch,) nats: of vectors the density, of images the bound of the probability.

        Args:
            flow: The network, possibly wrapped.
            batch: As for `losses`.
            noise: Uniform in [0, 1), of the images' shape; None for vectors.
        """
        log_density = flow(self.continuous(batch["image"], noise), self.labels(batch)).log_likelihood
        return (
            log_density if self.num_levels is None else discrete_log_likelihood(log_density, self.dim, self.num_levels)
        )

    def continuous(self, image: Tensor, noise: Tensor | None) -> Tensor:
        """What the flow takes: vectors as they are, images dequantised with `noise`."""
        return image if self.num_levels is None or noise is None else dequantize(image, noise, self.num_levels)

    def labels(self, batch: Batch) -> Tensor | None:
        """The labels, where the flow reads them."""
        return batch["label"] if self.is_conditional else None


def saved_flow_options(flow: Any) -> dict[str, Any]:
    """The options of `FlowArguments`, of a saved flow."""
    config = flow.config
    architecture = next(name for name, network_class in NETWORKS.items() if type(flow) is network_class)
    names = (VECTORS if config.sample_size is None else IMAGES)[architecture]
    options = dict.fromkeys(vars(FlowArguments())) | {name: config[argument] for name, argument in names.items()}
    return options | {
        "architecture": architecture,
        "hidden_dims": list(options["hidden_dims"]) if options["hidden_dims"] is not None else None,
        "num_levels": config.get("num_levels"),
        "fixed_prior": not config.get("learned_prior", True),
        "class_conditional": config.get("num_classes") is not None,
    }
