"""Networks compiled in place, whichever of their methods a pipeline calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def compile_in_place(network: nn.Module, methods: Iterable[str], **options: Any) -> None:
    """Compile `forward`, as `nn.Module.compile` does, and other methods; the network's class and weights stay.

    Args:
        network: Any.
        methods: Names of further methods; properties among them, and those that it does not have, are passed over.
        options: Of `torch.compile`.
    """
    network.compile(**options)
    for name in methods:
        method = inspect.getattr_static(type(network), name, None)
        if inspect.isfunction(method):
            # a partial of the class's own function, which in a copy of the network is that of the copy
            vars(network)[name] = functools.partial(torch.compile(method, **options), network)
