"""Loading a pipeline's components: what its constructor asks for, safetensors and JSON alone, no foreign code."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin

from hf_genmodels.errors import UserError
from hf_genmodels.files import CHECKPOINT_MANIFEST, LIBRARIES, read_json
from hf_genmodels.loading import Auto, find_dtype, load_network, load_scheduler
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


@dataclass(frozen=True)
class Loading:
    """How the networks of a pipeline are loaded.

    Attributes:
        dtypes: Of the weights, by name of component; None for those of no name here.
        variant: Part of the weights' file names.
        device: Where to.
        low_cpu_mem_usage: See `load_network`.
    """

    dtypes: Mapping[str | None, torch.dtype | Auto | None]
    variant: str | None
    device: torch.device | None
    low_cpu_mem_usage: bool


def read_index(folder: Path, source: str) -> dict[str, Any]:
    """What `model_index.json` says; `source` is what the user called the folder.

    Raises:
        UserError: It is missing or damaged, or the folder is another thing.
    """
    if not (folder / "model_index.json").is_file():
        if (folder / CHECKPOINT_MANIFEST).is_file():
            raise UserError(
                f"{source} is a checkpoint of training, not a model: give the folder of the finished run, go on with "
                f"--resume_from_checkpoint {folder.name}, or load its networks alone from {source}/networks"
            )
        if (folder / "config.json").is_file():
            network = read_json(folder / "config.json").get("_class_name")
            raise UserError(f"{source} holds a {network}, a network without a pipeline; load it as that class")
    return read_json(folder / "model_index.json")


def find_dtypes(dtype: Any, pipeline_class: type, names: typing.Iterable[str]) -> dict[str | None, Any]:
    """What a user says of types -> that of each component, under None that of the others.

    Args:
        dtype: For all, or by name of component, "default" for the others.
        pipeline_class: For the message.
        names: Of its components.

    Raises:
        UserError: There is no such type or component.
    """
    if not isinstance(dtype, Mapping):
        return {None: find_dtype(dtype)}
    unknown = [name for name in dtype if name not in (*names, "default")]
    if unknown:
        raise UserError(
            f"dtype: {pipeline_class.__name__} has no component {unknown[0]!r}; it has {', '.join(names)}, and "
            "'default' stands for the others"
        )
    found: dict[str | None, Any] = {name: find_dtype(each) for name, each in dtype.items() if name != "default"}
    return found | {None: find_dtype(dtype.get("default"))}


def find_device(device_map: Any) -> torch.device | None:
    """What `device_map` says: one device for everything.

    Raises:
        UserError: It says another thing, or this machine has no such device.
    """
    if device_map is None:
        return None
    try:
        device = torch.device(device_map)
        torch.empty(0, device=device)
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise UserError(
            f"device_map must be one device of this machine for all networks, such as 'cpu', 'cuda' or 'cuda:1' "
            f"(spreading them with 'balanced' or a table is not supported), got {device_map!r}: {reason}"
        ) from None
    return device


def load_component(folder: Path, name: str, entry: Any, part: Part, how: Loading, given: type | None = None) -> Any:
    """Load one component of a saved pipeline.

    Args:
        folder: The pipeline's; the component lies in `folder/name`, in diffusers' first models in `folder` itself.
        name: Of the component.
        entry: [library, class] from `model_index.json`.
        part: What it may be.
        how: To load networks.
        given: Class of the caller's to load it as.

    Raises:
        UserError: A foreign library, another class (both before anything of it is imported or read), or missing or
            damaged files.
    """
    component_class: Any = _class_of(folder, name, entry) if given is None else given
    # Networks and schedulers alone: the Auto classes and pipelines of these libraries would load pickles and code.
    if not _is_network_or_scheduler(component_class):
        if given is not None:
            raise UserError(f"{folder}: {name}={given.__name__} is no network; give the class of the saved {entry[1]}")
        raise UserError(f"{folder}: {entry[0]} has no network or scheduler called {entry[1]!r}")
    if not issubclass(component_class, part.classes):
        raise UserError(f"{folder}: component {name} must be a {part.kind}, not a {component_class.__name__}")
    is_network = issubclass(component_class, torch.nn.Module)
    place = folder / name
    if not place.is_dir():
        if not (folder / ("config.json" if is_network else component_class.config_name)).is_file():
            raise UserError(
                f"{folder} has no folder {name}, whose {entry[1]} model_index.json names; copy or download all of it"
            )
        place = folder
    if not is_network:
        return load_scheduler(component_class, place)
    network = load_network(
        component_class,
        place,
        dtype=how.dtypes.get(name, how.dtypes[None]),
        variant=how.variant,
        low_cpu_mem_usage=how.low_cpu_mem_usage,
    )
    return network if how.device is None else network.to(how.device)


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
