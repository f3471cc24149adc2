"""Batches as they are stored -> what networks see, where the networks are; on a GPU copied there a batch ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .spec import DataSpec

Batch = dict[str, Tensor]
Item = TypeVar("Item")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Place:
    """Where batches go.

    Attributes:
        device: Of the networks.
        channels_last: Whether images are laid out in memory as mixed precision computes fastest.
    """

    device: torch.device = CPU
    channels_last: bool = False


HOST = Place()


def finished(batch: Batch, specs: Mapping[str, DataSpec], channels_last: bool = False) -> Batch:
    """A batch whose images are as networks see them.

    Args:
        batch: As `gather` makes it; its images are in their stored precision.
        specs: Of the images, by name.
        channels_last: See `Place`.
    """
    return {n: to_network(v, specs[n], channels_last) if n in specs else v for n, v in batch.items()}


def to_network(values: Tensor, spec: DataSpec, channels_last: bool = False) -> Tensor:
    """Stored values to what a network sees: float32 in [-1, 1] for images, int64 for label maps; vectors unchanged.

    Args:
        values: `(batch, *spec.shape)`.
        spec: Gives the unit of the values.
        channels_last: See `Place`.
    """
    if spec.size is None:
        return values
    if spec.label_maps is not None:
        return values.to(torch.int64)
    half, channels_last = spec.value_scale / 2, channels_last and spec.channels > 1
    if values.device.type == "cpu":
        return _on_host(values, half, channels_last)
    layout = torch.channels_last if channels_last else torch.preserve_format
    # By a tensor of the device: GPUs would multiply by the rounded inverse of a number.
    divisor = torch.full((), half, device=values.device)
    return values.to(torch.float32, memory_format=layout, copy=True).div_(divisor).sub_(1)


def _on_host(values: Tensor, half: float, channels_last: bool) -> Tensor:
    """By NumPy: it asks for huge pages, and has no threads that would wait for cores on which images are decoded."""
    if channels_last:
        batch, channels, height, width = values.shape
        floats = np.empty((batch, height, width, channels), np.float32).transpose(0, 3, 1, 2)
    else:
        floats = np.empty(values.shape, np.float32)
    np.divide(values.numpy(), np.float32(half), out=floats, dtype=np.float32, casting="unsafe")
    floats -= np.float32(1)
    return torch.from_numpy(floats)


def placed(batches: Iterator[Batch], specs: Mapping[str, DataSpec], place: Place) -> Iterator[Batch]:
    """Each batch as networks see it, where they are. To a GPU the next one is copied while this one is used."""
    if place.device.type != "cuda":
        for batch in batches:
            yield {name: value.to(place.device) for name, value in finished(batch, specs, place.channels_last).items()}
        return
    stream = torch.cuda.Stream(place.device)

    def copied(batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        with torch.cuda.stream(stream):
            there = {name: value.pin_memory().to(place.device, non_blocking=True) for name, value in batch.items()}
            return finished(there, specs, place.channels_last), stream.record_event()

    for batch, is_there in one_ahead(map(copied, batches)):
        computing = torch.cuda.current_stream(place.device)
        computing.wait_event(is_there)
        for value in batch.values():
            value.record_stream(computing)
        yield batch


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made before the one before it is used; what goes wrong with it is told when it is due."""
    upcoming = _attempt(items)
    while upcoming:
        if isinstance(upcoming, Exception):
            raise upcoming
        (item,) = upcoming
        upcoming = _attempt(items)
        yield item


def _attempt(items: Iterator[Item]) -> tuple[Item] | tuple[()] | Exception:
    try:
        return (next(items),)
    except StopIteration:
        return ()
    except Exception as error:
        return error
