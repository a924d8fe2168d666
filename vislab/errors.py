"""The one exception that a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the user's input, told in one sentence that names the file, field or option.

    Commands print the message without a traceback and exit with code 2 (DESIGN: errors).
    """
