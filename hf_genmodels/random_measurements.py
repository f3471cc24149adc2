"""Incomplete measurements of images, another one for each image: what AmbientGAN's discriminator sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .errors import UserError
from .operators import Blur

if TYPE_CHECKING:
    from .objectives.base import Noise

# kind -> names of its numbers
KINDS = {"drop": ("SHARE",), "patch": ("PIXELS",), "blur": ("SIGMA", "STD")}
FORMS = ", ".join(f"'{kind} {' '.join(names)}'" for kind, names in KINDS.items())


@dataclass(frozen=True)
class RandomMeasurement:
    """A_theta of AmbientGAN (Bora et al. 2018, ICLR, section 4), theta drawn for each image.

    - "drop": each pixel is lost with a probability (Block-Pixels), in all channels.
    - "patch": a square is lost, at a random place (Block-Patch).
    - "blur": a Gaussian blur, and normal noise (Convolve+Noise), in pixels and in the units of [0, 1].

    What is lost is black, -1; the paper's 0, with images in [0, 1].

    Args:
        kind: See above.
        numbers: Of that kind, in the order of `KINDS`.
    """

    kind: str
    numbers: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> RandomMeasurement:
        """Of an option such as "drop 0.6".

        Raises:
            UserError: It is no measurement, or one with impossible numbers.
        """
        kind, *words = text.split() or [""]
        try:
            numbers = tuple(float(word) for word in words)
        except ValueError:
            numbers = ()
        if kind not in KINDS or len(numbers) != len(KINDS[kind]):
            raise UserError(f"--measurement must be {FORMS}, got {text!r}")
        if not all(map(math.isfinite, numbers)):
            raise UserError(f"--measurement must have finite numbers, got {text!r}")
        first = numbers[0]
        if kind == "drop" and not 0 < first < 1:
            raise UserError(f"--measurement drop: the share must lie between 0 and 1, got {first:g}")
        if kind == "patch" and not (first >= 1 and first == int(first)):
            raise UserError(f"--measurement patch: the side must be a whole number of pixels, got {first:g}")
        if kind == "blur" and not (first > 0 and numbers[1] >= 0):
            raise UserError(f"--measurement blur: sigma must be above 0 and std at least 0, got {text!r}")
        return cls(kind, numbers)

    def check_size(self, size: tuple[int, int] | None) -> None:
        """Refuse data that it does not measure.

        Args:
            size: Height and width of the images, None of vectors.

        Raises:
            UserError: They are vectors, or smaller than the patch or the blur's kernel.
        """
        if size is None:
            raise UserError("--measurement is for images, and the data are vectors; leave it out")
        if self.kind == "patch" and self.numbers[0] >= min(size):
            raise UserError(f"--measurement patch {self.numbers[0]:g} covers images of {size[0]}x{size[1]} pixels")
        if self.kind == "blur":
            Blur.gaussian(self.numbers[0]).check_image_shape((1, *size), "the data are")

    def __call__(self, image: Tensor, noise: Noise) -> Tensor:
        """Measured images.

        Args:
            image: (batch, channels, height, width) in [-1, 1].
            noise: Of the rows.

        Returns:
            Same shape; differentiable.
        """
        measure: Callable[[Tensor, Noise], Tensor] = {"drop": self._drop, "patch": self._patch, "blur": self._blur}[
            self.kind
        ]
        return measure(image, noise)

    def _drop(self, image: Tensor, noise: Noise) -> Tensor:
        lost = noise.uniform((len(image), 1, *image.shape[2:]), like=image) < self.numbers[0]
        return image.masked_fill(lost, -1.0)

    def _patch(self, image: Tensor, noise: Noise) -> Tensor:
        side, (height, width) = int(self.numbers[0]), image.shape[2:]
        place = noise.uniform((len(image), 2, 1, 1), like=image).float()
        top = (place[:, :1] * (height - side + 1)).floor()
        left = (place[:, 1:] * (width - side + 1)).floor()
        rows = torch.arange(height, device=image.device).view(1, 1, -1, 1)
        columns = torch.arange(width, device=image.device).view(1, 1, 1, -1)
        lost = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
        return image.masked_fill(lost, -1.0)

    def _blur(self, image: Tensor, noise: Noise) -> Tensor:
        sigma, std = self.numbers
        blurred = Blur.gaussian(sigma)((image.float() + 1) / 2)
        measured = blurred + std * noise.normal(tuple(image.shape), like=blurred)
        return (2 * measured - 1).to(image.dtype)
