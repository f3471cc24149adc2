"""The types of what a model's JSON files say, compared with what its constructors are annotated with; no torch."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

from .errors import UserError

PLAIN = (int, float, str, bool, list, tuple, dict, type(None))


def check_types(path: Path, kind: type, values: Mapping[str, Any]) -> None:
    """Compare the values of a file with the annotations of a constructor.

    A default is fine whatever the annotation says, and so is what an annotation that JSON has no type for may mean.
    Which numbers and words are possible is left to the constructor.

    Args:
        path: Of the file, for the message.
        kind: The class that is to be built.
        values: Arguments by name; entries that are no arguments are left aside.

    Raises:
        UserError: A value is of another type.
    """
    constructor: Any = kind.__init__  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(constructor)
    except NameError:  # annotated with what was imported for type checkers only
        return
    for name, parameter in inspect.signature(constructor).parameters.items():
        if name not in values or name not in hints or _same(values[name], parameter.default):
            continue
        if not fits(values[name], hints[name]):
            raise UserError(f"{path}: {name} must be {_shown(hints[name])}, got {shorten(repr(values[name]))}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is what an annotation asks for; whole numbers are fine as `float`."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return fits(value, options[0])
    if origin in (Union, types.UnionType):
        known = [option for option in options if _is_known(option)]
        return not known or any(fits(value, option) for option in known)
    if origin is Literal:
        return any(type(value) is type(option) for option in options)
    if origin in (list, tuple, Sequence):
        if not isinstance(value, (list, tuple)):
            return False
        if origin is tuple and options[-1] is not Ellipsis:
            return len(value) == len(options) and all(map(fits, value, options))
        return all(fits(item, options[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict)
    if hint not in PLAIN:
        return True
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, {float: (int, float), list: (list, tuple), tuple: (list, tuple)}.get(hint, hint))


def shorten(text: str, longest: int = 80) -> str:
    """The beginning of a long text, for messages."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def _is_known(hint: Any) -> bool:
    return typing.get_origin(hint) is not None or hint in PLAIN


def _same(value: Any, default: Any) -> bool:
    value = tuple(value) if isinstance(value, list) and isinstance(default, tuple) else value
    return type(value) is type(default) and bool(value == default)


def _shown(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) and not typing.get_args(hint) else str(hint).replace("typing.", "")
