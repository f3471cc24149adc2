"""What `apply` reads: the images of a folder; for a network of several, those of equal names in sub-folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .data.arguments import STACKED_INPUTS
from .data.decoding import Encoded, Record, Stack
from .data.glances import GLANCE, digest, glance
from .data.listing import Listing
from .errors import UserError


@dataclass(frozen=True)
class Inputs:
    """Images by name.

    Attributes:
        folder: Where they lie.
        files: Name -> the files that make up one input, relative to the folder.
    """

    folder: Path
    files: Mapping[str, tuple[str, ...]]

    def path(self, name: str) -> Path:
        """The (first) file of an input."""
        return self.folder / self.files[name][0]

    def record(self, name: str) -> Record:
        """An input, undecoded."""
        parts = tuple(self._encoded(file) for file in self.files[name])
        return parts[0] if len(parts) == 1 else Stack(parts, STACKED_INPUTS, mixed=True)

    def digest(self, name: str) -> str:
        """What tells an input from one that was changed."""
        return digest(np.array([glance(self._encoded(file)) for file in self.files[name]], GLANCE))

    def _encoded(self, file: str) -> Encoded:
        return Encoded(None, str(self.folder / file))


def find_inputs(listing: Listing, parts: Sequence[str]) -> Inputs:
    """The inputs among the images of a folder.

    Args:
        listing: Of the folder.
        parts: Names of the images that are stacked as one input, and of their folders; none for whole images.

    Raises:
        UserError: A sub-folder is missing, or an image has no counterpart in one.
    """
    if not parts:
        return Inputs(listing.folder, {name: (name,) for name in listing.images})
    sides: list[dict[str, str]] = []
    for part in parts:
        inside = [name for name in listing.images if name.startswith(f"{part}/")]
        if not inside:
            raise UserError(
                f"this model takes {len(parts)} images at once: {listing.folder} must hold a folder for each "
                f"({', '.join(parts)}) with files of equal names, and {part} holds no images"
            )
        sides.append({name.removeprefix(f"{part}/").rpartition(".")[0]: name for name in inside})
    for part, side in zip(parts, sides, strict=True):
        lacking = next((stem for stem in {**sides[0], **side} if stem not in side or stem not in sides[0]), None)
        if lacking is not None:
            raise UserError(
                f"{listing.folder}: {lacking} is not in both {parts[0]} and {part}; give files that belong together "
                "equal names"
            )
    first = {stem: name.removeprefix(f"{parts[0]}/") for stem, name in sides[0].items()}
    return Inputs(listing.folder, {first[stem]: tuple(side[stem] for side in sides) for stem in sides[0]})
