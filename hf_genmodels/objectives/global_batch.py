"""Rows of the micro-batches of all processes, for losses that compare the examples of a batch with each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Noise


def rows_of_all(rows: Tensor, noise: Noise) -> Tensor:
    """The rows of the micro-batches that the processes have at this moment, by rank, with gradients of any order.

    Where each process's loss is the mean over its own rows, and their gradients are averaged as in all training, the
    gradient is that of one process's loss of all rows. Every process must call it alike.

    Args:
        rows: (rows, dim), of equal number in all processes.
        noise: Of the loss: a micro-batch that is the whole batch is not gathered.

    Returns:
        (processes * rows, dim).
    """
    if noise.num_shares == 1 or not torch.distributed.is_initialized():
        return rows
    gathered: Tensor = _GatheredRows.apply(rows)
    return gathered


def mean_of_all(tensor: Tensor, noise: Noise) -> Tensor:
    """The mean over all processes, without gradients; see `rows_of_all`."""
    total = tensor.detach().clone()
    if noise.num_shares > 1 and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
        total /= torch.distributed.get_world_size()
    return total


class _GatheredRows(torch.autograd.Function):
    """All gather, whose gradient is the sum over the processes of what each of them found for these rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed: Tensor = _SummedRows.apply(gradient)
        return summed


class _SummedRows(torch.autograd.Function):
    """This process's rows of the sum over the processes: what `_GatheredRows` transposed is, and it is this one's."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        total = rows.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gathered: Tensor = _GatheredRows.apply(gradient)
        return gathered
