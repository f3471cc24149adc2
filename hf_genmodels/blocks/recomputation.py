"""Activations that the backward pass computes anew instead of reading them: memory for time, the same gradients.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174. A network takes part as in
diffusers: it has `_supports_gradient_checkpointing = True` and, where its blocks are called, `gradient_checkpointing`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, *args: Any) -> Any:
    """`block(*args)`, of which only the arguments are kept for the backward pass.

    For `ModelMixin.enable_gradient_checkpointing`. In its second pass a block finds its buffers as they were in the
    first, and what it writes into them is dropped: running statistics and power iterations go on once a step. It draws
    the same dropout twice.
    """
    if next(block.buffers(), None) is None:
        return checkpoint(block, *args, use_reentrant=False)  # torch.compile knows this form alone

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _BuffersAsNow(block)

    return checkpoint(block, *args, use_reentrant=False, context_fn=contexts)


class _BuffersAsNow:
    """A context, to be entered any number of times, in which a module has copies of the buffers that it has now."""

    def __init__(self, module: nn.Module) -> None:
        self.before = [(each, _copies(each._buffers)) for each in module.modules()]

    def __enter__(self) -> None:
        self.outside = [module._buffers for module, _ in self.before]
        for module, buffers in self.before:
            module._buffers = _copies(buffers)

    def __exit__(self, *_: object) -> None:
        for (module, _buffers), outside in zip(self.before, self.outside, strict=True):
            module._buffers = outside


def _copies(buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if buffer is None else buffer.clone() for name, buffer in buffers.items()}


def call_block(network: Any, block: nn.Module, *args: Any) -> Any:
    """`block(*args)`; where `network` does gradient checkpointing, by the function that it was given for that."""
    if network.gradient_checkpointing and torch.is_grad_enabled():
        return network._gradient_checkpointing_func(block, *args)
    return block(*args)
