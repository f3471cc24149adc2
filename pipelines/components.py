"""Loading a pipeline's components: what its constructor asks for, safetensors and JSON alone, no foreign code."""

from __future__ import annotations

import importlib
import inspect
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin

from hf_genmodels.errors import UserError
from hf_genmodels.files import LIBRARIES
from hf_genmodels.loading import load_network
from hf_genmodels.registration import find_registered
from hf_genmodels.roles import Role


@dataclass(frozen=True)
class Part:
    """What a pipeline's constructor says of one component.

    Attributes:
        classes: Classes that it may be of; NoneType among them where it is optional.
        role: What it must offer, where any network that does will do.
    """

    classes: tuple[type, ...]
    role: Role | None = None

    @property
    def kind(self) -> str:
        """What it may be, for messages."""
        if self.role is not None:
            return self.role.kind
        return " or ".join(kind.__name__ for kind in self.classes if kind is not type(None))

    def check(self, pipeline_class: type, name: str, component: Any) -> None:
        """Refuse what the constructor does not ask for; subclasses are fine.

        Raises:
            UserError: It is of another class, or lacks what its role needs.
        """
        if component is None and type(None) in self.classes:
            return
        where = f"component {name} of {pipeline_class.__name__}"
        if self.role is not None:
            self.role.check(where, component)
            return
        component = getattr(component, "_orig_mod", component)  # of what torch.compile made, the network itself
        if not isinstance(component, self.classes):
            raise UserError(f"{where} must be a {self.kind}, not a {type(component).__name__}")


def parts_of(pipeline_class: type) -> dict[str, Part]:
    """Name of each component of a pipeline -> what the annotation of its constructor's parameter allows.

    A parameter whose annotation names no network and no scheduler is no component.
    """
    parts = {}
    hints = typing.get_type_hints(pipeline_class.__init__, include_extras=True)  # type: ignore[misc]
    for name, hint in hints.items():
        is_annotated = hasattr(hint, "__metadata__")
        options = (hint,) if is_annotated else typing.get_args(hint) or (hint,)
        roles = [each for option in options for each in getattr(option, "__metadata__", ()) if isinstance(each, Role)]
        plain = [typing.get_args(option)[0] if hasattr(option, "__metadata__") else option for option in options]
        classes = tuple(kind for kind in plain if inspect.isclass(kind))
        if any(_is_network_or_scheduler(kind) for kind in classes):
            parts[name] = Part(classes, roles[0] if roles else None)
    return parts


def is_component(value: Any) -> bool:
    """Whether an entry of `model_index.json` is [library, class]; the parameters without a default are such."""
    return isinstance(value, list) and len(value) == 2 and value[0] is not None


def load_component(
    folder: Path,
    name: str,
    entry: Any,
    part: Part,
    dtype: torch.dtype | None,
    variant: str | None,
    given: type | None = None,
) -> Any:
    """Load one component of a saved pipeline.

    Args:
        folder: The pipeline's; the component lies in `folder/name`, in diffusers' first models in `folder` itself.
        name: Of the component.
        entry: [library, class] from `model_index.json`.
        part: What it may be.
        dtype: Of the weights.
        variant: Part of the weights' file names.
        given: Class of the caller's to load it as.

    Raises:
        UserError: A foreign library, another class (both before anything of it is imported or read), or damaged files.
    """
    component_class: Any = _class_of(folder, name, entry) if given is None else given
    # Networks and schedulers alone: the Auto classes and pipelines of these libraries would load pickles and code.
    if not _is_network_or_scheduler(component_class):
        if given is not None:
            raise UserError(f"{folder}: {name}={given.__name__} is no network; give the class of the saved {entry[1]}")
        raise UserError(f"{folder}: {entry[0]} has no network or scheduler called {entry[1]!r}")
    if not issubclass(component_class, part.classes):
        raise UserError(f"{folder}: component {name} must be a {part.kind}, not a {component_class.__name__}")
    place = folder / name if (folder / name).is_dir() else folder
    if issubclass(component_class, torch.nn.Module):
        return load_network(component_class, place, dtype=dtype, variant=variant)
    try:
        return component_class.from_pretrained(str(place))
    except OSError as error:
        raise UserError(f"{place} holds no {component_class.__name__}: {' '.join(str(error).split())}") from error


def _class_of(folder: Path, name: str, entry: Any) -> Any:
    library, class_name = str(entry[0]), str(entry[1])
    if library in LIBRARIES:
        return getattr(importlib.import_module(library), class_name, None)
    registered = find_registered(class_name)
    if registered is None:
        raise UserError(
            f"{folder}: component {name} is a {class_name} of {library!r}, and nothing is imported on a file's word; "
            f"give the class, from_pretrained(..., {name}={class_name}), or hf_genmodels.register({class_name}) before"
        )
    return registered


def _is_network_or_scheduler(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, (torch.nn.Module, SchedulerMixin))
