"""What pipelines that translate images share: images of any fitting size, tiles for large ones, dropout as noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hf_genmodels.errors import UserError
from hf_genmodels.sizes import sample_shape

from .base import GenerativePipeline, Generators
from .images import SampleShape, to_network
from .offloading import weights_of

MOST_OVERLAP = 32


class TranslationPipeline(GenerativePipeline):
    """Base of the pipelines whose networks make an image of an image."""

    measures = frozenset({"translations"})

    @property
    def sample_shape(self) -> SampleShape:
        """Shape of a translation of an image of the size it was trained on."""
        config = next(iter(self.components.values())).config
        return sample_shape(config.out_channels, config.sample_size)

    def translate(
        self,
        network: Any,
        image: Any,
        *,
        tile_size: int | None,
        tile_overlap: int | None,
        stochastic: bool = False,
        generator: Generators = None,
    ) -> Tensor:
        """Images as users give them -> their translations, (batch, channels, height, width) in [-1, 1].

        Args:
            network: The translator.
            image: One or a list of PIL images, arrays or tensors, see `images.to_network`; all of one size.
            tile_size: Side of the tiles to translate one by one; None for all at once.
            tile_overlap: Pixels by which neighbouring tiles overlap; there the two are blended linearly. By default a
                quarter of a tile, at most 32.
            stochastic: Keep the network's dropout.
            generator: For dropout: one for all, or a sequence with one for each image.

        Raises:
            UserError: The images, tiles or dropout do not fit the network.
        """
        channels = network.config.in_channels
        sample = to_network(image, (channels, *image_size(image, channels))).to(self._execution_device, network.dtype)
        if stochastic and not any(isinstance(m, nn.Dropout) and m.p > 0 for m in network.modules()):
            raise UserError("stochastic=True needs a network with dropout, and this one has none; leave it out")

        def run(part: Tensor) -> Tensor:
            result: Tensor = network(part).sample
            return result

        def translate(part: Tensor, source: torch.Generator | None) -> Tensor:
            with weights_of(network), dropout_as_noise(network, stochastic, source):
                return run(part) if tile_size is None else tiled(run, part, tile_size, overlap)

        overlap = 0
        if tile_size is not None:
            check_tile(network, tile_size)
            overlap = min(MOST_OVERLAP, tile_size // 4) if tile_overlap is None else tile_overlap
        if not isinstance(generator, Sequence):
            return translate(sample, generator)
        if len(generator) != len(sample):
            raise UserError(f"{len(generator)} generators for {len(sample)} images; give one for each image")
        return torch.cat([translate(part, one) for part, one in zip(sample.split(1), generator, strict=True)])


def check_tile(network: Any, tile_size: int) -> None:
    """Refuse tiles that the network cannot take.

    Raises:
        UserError: One line with what fits.
    """
    multiple = getattr(network, "size_multiple", 1)
    if tile_size % multiple:
        raise UserError(f"tile_size {tile_size} must be a multiple of {multiple}, as the network halves its images")


def image_size(image: Any, channels: int) -> tuple[int, int]:
    """Height and width of the first of a user's images, which are to have so many channels.

    Raises:
        UserError: There is none, or it is no image.
    """
    first = image[0] if isinstance(image, (list, tuple)) and image else image
    if isinstance(first, Image.Image):
        return first.height, first.width
    shape = tuple(getattr(first, "shape", ()))
    if isinstance(first, Tensor) and len(shape) in (3, 4):
        return shape[-2], shape[-1]
    if isinstance(first, np.ndarray) and len(shape) in (2, 3, 4):
        no_channels = len(shape) == 2 or (len(shape) == 3 and channels == 1 != shape[2])
        return shape[-2:] if no_channels else shape[-3:-1]
    raise UserError(
        "image must be PIL images, arrays ([batch,] height, width[, channels]), tensors ([batch,] channels, height, "
        f"width) or a list of them, got {type(first).__name__} {shape or ''}".rstrip()
    )


@contextmanager
def dropout_as_noise(network: nn.Module, wanted: bool, generator: torch.Generator | None) -> Iterator[None]:
    """With `wanted`, dropout works as in training, with numbers that one draw from `generator` decides about.

    Global numbers stay as they are, but for that draw where no generator is given.
    """
    if not wanted:
        yield
        return
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    devices = [parameter.device for parameter in list(network.parameters())[:1] if parameter.device.type == "cuda"]
    seed = torch.randint(2**62, (), generator=generator, device=getattr(generator, "device", "cpu"))
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(int(seed))  # not `torch.manual_seed`, which would seed every device
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(int(seed))
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()


def tiled(network: Any, sample: Tensor, size: int, overlap: int) -> Tensor:
    """Translate square tiles one by one and blend them, so that memory is needed for one alone.

    Instance norms see a tile instead of the image, so the result is not that of the image at once.

    Args:
        network: (batch, channels, size, size) -> the same with its own channels.
        sample: (batch, channels, height, width).
        size: Side of a tile.
        overlap: Pixels by which two tiles overlap at least.

    Returns:
        (batch, channels of the network, height, width).

    Raises:
        UserError: A tile is larger than the image, or the overlap is more than half a tile.
    """
    height, width = sample.shape[2:]
    if not 0 < size <= min(height, width):
        raise UserError(f"tile_size {size} must lie between 1 and the image's shorter side, {min(height, width)}")
    if not 0 <= overlap <= size // 2:
        raise UserError(f"tile_overlap {overlap} must lie between 0 and half of tile_size {size}")
    ramp = torch.ones(size, device=sample.device)
    if overlap:
        rising = torch.arange(1, overlap + 1, device=sample.device) / (overlap + 1)
        ramp[:overlap], ramp[size - overlap :] = rising, rising.flip(0)
    weight = ramp[:, None] * ramp[None]
    total = torch.zeros(height, width, device=sample.device)
    result: Tensor | None = None
    for top in tile_starts(height, size, overlap):
        for left in tile_starts(width, size, overlap):
            place = (..., slice(top, top + size), slice(left, left + size))
            tile = network(sample[place].contiguous()).float()
            if result is None:
                result = tile.new_zeros((len(tile), tile.shape[1], height, width))
            result[place] += tile * weight
            total[place] += weight
    assert result is not None
    return result / total


def tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """Where tiles begin that cover `length` pixels; the last one ends with them."""
    stride = max(1, size - overlap)
    starts = list(range(0, length - size, stride))
    return [*starts, length - size]
