"""Errors that users can act on: one line, of the right class, with the right words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hf_genmodels import UserError


@contextmanager
def refused(match: str | None = None) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """The block raises a `UserError` of one line, in which the pattern, if any, is found."""
    with pytest.raises(UserError, match=match) as error:
        yield error
    assert "\n" not in str(error.value)
