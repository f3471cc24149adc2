"""The one exception type that stands for a user's mistake."""

from __future__ import annotations

import re

# Line breaks, what moves a terminal's cursor or colours it, and what turns the direction of writing.
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


class UserError(ValueError):
    """Something the user can put right: one line that says what is wrong, where, and what to do.

    Scripts and the command line print it without a traceback and exit with status 1.

    Args:
        message: The line; line breaks and control characters in it, as names of files may have, become spaces.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """Text without line breaks and control characters; what is no text (bytes of a file's name) is written out."""
    return _BREAKS.sub(" ", text.encode("utf-8", "backslashreplace").decode("utf-8"))
