"""How many grey levels a model of discrete images tells apart."""

from typing import Any

from ..checks import check_minimums
from ..data.spec import DataSpec
from ..errors import UserError


def choose_num_levels(args: Any, data: DataSpec, reader: str, most: int | None = None) -> int:
    """Grey levels of a pixel: those that were asked for, or the data's.

    Args:
        args: Options with `num_levels`.
        data: Images.
        reader: What tells the levels apart, for the message: "the categorical decoder".
        most: The largest number that is taken of data without being asked for; None for any.

    Raises:
        UserError: Fewer than two were asked for; or none, and the data are floats or have more than `most`.
    """
    if args.num_levels is not None:
        check_minimums(args, num_levels=2)
        return int(args.num_levels)
    num_levels = int(data.value_scale) + 1
    if data.value_scale <= 1 or (most is not None and num_levels > most):
        num_levels = 256
    check_num_levels(num_levels, data, reader)
    return num_levels


def check_num_levels(num_levels: int, data: DataSpec, reader: str) -> None:
    """Refuse to round the data to fewer grey levels than they have when nobody asked for it.

    Args:
        num_levels: Grey levels of the network.
        data: Images.
        reader: As for `choose_num_levels`.

    Raises:
        UserError: The data are floats or have more levels; says what is lost and how to ask for it.
    """
    if data.value_scale > 1 and data.value_scale + 1 <= num_levels:
        return
    found = f"{int(data.value_scale) + 1} grey levels" if data.value_scale > 1 else "float values"
    raise UserError(
        f"{data.name} has {found}, which {reader} would round to {num_levels} levels; "
        f"--num_levels {num_levels} says that this is meant"
    )
