"""Refusals of impossible values, in one line each; for constructors and for options alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import UserError
from .sizes import as_option, in_words


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices (`typing.get_args` of the argument's `Literal`).

    Raises:
        UserError: One line with the argument's name, the value and the choices.
    """
    if value not in choices:
        raise UserError(f"{name} {value!r} is unknown; choose one of: {', '.join(choices)}")


def check_widths(name: str, widths: Sequence[int]) -> None:
    """Refuse layers without units.

    Raises:
        UserError: One line with the argument's name and the widths.
    """
    if any(width < 1 for width in widths):
        raise UserError(f"{name} must be at least 1, got {' '.join(str(width) for width in widths)}")


def check_multiple(what: str, size: tuple[int, int], multiple: int, name: str) -> None:
    """Refuse images whose sides a network cannot halve as often as it must.

    Raises:
        UserError: One line with a size that it can take.
    """
    if any(side % multiple for side in size):
        nearest = as_option(*(max(1, round(side / multiple)) * multiple for side in size))
        raise UserError(
            f"{what} needs images whose sides are multiples of {multiple}, {name} has {in_words(size)}; use "
            f"--resolution {nearest}"
        )


def check_minimums(args: Any, **minimums: float) -> None:
    """Refuse options below their smallest sensible value; those left out (None) are not looked at.

    Raises:
        UserError: One line that names the option.
    """
    for name, minimum in minimums.items():
        value = getattr(args, name)
        if value is not None and not value >= minimum:
            raise UserError(f"--{name} must be at least {minimum}, got {value}")


def check_positive(args: Any, *names: str) -> None:
    """Refuse options that are given and not above zero.

    Raises:
        UserError: One line that names the option.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name} must be positive, got {value}")


def check_unused(args: Any, where: str, *names: str) -> None:
    """Refuse options that were changed from their defaults though they mean nothing here.

    Args:
        args: A dataclass of options.
        where: Such as "with --architecture mlp", for the message.
        names: The options.

    Raises:
        UserError: One line that names the option.
    """
    defaults = type(args)()
    for name in names:
        if getattr(args, name) != getattr(defaults, name):
            raise UserError(f"--{name} has no meaning {where}; leave it out")


def check_seed(name: str, seed: int, count: int = 1) -> None:
    """Refuse seeds that torch's generators cannot take: they have 64 bits.

    Args:
        name: Of the option.
        seed: The seed.
        count: How many seeds are used, from this one upwards.

    Raises:
        UserError: One line that names the option.
    """
    if not -(2**63) <= seed <= 2**64 - count:
        raise UserError(f"{name} must fit into 64 bits (at most 2**64 - {count}), got {seed}")
