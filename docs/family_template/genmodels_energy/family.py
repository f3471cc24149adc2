"""What hf_genmodels learns when it looks through the installed families: imports neither torch nor diffusers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hf_genmodels.checks import check_minimums
from hf_genmodels.data import DataSpec
from hf_genmodels.families.base import Family, adopt_saved_options, load_networks

if TYPE_CHECKING:
    from .objective import EnergyObjective


@dataclass
class EnergyArguments:
    """The family's options. The parser needs real types: no `from __future__ import annotations` in this file."""

    latent_dim: int = field(default=16, metadata={"help": "Dimension of the latent z."})
    width: int = field(default=128, metadata={"help": "Units of the hidden layers."})
    exponent: float = field(default=1.0, metadata={"help": "Of the distances, between 0 and 2."})


def build(args: EnergyArguments, data: DataSpec) -> "EnergyObjective":
    """The objective with a new network. Refusals are a `UserError` of one line that names the option."""
    from .network import EnergyGenerator
    from .objective import EnergyObjective

    check_minimums(args, latent_dim=1, width=1)
    generator = EnergyGenerator(args.latent_dim, data.channels, data.sample_size, args.width)
    return EnergyObjective(generator, data, args.exponent)


def reload(folder: Path, args: EnergyArguments, data: DataSpec) -> "EnergyObjective":
    """The objective around a saved network, for `--pretrained_model_name_or_path`."""
    from . import network  # noqa: F401 (registers the class)
    from .objective import EnergyObjective

    generator = load_networks(folder, data, {"generator": ("EnergyGenerator",)})["generator"]
    adopt_saved_options(args, {"latent_dim": generator.config.latent_dim, "width": generator.config.width})
    return EnergyObjective(generator, data, args.exponent)


CARD = """{% extends "_base.md" %}
{% block about %}
A generator x = G(z), z ~ N(0, I), trained by the energy distance between its samples and the data: no discriminator.
{% endblock %}
{% block snippet %}
import torch
from hf_genmodels import AutoPipeline

pipe = AutoPipeline.from_pretrained("{{ source }}")  # with genmodels_energy installed
samples = pipe(batch_size=16, generator=torch.Generator().manual_seed(0)).images
{% endblock %}
{% block limits %}
Distances between pixels say little about large images.
{% endblock %}
{% block papers %}
- G. Szekely and M. Rizzo, Energy statistics: a class of statistics based on distances, 2013
{% endblock %}
"""

FAMILY = Family(
    name="energy",
    title="Energy-distance generator",
    arguments=EnergyArguments,
    build=build,
    reload=reload,
    pipeline="genmodels_energy.pipeline:EnergyPipeline",
    card=CARD,
)
