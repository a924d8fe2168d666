"""Named divisions of a labelled set of videos into a training and a validation part.

The validation labels of YouTube-VIS and OVIS are not public, so ablations divide the labelled training set. A division
depends on the videos' names alone: they are sorted by the SHA-256 of the name, and the first part of that order is the
training set. Neither the order in the file nor category or length matters, and videos of one name (pieces of one
recording) always fall on the same side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from vislab.errors import UserError

__all__ = ["Division", "SplitNames", "default_division", "divide", "division_named", "names_hash"]

Division = Literal["halves", "ninety-ten", "whole"]
"""halves: the first half (rounded up) trains. ninety-ten: nine tenths (rounded) train. whole: both parts are all."""

_LARGE_SET = 200  # videos, from which a tenth is enough to validate on


class SplitNames(NamedTuple):
    """Names of the videos of both parts, in hash order."""

    train: tuple[str, ...]
    valid: tuple[str, ...]


def divide(names: Iterable[str], division: Division) -> SplitNames:
    """The two parts of a set of video names. With fewer than two names the validation part may be empty."""
    ordered = tuple(sorted(set(names), key=lambda name: (hashlib.sha256(name.encode()).digest(), name)))
    if division == "whole":
        return SplitNames(ordered, ordered)
    count = len(ordered)
    border = (count + 1) // 2 if division == "halves" else min((9 * count + 5) // 10, count - 1)
    return SplitNames(ordered[:border], ordered[border:])


def default_division(num_videos: int) -> Division:
    """The division used when none is named: ninety-ten from 200 videos on, halves below."""
    return "ninety-ten" if num_videos >= _LARGE_SET else "halves"


def division_named(text: str) -> Division:
    """The division with this name; raises UserError for others."""
    for division in get_args(Division):
        if text == division:
            return division
    raise UserError(f"division '{text}' does not exist; expected one of {', '.join(get_args(Division))}")


def names_hash(names: Iterable[str]) -> str:
    """16 hex characters that identify a set of names, whatever its order."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]
