"""Frames of a video with the instances that a model found: each identity keeps its number and colour to the end.

Shape letters: H W frame size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from vislab import rle
from vislab.errors import UserError
from vislab.report.videos.overlays import Overlay, draw_overlays, identity_colour

__all__ = ["FoundInstance", "OverlayArtist"]

LEAST_WIDTH = 320  # pixels to which the drawings of smaller videos are enlarged, unless a scale is given


class FoundInstance(Protocol):
    """One track in one frame. segmentation: a code of vislab.rle at the frame's size, None where nothing is seen."""

    @property
    def track_id(self) -> int: ...
    @property
    def label(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def segmentation(self) -> rle.RLE | None: ...


class OverlayArtist:
    """Draws the frames of one video, in order. Holds a number for each track that it has drawn.

    Numbers count from 1 in the order of first appearance; a number has its colour (`identity_colour`).

    Args:
        names: of the labels.
        min_score: least score of an instance in a frame in which it is drawn.
        max_instances: of one frame, those of highest score; None: all.
        scale: enlargement; None: small videos to a width of 320 pixels, others not.

    Raises:
        UserError: an argument out of range.
    """

    def __init__(
        self, names: Sequence[str], *, min_score: float = 0.3, max_instances: int | None = None,
        scale: float | None = None,
    ) -> None:  # fmt: skip
        if not 0 <= min_score <= 1:
            raise UserError(f"--min-score is {min_score:g}, expected a number from 0 to 1")
        if max_instances is not None and max_instances < 1:
            raise UserError(f"--max-instances is {max_instances}, expected at least 1")
        if scale is not None and not 0.05 <= scale <= 16:
            raise UserError(f"--enlarge is {scale:g}, expected a number from 0.05 to 16")
        self.names, self.min_score, self.max_instances, self.scale = names, min_score, max_instances, scale
        self._numbers: dict[int, int] = {}  # of tracks
        self.num_identities = 0  # drawn so far

    def draw(self, frame: np.ndarray, instances: Iterable[FoundInstance]) -> Image.Image:
        """frame: (H, W, 3) uint8 RGB. Each instance is labelled with its number, category and score."""
        overlays: list[Overlay] = []
        taken: set[int] = set()
        for group in self._shown(instances):
            number = self._number([instance.track_id for instance in group], taken)
            taken.add(number)
            overlays.append(self._overlay(number, group[0]))
        scale = max(1.0, LEAST_WIDTH / frame.shape[1]) if self.scale is None else self.scale
        return draw_overlays(frame, overlays, scale)

    def _shown(self, instances: Iterable[FoundInstance]) -> list[list[FoundInstance]]:
        """What to draw, best first. Tracks with the very same mask are one object: a query under several categories."""
        groups: dict[str, list[FoundInstance]] = {}
        for instance in sorted(instances, key=lambda instance: -instance.score):
            if instance.segmentation is not None and instance.score >= self.min_score:
                groups.setdefault(instance.segmentation["counts"], []).append(instance)
        return list(groups.values())[: self.max_instances]

    def _number(self, tracks: Sequence[int], taken: set[int]) -> int:
        """The number of an object: the lowest that a track of it had and that is free in this frame, or a new one."""
        known = {self._numbers[track] for track in tracks if track in self._numbers} - taken
        if known:
            number = min(known)
            self._numbers |= {track: number for track in tracks if track not in self._numbers}
        else:
            number = self.num_identities = self.num_identities + 1
            self._numbers |= dict.fromkeys(tracks, number)
        return number

    def _overlay(self, number: int, instance: FoundInstance) -> Overlay:
        assert instance.segmentation is not None
        mask = rle.decode_checked(instance.segmentation)
        label = f"{number} {self.names[instance.label]} {instance.score:.2f}"
        return Overlay(mask, identity_colour(number - 1), label)
