"""Frame-level predictions drawn by hand: one query per object, whose mask is a square around its reference point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vislab.losses.frame_predictions import FramePredictions

SIZE = 24  # of masks, both ways
CLASSES = 2
CHANNELS = 8  # of embeddings: class logits, then what identifies the object


@dataclass(frozen=True)
class Seen:
    """An object in a frame. look: which unit vector is its association embedding, perhaps mixed with another."""

    look: int
    x: float
    y: float = 0.5
    score: float = 0.9
    label: int = 0
    like: int | None = None  # a look-alike: most of its embedding is this one's


class SquareHeads:
    """Classes are the first numbers of an embedding. Masks are squares of 5 pixels around the reference point, empty
    where the embedding says so."""

    def classify(self, embeddings: Tensor) -> Tensor:
        return embeddings[..., :CLASSES]

    def masks(self, frame: int, embeddings: Tensor, references: Tensor) -> Tensor:
        pixel = (torch.arange(SIZE) + 0.5) / SIZE
        near_x = (pixel - references[:, :1]).abs() < 2.5 / SIZE
        near_y = (pixel - references[:, 1:]).abs() < 2.5 / SIZE
        return (near_y[:, :, None] & near_x[:, None]).float() * 8 - 4


def direction(seen: Seen, sharpness: float = 4.0) -> Tensor:
    """(CHANNELS,): products of equal looks are sharpness^2, of different ones 0."""
    vector = torch.zeros(CHANNELS)
    vector[seen.look] = sharpness
    if seen.like is not None:
        vector = vector * 0.75
        vector[seen.like] += sharpness * 0.66
    return vector


def predictions(frames: Sequence[Sequence[Seen]], queries: int = 6) -> FramePredictions:
    """One frame after the other; queries without an object score nothing."""
    count = len(frames)
    embeddings = torch.zeros(count, queries, CHANNELS)
    embeddings[..., :CLASSES] = -9.0
    boxes = torch.tensor([0.1, 0.1, 0.05, 0.05]).repeat(count, queries, 1)
    association = torch.zeros(count, queries, CHANNELS)
    for index, objects in enumerate(frames):
        for query, seen in enumerate(objects):
            embeddings[index, query, seen.label] = torch.logit(torch.tensor(seen.score))
            embeddings[index, query, CLASSES:] = direction(seen)[CLASSES:]
            boxes[index, query] = torch.tensor([seen.x, seen.y, 5 / SIZE, 5 / SIZE])
            association[index, query] = direction(seen)
    return FramePredictions(
        logits=SquareHeads().classify(embeddings), boxes=boxes, embeddings=embeddings, references=boxes[..., :2],
        heads=SquareHeads(), association=association,
    )  # fmt: skip
