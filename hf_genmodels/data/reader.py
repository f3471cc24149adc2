"""One stored image -> one array of the kind and size that its data set wants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .conversion import AS_STORED, BadImage, Conversion, Kind
from .decoding import Header, Record, opened
from .label_maps import nearest
from .resizing import ResizeMode, center, central_shape, middle, reduction, resize_to, resized_shape


@dataclass(frozen=True)
class Reader:
    """Turns the records of one data set into arrays of the same kind.

    Attributes:
        kind: What every image must be.
        size: (height, width) every image must have; None with `resolution`, and for vectors.
        resolution: (height, width) that images are made to cover; None keeps the size.
        center_crop: Whether to cut out the middle. Otherwise an image stays as large as it comes.
        crop_size: (height, width) that is cut out; None for `resolution`.
        conversion: What is done to modes and values.
        center_fraction: Share of height and width, in the middle, that is kept before anything else; None for all.
        resize_mode: See `resized_shape`.
    """

    kind: Kind
    size: tuple[int, int] | None
    resolution: tuple[int, int] | None
    center_crop: bool
    crop_size: tuple[int, int] | None = None
    conversion: Conversion = AS_STORED
    center_fraction: float | None = None
    resize_mode: ResizeMode = "cover"

    @property
    def cropped(self) -> tuple[int, int] | None:
        """(height, width) that is cut out, None where nothing is."""
        return self.crop_size or self.resolution

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an example, once it is cropped: `(channels, height, width)`, or `(dim,)` for vectors."""
        return (self.kind.channels, *(self.cropped or self.size or ()))

    def check(self, header: Header) -> None:
        """Raises BadImage if an image with this header does not fit the others."""
        if header.kind != self.kind:
            raise BadImage(
                f"is {header.kind.label} where {self.kind.label} is expected: convert it (--convert rgb or grey) or "
                "remove it"
            )
        height, width = self.crop_size or (0, 0)
        if self.resolution is None and (header.height < height or header.width < width):
            raise BadImage(
                f"is {header.height}x{header.width} (height x width), too small to cut {height}x{width} out of it: "
                "give a smaller --crop_size, or --resolution to enlarge it"
            )
        if self.size is not None and (header.height, header.width) != self.size:
            raise BadImage(
                f"is {header.height}x{header.width} (height x width) where {self.size[0]}x{self.size[1]} is expected: "
                "pass --resolution or --crop_size to bring all images to one size"
            )

    def reduction(self, header: Header) -> int:
        """By how much an image with this header may be reduced as it is decoded: 8, 4, 2 or 1."""
        if self.resolution is None or self.kind.vector or self.center_fraction is not None:
            return 1
        return reduction(header.height, header.width, self.resolution, self.resize_mode)

    def _resized(self, header: Header) -> tuple[int, int] | None:
        """Height and width of an image with this header before it is cropped; None where they are its own."""
        if self.resolution is None or self.kind.vector:
            return None
        height, width = header.height, header.width
        if self.center_fraction is not None:
            height, width = central_shape(height, width, self.center_fraction)
        return resized_shape(height, width, self.resolution, self.resize_mode)

    def target_shape(self, header: Header) -> tuple[int, ...]:
        """Shape of what `read` returns for an image with this header."""
        if self.kind.vector:
            return (self.kind.channels,)
        if self.center_crop and self.cropped is not None:
            return (self.kind.channels, *self.cropped)
        return (self.kind.channels, *(self._resized(header) or (header.height, header.width)))

    def read(self, record: Record) -> np.ndarray:
        """Decodes an image to `(channels, height, width)` of `kind.dtype`, or `(dim,)` for a vector.

        Raises:
            BadImage: It cannot be read, does not fit the others, or holds NaN or values out of range.
        """
        with opened(record, self.conversion) as (header, load):
            self.check(header)
            reduce, shape = self.reduction(header), self._resized(header)
            whole = shape if self.center_fraction is None else None
            pixels = load(reduce, whole).astype(self.kind.dtype, copy=False)
        if self.kind.dtype == "float32":
            self._check_values(pixels)
        if pixels.ndim == 1:
            return pixels
        if self.center_fraction is not None:
            pixels = middle(pixels, self.center_fraction)
            header = header._replace(height=pixels.shape[0], width=pixels.shape[1])
        if shape is not None and pixels.shape[:2] != shape:
            stored = header.height, header.width
            extent = stored if pixels.shape[:2] == stored else (header.height / reduce, header.width / reduce)
            if self.kind.labels:
                pixels = nearest(pixels, shape)
            else:
                pixels = resize_to(pixels, shape, extent, self.kind.value_scale)
        if self.center_crop and self.cropped is not None:
            pixels = center(pixels, self.cropped)
        return np.ascontiguousarray(np.moveaxis(pixels, 2, 0))

    @staticmethod
    def _check_values(pixels: np.ndarray) -> None:
        if not np.isfinite(pixels).all():
            raise BadImage("holds NaN or infinite values: repair or remove it")
        if pixels.ndim > 1 and (pixels.min() < 0 or pixels.max() > 1):
            raise BadImage(
                f"holds values from {pixels.min():.4g} to {pixels.max():.4g}: scale float images to [0, 1], or give "
                "--value_range"
            )
