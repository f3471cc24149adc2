"""The registry: every family, ours and those of other packages that are installed. Imports nothing heavy.

A package adds a family through the entry-point group `hf_genmodels.families`: the entry's name is the family's, its
value a `Family` in a module of the package (`my_package.family:FAMILY`). `docs/own_families.md` has a whole one.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..errors import UserError
from .base import Family

__all__ = ["FAMILIES", "Family", "find_family", "find_pipeline", "get_family"]

logger = logging.getLogger(__name__)

GROUP = "hf_genmodels.families"
OURS = (
    *("autoencoder", "vae", "gan", "began", "tempered_gan", "infogan", "avae", "bigan", "vaegan", "aae"),
    *("flow", "ddpm", "edm", "flow_matching", "score", "diffusion_gan"),
    *("pix2pix", "cyclegan", "polarimetric", "pixelwise", "gaussian", "gaussian_mixture", "texture", "classifier"),
)


class Registry(Mapping[str, Family]):
    """Families by name; each one's file is imported when it is first looked up."""

    def __init__(self) -> None:
        self._found: dict[str, Family] = {}

    @cached_property
    def others(self) -> dict[str, EntryPoint]:
        """Entry points of other packages. One of a name that is taken is left aside."""
        return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in OURS}

    def __getitem__(self, name: str) -> Family:
        if name not in self._found:
            if name in OURS:
                self._found[name] = importlib.import_module(f"{__name__}.{name}").FAMILY
            else:
                self._found[name] = _load(self.others[name])
        return self._found[name]

    def usable(self) -> Iterator[Family]:
        """Every family, without those of other packages that cannot be imported, of which a warning tells."""
        for name in self:
            try:
                yield self[name]
            except UserError as error:
                logger.warning("%s", error)

    def __contains__(self, name: object) -> bool:
        return name in OURS or name in self.others

    def __iter__(self) -> Iterator[str]:
        return iter((*OURS, *self.others))

    def __len__(self) -> int:
        return len(OURS) + len(self.others)


def _load(entry: EntryPoint) -> Family:
    try:
        family: Any = entry.load()
    except Exception as error:  # whatever another package's code raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"family {entry.name}: {entry.value} cannot be imported: {reason}") from error
    if not isinstance(family, Family) or family.name != entry.name:
        raise UserError(f"family {entry.name}: {entry.value} is no Family of that name; see docs/own_families.md")
    return family


FAMILIES = Registry()


def get_family(name: str) -> Family:
    """Look a family up by its stem.

    Raises:
        UserError: There is no such family.
    """
    if name not in FAMILIES:
        raise UserError(f"unknown family {name!r}; choose one of: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def find_family(pipeline: str | None, recorded: str | None = None) -> Family | None:
    """The family whose models are saved as a pipeline class; where several are, the one that training recorded.

    Args:
        pipeline: Name of the class, None for a network without a pipeline.
        recorded: Name of a family.
    """
    if recorded is not None and recorded in FAMILIES and pipeline in (FAMILIES[recorded].pipelines or (None,)):
        return FAMILIES[recorded]
    ours = (FAMILIES[name] for name in OURS)
    found = next((family for family in ours if pipeline in family.pipelines), None)
    return found or next((family for family in FAMILIES.usable() if pipeline in family.pipelines), None)


def find_pipeline(class_name: str) -> Any:
    """The pipeline class of that name, of a family or registered; None if there is none."""
    from ..registration import find_registered

    family = find_family(class_name)
    return find_registered(class_name) if family is None else family.load_pipeline(class_name)
