"""Offloading of weights, as `enable_model_cpu_offload` and `enable_sequential_cpu_offload` of diffusers do it.

Accelerate brings a network's weights to the device when its `forward` is called. Pipelines here call other methods,
too (`encode`, `inverse`, `log_probability`), of networks of anybody's; so while weights are offloaded every public
method of a network's own class brings them, and the end of a pipeline's method takes them away again.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, ClassVar

import torch
from accelerate.hooks import AlignDevicesHook, ModelHook, add_hook_to_module, remove_hook_from_module
from accelerate.utils import send_to_device
from diffusers import DiffusionPipeline
from torch import nn

# Where a class comes from whose methods are none of a network's own.
LIBRARIES = ("diffusers", "transformers", "torch", "builtins", "huggingface_hub")
# What `_get_signature_keys` has found, by the class that looked and the one it looked at.
_SIGNATURE_KEYS: dict[tuple[type, type], tuple[list[str], list[str]]] = {}


class Offloadable(DiffusionPipeline):
    """A pipeline whose weights may be offloaded, whichever methods it calls."""

    _all_hooks: ClassVar[list[Any]] = []
    _is_running = False

    # As in diffusers, but what depends on the class is worked out once, and networks are not searched for hooks of
    # several kinds where these change nothing: that took longer than a small network.

    @classmethod
    def _get_signature_keys(cls, obj: Any) -> tuple[list[str], list[str]]:
        kind = obj if isinstance(obj, type) else type(obj)
        if (cls, kind) not in _SIGNATURE_KEYS:
            _SIGNATURE_KEYS[cls, kind] = super()._get_signature_keys(kind)
        components, options = _SIGNATURE_KEYS[cls, kind]
        return [*components], [*options]

    @property
    def _execution_device(self) -> torch.device:
        """Where the networks run, whether or not their weights are there now."""
        networks = self._networks()
        if not any(hasattr(network, "_hf_hook") for network in networks):
            first = [next(chain(network.parameters(), network.buffers()), None) for network in networks]
            devices = [tensor.device for tensor in first if tensor is not None]
            for device in devices:
                if device.type not in ("cpu", "meta"):
                    return device
            # on a machine without an accelerator nothing can be offloaded in any other way
            if devices and devices[0].type == "cpu" and not torch.accelerator.is_available():
                return devices[0]
        return super()._execution_device

    @property
    def dtype(self) -> torch.dtype:
        """Of the first network, in which it computes."""
        weight = next((weight for network in self._networks()[:1] for weight in network.parameters()), None)
        if weight is not None and weight.dtype == torch.float32:  # what is stored so is used so
            return torch.float32
        return super().dtype

    def _networks(self) -> list[nn.Module]:
        parts = [getattr(self, name) for name in self._get_signature_keys(self)[0]]
        return [part for part in parts if isinstance(part, nn.Module)]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, member in list(vars(cls).items()):
            if inspect.isfunction(member) and (name == "__call__" or not name.startswith("_")):
                setattr(cls, name, _taking_weights_away(member))

    def enable_model_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """Keep networks on the CPU, and bring one at a time to the accelerator when it is used; see diffusers.

        Args:
            args: `gpu_id` and `device`, of diffusers.
            kwargs: The same.
        """
        super().enable_model_cpu_offload(*args, **kwargs)
        for network in _own_networks(self):
            _hook_methods(network)

    def enable_sequential_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """Keep weights on the CPU, and bring them to the accelerator for the time that they are used; see diffusers.

        Networks of diffusers' own are brought layer by layer, others as a whole: their methods read weights of layers
        that they do not call.

        Args:
            args: `gpu_id` and `device`, of diffusers.
            kwargs: The same.
        """
        super().enable_sequential_cpu_offload(*args, **kwargs)
        for network in _own_networks(self):
            remove_hook_from_module(network, recurse=True)
            add_hook_to_module(network, AlignDevicesHook(self._offload_device, offload=True, place_submodules=True))
            _hook_methods(network)

    def remove_all_hooks(self) -> None:
        super().remove_all_hooks()
        for network in _own_networks(self):
            for name in _methods(network):
                vars(network).pop(name, None)


@contextmanager
def weights_of(network: nn.Module) -> Iterator[None]:
    """With a network's weights on the device that it runs on, whatever is read or called in here."""
    hook = getattr(network, "_hf_hook", None)
    if hook is None or isinstance(hook, _Held):
        yield
        return
    hook.pre_forward(network)
    network._hf_hook = _Held(hook)
    try:
        yield
    finally:
        network._hf_hook = hook
        hook.post_forward(network, None)


class _Held(ModelHook):
    """Of a network whose weights are there already."""

    def __init__(self, hook: Any) -> None:
        self.execution_device = hook.execution_device


def _own_networks(pipeline: DiffusionPipeline) -> list[nn.Module]:
    """The networks whose class is of no library."""
    networks = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    return [network for network in networks if not _is_of_library(type(network))]


def _is_of_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in LIBRARIES


def _methods(network: nn.Module) -> list[str]:
    """`forward`, which would lose its weights to a method that it calls, and the public methods of no library."""
    kinds = [kind for kind in type(network).__mro__ if not _is_of_library(kind)]
    found = {name for kind in kinds for name, member in vars(kind).items() if inspect.isfunction(member)}
    return sorted(name for name in found if not name.startswith("_"))


def _hook_methods(network: nn.Module) -> None:
    for name in _methods(network):
        method = functools.partial(_call_with_weights, network, name)
        vars(network)[name] = functools.update_wrapper(method, getattr(type(network), name))


def _call_with_weights(network: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    with weights_of(network):
        args, kwargs = send_to_device((args, kwargs), network._hf_hook.execution_device)
        return getattr(type(network), name)(network, *args, **kwargs)


def _taking_weights_away(method: Callable[..., Any]) -> Callable[..., Any]:
    """A pipeline's method, at whose end every network is offloaded; not that of one which it calls itself."""

    @functools.wraps(method)
    def wrapper(self: Offloadable, *args: Any, **kwargs: Any) -> Any:
        if not self._all_hooks or self._is_running:
            return method(self, *args, **kwargs)
        self._is_running = True
        try:
            return method(self, *args, **kwargs)
        finally:
            self._is_running = False
            self.maybe_free_model_hooks()

    return wrapper
