"""Classes of other people's that files of a model may name."""

from __future__ import annotations

from typing import TypeVar

from .errors import UserError

ClassT = TypeVar("ClassT", bound=type)

_REGISTERED: dict[str, type] = {}


def register(registered: ClassT) -> ClassT:
    """Let saved models name a network or a pipeline of your own, by the name of its class; works as a decorator.

    Nothing that a model's files name is imported on their word: a class that is not hf_genmodels', diffusers' or
    transformers' own is loaded only if the running program has registered it, or hands it to `from_pretrained`.

    Args:
        registered: A `ModelMixin` with `ConfigMixin`, or a `GenerativePipeline`.

    Raises:
        UserError: It is something else, or another class of that name is registered.
    """
    from diffusers import ConfigMixin, ModelMixin

    from .pipelines.base import GenerativePipeline

    is_network = (
        isinstance(registered, type) and issubclass(registered, ModelMixin) and issubclass(registered, ConfigMixin)
    )
    if not is_network and not (isinstance(registered, type) and issubclass(registered, GenerativePipeline)):
        given = registered.__name__ if isinstance(registered, type) else f"an instance of {type(registered).__name__}"
        raise UserError(f"register takes a class of ModelMixin and ConfigMixin, or of GenerativePipeline, got {given}")
    earlier = _REGISTERED.get(registered.__name__)
    if earlier is not None and (earlier.__module__, earlier.__qualname__) != (
        registered.__module__,
        registered.__qualname__,
    ):
        raise UserError(
            f"register: a {registered.__name__} of {earlier.__module__} is registered already; rename one of the two"
        )
    _REGISTERED[registered.__name__] = registered
    return registered


def find_registered(name: str) -> type | None:
    """The registered class of that name, None if there is none."""
    return _REGISTERED.get(name)
