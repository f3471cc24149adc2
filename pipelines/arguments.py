"""The check of what users give to a pipeline's methods: wrong kinds and impossible numbers, in one line each.

`GenerativePipeline` wraps every public method of its subclasses in `check_arguments`: a method meets arguments of the
kinds that its annotations name, in the ranges that their names stand for everywhere in the library. What depends on
the model (shapes, how many steps there are) is left to the method.
"""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union

import numpy as np
import torch
from torch import Tensor

from hf_genmodels.errors import UserError

from .latents import as_latents, check_dense

# (pipeline, name of the argument, value) -> what the method gets
Check = Callable[[Any, str, Any], Any]
MethodT = TypeVar("MethodT", bound=Callable[..., Any])


# kinds ---------------------------------------------------------------------------------------------------------------


def check_whole(pipeline: Any, name: str, value: Any) -> int:
    """Whole numbers, numpy's too; no bool, no float, no text."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UserError(f"{name} must be a whole number, got {_shown(value)}")
    return int(value)


def check_flag(pipeline: Any, name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise UserError(f"{name} must be True or False, got {_shown(value)}")
    return bool(value)


def check_text(pipeline: Any, name: str, value: Any) -> str:
    """Text."""
    if not isinstance(value, str):
        raise UserError(f"{name} must be text, got {_shown(value)}")
    return value


def check_real(pipeline: Any, name: str, value: Any) -> float:
    """Numbers, numpy's too; no bool, no text."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise UserError(f"{name} must be a number, got {_shown(value)}")
    return float(value)


def check_generator(pipeline: Any, name: str, value: Any) -> torch.Generator:
    """A generator, of the CPU or of the pipeline's device."""
    if not isinstance(value, torch.Generator):
        raise UserError(
            f"{name} must be a torch.Generator, such as torch.Generator().manual_seed(0), got {_shown(value)}"
        )
    if value.device.type != "cpu" and value.device.type != pipeline._execution_device.type:
        raise UserError(f"{name} is of {value.device}, the pipeline is on {pipeline._execution_device}")
    return value


def check_generators(pipeline: Any, name: str, value: Any) -> torch.Generator | list[torch.Generator]:
    """A generator, or a sequence of them, which becomes the list that diffusers understands."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [check_generator(pipeline, name, each) for each in value]
    return check_generator(pipeline, name, value)


def check_latents(pipeline: Any, name: str, value: Any) -> Tensor:
    """A tensor, an array or lists of numbers, which becomes a tensor."""
    latents = torch.atleast_1d(as_latents(name, value, "a context" if name == "context" else "latents"))
    if not len(latents):
        raise UserError(f"{name}: there are none: the batch is empty")
    return latents


def check_groups(pipeline: Any, name: str, value: Any) -> Sequence[Any]:
    """Lists of what `check_latents` takes."""
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{name}: combine takes lists of groups of latents, got {_shown(value)}")
    return value


def check_images(pipeline: Any, name: str, value: Any) -> Any:
    """Images as users give them: whatever tensors are among them hold numbers; the rest is `images.to_network`'s."""
    if isinstance(value, Tensor):
        check_dense(name, value)
    elif isinstance(value, (list, tuple, Mapping)):
        for each in value.values() if isinstance(value, Mapping) else value:
            check_images(pipeline, name, each)
    return value


def check_callback(pipeline: Any, name: str, value: Any) -> Any:
    """Something to call."""
    if not callable(value):
        raise UserError(f"{name} must be a function of (pipe, step, timestep, tensors), got {_shown(value)}")
    return value


def check_names(pipeline: Any, name: str, value: Any) -> list[str]:
    """A list of names."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(each, str) for each in value):
        raise UserError(f"{name} must be a list of names, got {_shown(value)}")
    return list(value)


# names ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """Which numbers an argument may be.

    Attributes:
        low: The least.
        high: The greatest; they are finite in any case.
        is_open: `low` itself is none of them.
    """

    low: float = -math.inf
    high: float = math.inf
    is_open: bool = False

    def check(self, name: str, value: float) -> None:
        """Refuse others.

        Raises:
            UserError: One line that says which.
        """
        is_finite = math.isfinite(value)
        if is_finite and self.low <= value <= self.high and not (self.is_open and value == self.low):
            return
        if self.high < math.inf:
            raise UserError(f"{name} must lie in [{self.low:g}, {self.high:g}], got {value}")
        least = f"{'above' if self.is_open else 'at least'} {self.low:g}"
        if self.low == -math.inf:
            least = "finite"
        elif value == math.inf:
            least += " and finite"
        raise UserError(f"{name} must be {least}, got {value}")


RANGES = {
    **dict.fromkeys(("batch_size", "max_batch_size"), Range(1)),
    **dict.fromkeys(("num_samples", "num_restarts", "num_rows", "num_steps", "tile_size", "jump_length"), Range(1)),
    "num_resamples": Range(1),
    **dict.fromkeys(("learning_rate", "step_size", "prior_std", "truncation"), Range(0, is_open=True)),
    **dict.fromkeys(("temperature", "noise_std", "prior_weight", "tile_overlap"), Range(0)),
    **dict.fromkeys(("eta", "quantile"), Range(0, 1)),
}
BY_NAME: dict[str, Check] = {
    **dict.fromkeys(("latents", "xi", "context", "codes"), check_latents),
    **dict.fromkeys(("plus", "minus"), check_groups),
    **dict.fromkeys(("image", "images", "a", "b", "values", "mask", "measurement", "intensities"), check_images),
    "class_labels": lambda pipeline, name, value: pipeline.class_numbers(value),
    "callback_on_step_end": check_callback,
    "callback_on_step_end_tensor_inputs": check_names,
}


NO_CHECK: tuple[Check, bool] = (lambda pipeline, name, value: value), True


# methods -------------------------------------------------------------------------------------------------------------


def check_arguments(method: MethodT) -> MethodT:
    """Wrap a method of a pipeline so that wrong arguments are refused before it runs."""
    signature = inspect.signature(method)
    _, *names = signature.parameters

    @functools.cache
    def checks() -> dict[str, tuple[Check, bool]]:
        """Of each argument that there is something to check of: how, and whether it may be None."""
        return _checks_of(method, signature)

    @functools.wraps(method)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        known = checks()

        def checked_value(name: str, value: Any) -> Any:
            check, may_be_none = known.get(name, NO_CHECK)
            return value if value is None and may_be_none else check(self, name, value)

        named, unknown = zip(names, args, strict=False), args[len(names) :]  # on these Python has its own words
        given = [checked_value(*each) for each in named]
        result = method(self, *given, *unknown, **{name: checked_value(name, kwargs[name]) for name in kwargs})
        if isinstance(result, Tensor) and result.is_floating_point() and result.isnan().any():
            raise UserError(
                f"{method.__name__} gives NaN: the network's weights hold NaN or infinite numbers; load or train "
                "them anew"
            )
        return result

    return typing.cast(MethodT, checked)


def _checks_of(method: Callable[..., Any], signature: inspect.Signature) -> dict[str, tuple[Check, bool]]:
    try:
        hints: Mapping[str, Any] = typing.get_type_hints(method)
    except NameError:  # of a class that is imported for type checkers alone
        hints = {}
    found = {}
    for name, parameter in signature.parameters.items():
        hint = hints.get(name, Any)
        kinds = typing.get_args(hint) if isinstance(hint, UnionType) or typing.get_origin(hint) is Union else (hint,)
        check = BY_NAME.get(name) or _check_of(kinds)
        if check is not None:
            may_be_none = NoneType in kinds or parameter.default is None
            is_number = check in (check_whole, check_real)
            found[name] = _within(RANGES.get(name, Range()), check) if is_number else check, may_be_none
    return found


def _check_of(kinds: tuple[Any, ...]) -> Check | None:
    """By what the annotation allows; None where it says nothing that can be checked here."""
    if torch.Generator in kinds:
        return check_generators if any(typing.get_origin(kind) is not None for kind in kinds) else check_generator
    plain = [kind for kind in kinds if kind is not NoneType]
    if len(plain) != 1:
        return None
    (kind,) = plain
    if typing.get_origin(kind) is Literal and all(isinstance(choice, str) for choice in typing.get_args(kind)):
        kind = str
    return {int: check_whole, float: check_real, bool: check_flag, str: check_text}.get(kind)


def _within(allowed: Range, check: Check) -> Check:
    def checked(pipeline: Any, name: str, value: Any) -> Any:
        value = check(pipeline, name, value)
        allowed.check(name, value)
        return value

    return checked


def _shown(value: Any) -> str:
    """A value in a message: short ones as they are, of others the kind."""
    if value is None or (isinstance(value, (bool, Real, str)) and len(repr(value)) < 40):
        return repr(value)
    return f"a {type(value).__name__}"
