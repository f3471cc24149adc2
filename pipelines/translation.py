"""What pipelines that translate images share: images of any fitting size, tiles for large ones, dropout as noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_genmodels.errors import UserError
from hf_genmodels.sizes import height_width, sample_shape

from .base import GenerativePipeline, Generators
from .chunks import in_chunks
from .fusion import stack_parts
from .images import SampleShape, image_size, to_network
from .offloading import weights_of

MOST_OVERLAP = 32


class TranslationPipeline(GenerativePipeline):
    """Base of the pipelines whose networks make an image of an image."""

    measures = frozenset({"translations"})
    tasks = ("translate",)

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
        value_scale: float,
        tile_size: int | None,
        tile_overlap: int | None,
        finish: Callable[[Tensor], Any],
        stochastic: bool = False,
        generator: Generators = None,
        max_batch_size: int | None = None,
        activate: Callable[[Tensor], Tensor] | None = None,
    ) -> Any:
        """Images as users give them -> what `finish` makes of their translations.

        Args:
            network: The translator.
            image: One or a list of PIL images, arrays or tensors, see `images.to_network`; all of one size.
            value_scale: What 1 stands for in the data that the network takes.
            tile_size: Side of the tiles to translate one by one; None for all at once.
            tile_overlap: Pixels by which neighbouring tiles overlap; there the two are blended linearly. By default a
                quarter of a tile, at most 32.
            finish: Gets translations, (batch, channels, height, width) in [-1, 1] or what `activate` makes of them, of
                `max_batch_size` images at a time; what it gives of each is joined, see `in_chunks`.
            stochastic: Keep the network's dropout.
            generator: For dropout: one for all, or a sequence with one for each image.
            max_batch_size: None for all images at once.
            activate: What is made of the network's samples before tiles are blended; None leaves them.

        Raises:
            UserError: The images, tiles or dropout do not fit the network.
        """
        channels = network.config.in_channels
        parts = self.config.get("source_parts")
        image = image if parts is None else stack_parts(image, parts)
        shape = (channels, *image_size(image, channels))
        sample = to_network(image, shape, value_scale)
        if stochastic and not any(isinstance(m, nn.Dropout) and m.p > 0 for m in network.modules()):
            raise UserError("stochastic=True needs a network with dropout, and this one has none; leave it out")

        def run(part: Tensor) -> Tensor:
            result: Tensor = network(part).sample
            return result if activate is None else activate(result)

        def translate(part: Tensor) -> Tensor:
            part = part.to(self._execution_device, network.dtype)
            return run(part) if tile_size is None else tiled(run, part, tile_size, overlap)

        def one_by_one(part: Tensor, sources: Sequence[torch.Generator]) -> Any:
            results = []
            for each, source in zip(part.split(1), sources, strict=True):
                with dropout_as_noise(network, stochastic, source):
                    results.append(translate(each))
            return finish(torch.cat(results))

        overlap = 0
        if tile_size is None:
            if tile_overlap is not None:
                raise UserError("tile_overlap is of tiles: give tile_size, too")
            check_sides(network, shape[1:])
        else:
            check_tile(network, tile_size)
            overlap = min(MOST_OVERLAP, tile_size // 4) if tile_overlap is None else tile_overlap
        if isinstance(generator, Sequence):
            if len(generator) != len(sample):
                raise UserError(f"{len(generator)} generators for {len(sample)} images; give one for each image")
            with weights_of(network):
                return in_chunks(one_by_one, max_batch_size, sample, generator)
        with weights_of(network), dropout_as_noise(network, stochastic, generator):
            return in_chunks(lambda part: finish(translate(part)), max_batch_size, sample)


def check_head(name: str, network: Any, makes_labels: bool = False) -> None:
    """Refuse a translator whose last layer makes something else; networks that do not tell are taken as they are.

    Args:
        name: The argument, for the message.
        network: A translator, or None where there is none.
        makes_labels: It shall make logits of classes rather than images.

    Raises:
        UserError: One line that tells its last layer and what would do.
    """
    head = None if network is None else network.config.get("output_head")
    if head is not None and (head == "logits") is not makes_labels:
        wanted, instead = (
            ('logits of classes: output_head "logits"', "Pix2PixPipeline")
            if makes_labels
            else ("images", "LabelMapPipeline")
        )
        raise UserError(f"{name} has output_head {head!r}, and this pipeline needs {wanted}; {instead} takes it")


def check_tile(network: Any, tile_size: int) -> None:
    """Refuse tiles that the network cannot take.

    Raises:
        UserError: One line with what fits.
    """
    multiple = getattr(network, "size_multiple", 1)
    if tile_size % multiple:
        raise UserError(f"tile_size {tile_size} must be a multiple of {multiple}, as the network halves its images")


def check_sides(network: Any, size: tuple[int, int]) -> None:
    """Refuse images that the network cannot take at once.

    Raises:
        UserError: One line with what would do.
    """
    multiple = getattr(network, "size_multiple", 1)
    if any(side % multiple for side in size):
        tile = max(multiple, min(height_width(network.config.sample_size)) // multiple * multiple)
        raise UserError(
            f"the image is {size[0]}x{size[1]} (height x width), and {type(network).__name__} takes multiples of "
            f"{multiple}: give tile_size={tile}, or resize it (in a command: --resolution)"
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

    Instance norms see a tile instead of the image, so the result is not that of the image at once. An image that is
    smaller than a tile is extended to one by repeating its last row and column, and the result is cut again.

    Args:
        network: (batch, channels, size, size) -> the same with its own channels.
        sample: (batch, channels, height, width).
        size: Side of a tile.
        overlap: Pixels by which two tiles overlap at least.

    Returns:
        (batch, channels of the network, height, width).

    Raises:
        UserError: A tile has no pixel, or the overlap is more than half a tile.
    """
    height, width = sample.shape[2:]
    if size < 1:
        raise UserError(f"tile_size {size} must be at least 1")
    if min(height, width) < size:
        extended = F.pad(sample, (0, max(0, size - width), 0, max(0, size - height)), mode="replicate")
        return tiled(network, extended, size, overlap)[:, :, :height, :width]
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
