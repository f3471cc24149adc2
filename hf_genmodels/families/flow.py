"""Family `flow`: its options, which of them go together, and how its network is built or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..checks import check_positive, check_unused, check_widths
from ..data.spec import DataSpec
from ..errors import UserError
from .base import Family, adopt_saved_options, check_labels, check_saved_classes, class_notes, load_networks
from .levels import check_num_levels, choose_num_levels

if TYPE_CHECKING:
    from ..objectives.flow import FlowObjective

# Architecture -> public name of its network.
NETWORKS = {"planar": "PlanarFlow", "radial": "RadialFlow", "nice": "NICE", "realnvp": "RealNVP", "glow": "Glow"}
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
CLASS_CONDITIONAL = ("nice", "realnvp", "glow")
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
        default=False,
        metadata={
            "help": "Of labelled data. glow: a prior for each class, so that priors must be learned; nice, realnvp: "
            "couplings that see the class."
        },
    )


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: FlowArguments, data: DataSpec) -> "FlowObjective":
    """The objective with a new network; see `Family.build`."""
    import hf_genmodels

    from ..objectives.flow import FlowObjective

    architecture, options = network_options(args, data)
    if args.class_conditional and args.fixed_prior:
        raise UserError("--class_conditional and --fixed_prior exclude each other: a class has a prior of its own")
    if data.is_image:
        options |= {"sample_size": data.sample_size, "num_levels": choose_num_levels(args, data, READER)}
    if args.class_conditional:
        options["num_classes"] = check_labels(data, "--class_conditional")
    if args.fixed_prior:
        options["learned_prior"] = False
    network_class = getattr(hf_genmodels, NETWORKS[architecture])
    return FlowObjective(network_class(in_channels=data.channels, **options), data)


def reload(folder: Path, args: FlowArguments, data: DataSpec) -> "FlowObjective":
    """The objective around a saved network; see `Family.reload`."""
    from ..objectives.flow import FlowObjective

    flow = load_networks(folder, data, {"flow": tuple(NETWORKS.values())})["flow"]
    given = args.num_levels
    adopt_saved_options(args, saved_flow_options(flow))
    if args.num_levels is not None and given is None:
        check_num_levels(args.num_levels, data, READER)
    if args.class_conditional:
        check_saved_classes(flow.config.num_classes, data)
    built = FlowObjective(flow, data)
    if args.class_conditional:
        built.notes = class_notes(folder, data)
    return built


def network_options(args: FlowArguments, data: DataSpec) -> tuple[str, dict[str, Any]]:
    """The architecture, and the options as its network's constructor takes them.

    Raises:
        UserError: An option that means nothing here, or an architecture for other data.
    """
    check_positive(args, "num_flow_steps", "num_scales", "hidden_channels", "scale_limit")
    check_widths("--hidden_dims", args.hidden_dims or ())
    known, kind, best = (IMAGES, "images", "glow") if data.is_image else (VECTORS, "vectors", "realnvp")
    architecture = args.architecture or best
    if architecture not in known:
        raise UserError(
            f"--architecture {architecture} does not take {kind}, which {data.name} has; "
            f"choose one of {', '.join(known)}"
        )
    names = known[architecture]
    allowed = {*names, "architecture"} | ({"num_levels"} if data.is_image else set())
    allowed |= {"fixed_prior"} if architecture == "glow" else set()
    allowed |= {"class_conditional"} if architecture in CLASS_CONDITIONAL else set()
    unused = (name for name in vars(args) if name not in allowed)
    check_unused(args, f"with --architecture {architecture} for {kind}", *unused)
    options = {argument: getattr(args, name) for name, argument in names.items()}
    return architecture, {argument: value for argument, value in options.items() if value is not None}


def saved_flow_options(flow: Any) -> dict[str, Any]:
    """The options of `FlowArguments`, of a saved flow."""
    config = flow.config
    architecture = next(name for name, network in NETWORKS.items() if type(flow).__name__ == network)
    names = (VECTORS if config.sample_size is None else IMAGES)[architecture]
    options = dict.fromkeys(vars(FlowArguments())) | {name: config[argument] for name, argument in names.items()}
    return options | {
        "architecture": architecture,
        "hidden_dims": list(options["hidden_dims"]) if options["hidden_dims"] is not None else None,
        "num_levels": config.get("num_levels"),
        "fixed_prior": not config.get("learned_prior", True),
        "class_conditional": config.get("num_classes") is not None,
    }


FAMILY = Family("flow", "Normalizing flow", FlowArguments, build, reload, "FlowPipeline")
