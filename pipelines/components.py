"""Loading a pipeline's components: only classes its constructor asks for, nothing but safetensors and JSON."""

from __future__ import annotations

import importlib
import inspect
import typing
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin

from hf_genmodels.errors import UserError
from hf_genmodels.loading import load_network

LIBRARIES = ("hf_genmodels", "diffusers", "transformers")


def expected_classes(pipeline_class: type) -> dict[str, tuple[type, ...]]:
    """Name of each component of a pipeline -> the classes that the annotation of its constructor's parameter allows.

    A parameter whose annotation names no network and no scheduler is no component. Optional ones also allow NoneType.
    """
    expected = {}
    for name, hint in typing.get_type_hints(pipeline_class.__init__).items():  # type: ignore[misc]
        classes = tuple(kind for kind in typing.get_args(hint) or (hint,) if inspect.isclass(kind))
        if any(_is_network_or_scheduler(kind) for kind in classes):
            expected[name] = classes
    return expected


def check_component(pipeline_class: type, name: str, component: Any) -> None:
    """Refuse a component that is not of the class the pipeline's constructor asks for; subclasses are.

    Raises:
        UserError: It is of another class.
    """
    allowed = expected_classes(pipeline_class).get(name)
    component = getattr(component, "_orig_mod", component)  # of what torch.compile made, the network itself
    if allowed is not None and not isinstance(component, allowed):
        raise UserError(
            f"component {name} of {pipeline_class.__name__} must be a {_names(allowed)}, "
            f"not a {type(component).__name__}"
        )


def is_component(value: Any) -> bool:
    """Whether an entry of `model_index.json` is [library, class]; the parameters without a default are such."""
    return isinstance(value, list) and len(value) == 2 and value[0] is not None


def load_component(
    folder: Path,
    name: str,
    entry: Any,
    allowed: tuple[type, ...],
    dtype: torch.dtype | None,
    variant: str | None,
) -> Any:
    """Load one component of a saved pipeline.

    Args:
        folder: The pipeline's; the component lies in `folder/name`, in diffusers' first models in `folder` itself.
        name: Of the component.
        entry: [library, class] from `model_index.json`.
        allowed: Classes it may be of, see `expected_classes`.
        dtype: Of the weights.
        variant: Part of the weights' file names.

    Raises:
        UserError: A foreign library, another class (both before anything of it is imported or read), or damaged files.
    """
    library, class_name = entry
    if library not in LIBRARIES:
        raise UserError(f"{folder}: component {name} is from {library!r}; only {', '.join(LIBRARIES)} are loaded")
    component_class: Any = getattr(importlib.import_module(library), str(class_name), None)
    # Networks and schedulers alone: the Auto classes and pipelines of these libraries would load pickles and code.
    if not _is_network_or_scheduler(component_class):
        raise UserError(f"{folder}: {library} has no network or scheduler called {class_name!r}")
    if not issubclass(component_class, allowed):
        raise UserError(f"{folder}: component {name} must be a {_names(allowed)}, not a {class_name}")
    place = folder / name if (folder / name).is_dir() else folder
    if issubclass(component_class, torch.nn.Module):
        return load_network(component_class, place, dtype=dtype, variant=variant)
    try:
        return component_class.from_pretrained(str(place))
    except OSError as error:
        raise UserError(f"{place} holds no {class_name}: {' '.join(str(error).split())}") from error


def _is_network_or_scheduler(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, (torch.nn.Module, SchedulerMixin))


def _names(allowed: tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in allowed if kind is not type(None))
