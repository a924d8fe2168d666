"""Online association of frame-level detections by their embeddings (Wu et al., IDOL; RefineVIS section 3.3).

Released behaviour: wjf5203/VNext projects/IDOL/idol/models/tracker.py and idol.py. Its "backdrops", detections that are
no track, never enter a comparison there, so they are left out here.

Shape letters: n detections of a frame, N tracks, E channels of the association embedding.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vislab.config import to_dict
from vislab.errors import require

Similarity = Literal["bisoftmax", "softmax", "cosine"]


@dataclass(frozen=True)
class AssociationConfig:
    """Thresholds of detection, association and output; defaults are the release's for YouTube-VIS.

    match_score is not below 0 because a track that is taken has similarity 0 to the detections after it.
    """

    min_score: float = 0.1  # detections whose best class scores less are not looked at, but for the best of all
    box_nms: float = 0.9  # IoU above which the lower-scoring of two boxes of one class goes
    mask_nms: float = 0.5  # IoU above which the lower-scoring of two masks goes, of whatever class
    similarity: Similarity = "bisoftmax"
    match_score: float = 0.5  # a similarity must exceed it
    birth_score: float = 0.2  # what is not matched and scores more starts a track
    memory_length: int = 3  # embeddings a track remembers
    temporal_weight: bool = True  # an embedding weighs its score + (j + 1) / n, j = 0 the oldest; else its score alone
    frame_weight: bool = True  # among several tracks above match_score, similarities count times the tracks' frames
    max_unseen: int = 10  # a track that has not been seen for so many frames ends
    recovery_score: float = 0.1  # where a track is not seen, its refined mask counts if its refined score exceeds this
    output_score: float = 0.05  # every class whose mean score exceeds it becomes an instance
    min_frames: int = 3  # tracks seen less often go once they are missing twice in a row, from the tenth frame on

    def __post_init__(self) -> None:
        to_dict(self)  # raises UserError where a value does not fit its annotation
        for name in ("box_nms", "mask_nms", "match_score"):
            require(0 <= getattr(self, name) <= 1, f"association.{name}", getattr(self, name), "0 to 1")
        require(self.min_frames >= 0, "association.min_frames", self.min_frames, "0 or more")
        for name in ("min_score", "birth_score", "recovery_score", "output_score"):
            require(0 <= getattr(self, name) < 1, f"association.{name}", getattr(self, name), "a probability in [0, 1)")
        for name in ("memory_length", "max_unseen"):
            require(getattr(self, name) >= 1, f"association.{name}", getattr(self, name), "1 or more")


def similarities(embeddings: Tensor, memory: Tensor, kind: Similarity) -> Tensor:
    """(n, E) of detections and (N, E) of tracks to (n, N).

    "bisoftmax": mean of the softmax over tracks and the softmax over detections, of dot products. "softmax": the former
    alone. "cosine": in [-1, 1].
    """
    if kind == "cosine":
        return functional.normalize(embeddings, dim=-1) @ functional.normalize(memory, dim=-1).T
    products = embeddings @ memory.T
    over_tracks = products.softmax(1)
    return over_tracks if kind == "softmax" else (over_tracks + products.softmax(0)) / 2


@dataclass
class Track:
    """What is remembered of a track. embeddings: the last few, (E,) each, and their scores."""

    last_frame: int
    num_frames: int = 0
    embeddings: deque[Tensor] = field(default_factory=deque)
    scores: deque[float] = field(default_factory=deque)

    def see(self, frame: int, embedding: Tensor, score: float, memory_length: int) -> None:
        self.last_frame = frame
        self.num_frames += 1
        self.embeddings.append(embedding.clone())
        self.scores.append(score)
        if len(self.scores) > memory_length:
            self.embeddings.popleft()
            self.scores.popleft()

    def embedding(self, temporal_weight: bool) -> Tensor:
        """Weighted mean of the remembered ones, (E,)."""
        weights = torch.tensor(list(self.scores), dtype=torch.float32)
        if temporal_weight:
            weights = weights + torch.arange(1, len(weights) + 1) / len(weights)
        stack = torch.stack(list(self.embeddings))
        return (weights.to(stack) @ stack) / weights.sum().to(stack)


class AssociationTracker:
    """Gives detections of one frame after the other the numbers of their tracks. Knows nothing of masks or models."""

    def __init__(self, config: AssociationConfig) -> None:
        self.config = config
        self.tracks: dict[int, Track] = {}
        self._num_started = 0

    def update(self, frame: int, embeddings: Tensor, scores: Tensor) -> list[int | None]:
        """Track of each detection, None where it belongs to none.

        frame: larger than at the last call. embeddings: (n, E); scores: (n,), in descending order: the better
        detection chooses first.
        """
        found = self._match(embeddings.float())
        for index, score in enumerate(scores.tolist()):
            if found[index] is None and score > self.config.birth_score:
                found[index] = self._num_started
                self._num_started += 1
        for track_id, embedding, score in zip(found, embeddings.float(), scores.tolist(), strict=True):
            if track_id is not None:
                track = self.tracks.setdefault(track_id, Track(frame))
                track.see(frame, embedding, score, self.config.memory_length)
        ended = [key for key, track in self.tracks.items() if frame - track.last_frame >= self.config.max_unseen]
        for key in ended:
            del self.tracks[key]
        return found

    def _match(self, embeddings: Tensor) -> list[int | None]:
        if not self.tracks:
            return [None] * len(embeddings)
        ids = list(self.tracks)
        memory = torch.stack([track.embedding(self.config.temporal_weight) for track in self.tracks.values()])
        counts = torch.tensor([float(track.num_frames) for track in self.tracks.values()])
        table = similarities(embeddings, memory, self.config.similarity).cpu()
        found: list[int | None] = []
        for index in range(len(table)):
            column = self._choose(table[index], counts)
            found.append(None if column is None else ids[column])
            if column is not None:
                table[index + 1 :, column] = 0.0
        return found

    def _choose(self, row: Tensor, counts: Tensor) -> int | None:
        """The track that a detection with these similarities (N,) takes. counts: (N,), frames of the tracks."""
        likely = row > self.config.match_score
        if self.config.frame_weight and likely.sum() > 1:
            row = row * torch.where(likely, counts, counts[likely].mean())
        best = int(row.argmax())
        return best if row[best] > self.config.match_score else None
