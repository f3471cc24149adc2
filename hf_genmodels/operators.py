"""Measurement operators of inverse problems: what is seen of an image.

They act on images (batch, channels, height, width) in [0, 1], work on any device and draw nothing at random. Linear
ones know their adjoint and their pseudo-inverse exactly.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UserError

Shape = tuple[int, ...]

# ITU-R BT.601, the weights of PIL's mode "L".
LUMINANCE = (0.299, 0.587, 0.114)
# Share of a blur's greatest gain below which a frequency counts as lost: a quarter of an 8-bit grey level.
LOST_GAIN = 1e-3


class MeasurementOperator:
    """Y = A(x). Subclasses give `forward`, and say in `fits`, `takes` and `measurement_shape` what goes in and out.

    Attributes:
        takes: Which images fit, in words.
        squared_gain: The greatest |A(x) - A(x')|^2 / |x - x'|^2, or a bound of it.
    """

    takes: str = "images"
    squared_gain: float = 1.0

    def fits(self, image_shape: Shape) -> bool:
        """Whether images of this shape, (channels, height, width), can be measured."""
        return True

    def measurement_shape(self, image_shape: Shape) -> Shape:
        """Shape of one measurement, (channels, height, width), for an image shape that `fits`."""
        return image_shape

    def forward(self, image: Tensor) -> Tensor:
        """A(x) of images that fit."""
        raise NotImplementedError

    def __call__(self, image: Tensor) -> Tensor:
        """A(x).

        Args:
            image: (batch, channels, height, width) in [0, 1].

        Returns:
            (batch, *measurement_shape(image_shape)).

        Raises:
            UserError: The operator takes images of another shape.
        """
        self.check_image_shape(tuple(image.shape[1:]))
        return self.forward(image)

    def check_image_shape(self, image_shape: Shape, source: str = "got") -> None:
        """Refuse images that do not fit.

        Args:
            image_shape: (channels, height, width).
            source: Where the shape is from, for the message.

        Raises:
            UserError: The operator takes images of another shape.
        """
        if len(image_shape) != 3 or not self.fits(image_shape):
            raise UserError(f"the operator takes {self.takes}, {source} {image_shape}")


class LinearOperator(MeasurementOperator):
    """Y = A x. Subclasses give `forward`, `transpose` and, where A A^T y is not `squared_gain` y, `solve_gram`."""

    def image_shape(self, measurement_shape: Shape) -> Shape:
        """Shape of the images whose measurements have this shape; both are (channels, height, width)."""
        return measurement_shape

    def transpose(self, measurement: Tensor) -> Tensor:
        """A^T y of measurements that fit."""
        raise NotImplementedError

    def solve_gram(self, measurement: Tensor, ridge: float) -> Tensor:
        """(A A^T + ridge)^-1 y; the pseudo-inverse of A A^T where `ridge` is 0."""
        return measurement / (self.squared_gain + ridge)

    def adjoint(self, measurement: Tensor) -> Tensor:
        """A^T y, for which <A x, y> = <x, A^T y>.

        Args:
            measurement: (batch, *measurement_shape).

        Returns:
            (batch, channels, height, width).

        Raises:
            UserError: Measurements of this operator have another shape.
        """
        self._check_measurement(measurement)
        return self.transpose(measurement)

    def pseudo_inverse(self, measurement: Tensor, ridge: float = 0.0) -> Tensor:
        """A^+ y, the shortest x of those that come closest to A x = y; or its regularised form.

        Args:
            measurement: (batch, *measurement_shape).
            ridge: Of A^T (A A^T + ridge I)^-1 y, at least 0; 0 gives the pseudo-inverse.

        Returns:
            (batch, channels, height, width).

        Raises:
            UserError: Measurements of this operator have another shape.
        """
        self._check_measurement(measurement)
        return self.transpose(self.solve_gram(measurement, ridge))

    def _check_measurement(self, measurement: Tensor) -> None:
        shape = tuple(measurement.shape[1:])
        if len(shape) == 3:
            image_shape = self.image_shape(shape)
            if self.fits(image_shape) and self.measurement_shape(image_shape) == shape:
                return
        raise UserError(f"the operator takes {self.takes}, whose measurements do not have shape {shape}")


class Inpainting(LinearOperator):
    """Some pixels are known: y = mask * x, 0 where nothing is known.

    Args:
        mask: (1, height, width), the same for all channels, or (channels, height, width); True or 1 where a pixel is
            known, else False or 0.

    Raises:
        UserError: `mask` has another shape or other values.
    """

    def __init__(self, mask: Tensor) -> None:
        if not isinstance(mask, Tensor):
            raise UserError(f"mask must be a tensor, got {type(mask).__name__}; torch.as_tensor makes one of an array")
        if mask.ndim != 3:
            raise UserError(f"mask must be (1 or channels, height, width), got shape {tuple(mask.shape)}")
        if not ((mask == 0) | (mask == 1)).all():
            raise UserError("mask must hold 1 where a pixel is known and 0 elsewhere")
        self.mask = mask.float()

    @classmethod
    def sparse(cls, height: int, width: int, share: float, generator: torch.Generator | None = None) -> Inpainting:
        """A share of the pixels is known, at random places that are the same in all channels.

        Args:
            height: Of the image.
            width: Of the image.
            share: Above 0, at most 1; the number of pixels is rounded.
            generator: For the places.

        Raises:
            UserError: `share` is not above 0 and at most 1, or too small for a single pixel.
        """
        known = round(share * height * width)
        if not (0 < share <= 1 and known):
            raise UserError(f"share must be above 0 (one pixel at least) and at most 1, got {share}")
        mask = torch.zeros(height * width)
        mask[torch.randperm(height * width, generator=generator)[:known]] = 1
        return cls(mask.view(1, height, width))

    @property
    def takes(self) -> str:  # type: ignore[override]
        channels, height, width = self.mask.shape
        shape = f"({channels}, {height}, {width})"
        return f"images of shape {shape}" + (" or with more channels" if channels == 1 else "")

    def fits(self, image_shape: Shape) -> bool:
        return tuple(self.mask.shape) in (image_shape, (1, *image_shape[1:]))

    def forward(self, image: Tensor) -> Tensor:
        return image * self.mask.to(image)

    def transpose(self, measurement: Tensor) -> Tensor:
        return measurement * self.mask.to(measurement)


class SuperResolution(LinearOperator):
    """A smaller image is known: each of its pixels is the mean of a square of factor x factor pixels.

    The pseudo-inverse repeats each pixel.

    Args:
        factor: At least 2.

    Raises:
        UserError: `factor` is below 2.
    """

    def __init__(self, factor: int) -> None:
        if factor < 2:
            raise UserError(f"factor must be at least 2, got {factor}")
        self.factor = factor
        self.squared_gain = 1 / factor**2
        self.takes = f"images whose height and width are multiples of {factor}"

    def fits(self, image_shape: Shape) -> bool:
        return image_shape[1] % self.factor == 0 and image_shape[2] % self.factor == 0

    def measurement_shape(self, image_shape: Shape) -> Shape:
        return (image_shape[0], image_shape[1] // self.factor, image_shape[2] // self.factor)

    def image_shape(self, measurement_shape: Shape) -> Shape:
        return (measurement_shape[0], measurement_shape[1] * self.factor, measurement_shape[2] * self.factor)

    def forward(self, image: Tensor) -> Tensor:
        return F.avg_pool2d(image, self.factor)

    def transpose(self, measurement: Tensor) -> Tensor:
        repeated = measurement.repeat_interleave(self.factor, dim=2).repeat_interleave(self.factor, dim=3)
        return repeated * self.squared_gain


class Blur(LinearOperator):
    """A blurred image is known: each channel's convolution with a kernel, as if the image went on periodically.

    On the torus the Fourier transform makes adjoint and pseudo-inverse exact. Frequencies that the kernel damps to
    less than a thousandth of its greatest gain are removed altogether: dividing by their gain would turn rounding into
    noise. A pseudo-inverse multiplies what is in a measurement by up to a thousand; where it has grey levels or noise,
    use one that is regularised (`ridge`; `noise_std` of a pipeline).

    Args:
        kernel: (height, width), with its origin at the middle pixel (height // 2, width // 2); not normalised here.

    Raises:
        UserError: `kernel` has another shape, or is zero.
    """

    def __init__(self, kernel: Tensor) -> None:
        if kernel.ndim != 2 or not kernel.any():
            raise UserError(f"kernel must be (height, width) and not zero, got shape {tuple(kernel.shape)}")
        self.kernel = kernel.float()
        self.squared_gain = self.kernel.abs().sum().item() ** 2
        self.takes = f"images of at least {kernel.shape[0]}x{kernel.shape[1]} pixels (its kernel's size)"

    @classmethod
    def gaussian(cls, sigma: float) -> Blur:
        """A Gaussian kernel of sum 1, cut off at three standard deviations.

        Args:
            sigma: Standard deviation in pixels, above 0.

        Raises:
            UserError: `sigma` is not above 0.
        """
        if not sigma > 0:
            raise UserError(f"sigma must be above 0, got {sigma}")
        radius = math.ceil(3 * sigma)
        weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
        weights = weights / weights.sum()
        return cls(torch.outer(weights, weights))

    def fits(self, image_shape: Shape) -> bool:
        return self.kernel.shape[0] <= image_shape[1] and self.kernel.shape[1] <= image_shape[2]

    def forward(self, image: Tensor) -> Tensor:
        return _filter(image, self._gains(image))

    def transpose(self, measurement: Tensor) -> Tensor:
        return _filter(measurement, self._gains(measurement).conj())

    def solve_gram(self, measurement: Tensor, ridge: float) -> Tensor:
        gram = self._gains(measurement).abs().square()
        return _filter(measurement, torch.where(gram > 0, 1 / (gram + ridge), 0))

    def _gains(self, image: Tensor) -> Tensor:
        """Fourier transform of the kernel on the image's grid, (height, width // 2 + 1)."""
        rows, columns = self.kernel.shape
        periodic = image.new_zeros(image.shape[2:])
        periodic[:rows, :columns] = self.kernel.to(image)
        gains = torch.fft.rfft2(periodic.roll((-(rows // 2), -(columns // 2)), (0, 1)))
        return torch.where(gains.abs() < LOST_GAIN * gains.abs().max(), 0, gains)


class Colorization(LinearOperator):
    """The luminance of an RGB image is known: y = 0.299 red + 0.587 green + 0.114 blue."""

    squared_gain = sum(weight**2 for weight in LUMINANCE)
    takes = "images with 3 channels"

    def fits(self, image_shape: Shape) -> bool:
        return image_shape[0] == 3

    def measurement_shape(self, image_shape: Shape) -> Shape:
        return (1, *image_shape[1:])

    def image_shape(self, measurement_shape: Shape) -> Shape:
        return (3, *measurement_shape[1:])

    def forward(self, image: Tensor) -> Tensor:
        return (image * _luminance(image)).sum(1, keepdim=True)

    def transpose(self, measurement: Tensor) -> Tensor:
        return measurement * _luminance(measurement)


class Saturation(MeasurementOperator):
    """An overexposed image is known: y = clip(gain * x, 0, 1). Not linear: for diffusion posterior sampling alone.

    Args:
        gain: Above 1; what is brighter than 1 / gain is lost.

    Raises:
        UserError: `gain` is not above 1.
    """

    def __init__(self, gain: float) -> None:
        if not gain > 1:
            raise UserError(f"gain must be above 1, got {gain}")
        self.gain = gain
        self.squared_gain = gain**2

    def forward(self, image: Tensor) -> Tensor:
        return (self.gain * image).clamp(0, 1)


def _filter(image: Tensor, gains: Tensor) -> Tensor:
    """Multiply each channel's Fourier transform by `gains`."""
    return torch.fft.irfft2(torch.fft.rfft2(image) * gains, s=image.shape[2:])


def _luminance(like: Tensor) -> Tensor:
    return like.new_tensor(LUMINANCE).view(1, 3, 1, 1)
