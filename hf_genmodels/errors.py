"""The one exception type that stands for a user's mistake."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user can put right: one line that says what is wrong, where, and what to do.

    Scripts and the command line print it without a traceback and exit with status 1.
    """
