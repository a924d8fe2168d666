"""The one exception that a user is meant to read, and the check of an option that raises it."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the user's input, told in one sentence that names the file, field or option.

    Commands print the message without a traceback and exit with code 2 (DESIGN: errors).
    """


def require(fits: bool, option: str, found: object, expected: str) -> None:
    """Raises UserError unless the option's value fits. option: as the user names it, with what it is a part of."""
    if not fits:
        raise UserError(f"{option} is {found!r}, expected {expected}")
