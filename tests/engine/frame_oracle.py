"""A frame-level model that knows the labels of the frames it is shown (see `oracle.Marked`), queries in random order.

Shape letters: F frames, Q queries, K classes, N instances, C channels, n chosen embeddings, H W image size.
"""

from __future__ import annotations

import weakref

import numpy as np
import torch
from oracle import SURE, Marked
from torch import Tensor, nn

from vislab.data.collate import PIXEL_MEAN, PIXEL_STD
from vislab.losses.frame_predictions import FramePredictions

LOOKS = 16  # different association embeddings; tracks beyond repeat them


class KnownMasks:
    """An embedding holds the number of its instance among the masks of its frame, -1 for none, then its logits."""

    def __init__(self, masks: list[Tensor]) -> None:
        self.of_frame = masks

    def classify(self, embeddings: Tensor) -> Tensor:
        return embeddings[..., 1:]

    def masks(self, frame: int, embeddings: Tensor, references: Tensor) -> Tensor:
        nothing = torch.full_like(self.of_frame[frame][:1], -SURE)
        return torch.cat((nothing, self.of_frame[frame]))[embeddings[:, 0].long() + 1]


class FrameOracle(nn.Module):
    """Perfect detections. given: what it gave out, as long as somebody holds it."""

    mask_stride = 1
    tar = None

    def __init__(self, marked: Marked, num_queries: int = 12) -> None:
        super().__init__()
        self.marked, self.num_queries = marked, num_queries
        self.anything = nn.Parameter(torch.zeros(()))  # says which device
        self.rng = np.random.default_rng(0)
        self.given: list[weakref.ref[FramePredictions]] = []

    @property
    def num_held(self) -> int:
        return sum(reference() is not None for reference in self.given)

    def frames(self, images: Tensor, padding_mask: Tensor) -> FramePredictions:
        pixels = images[:, :, 0, 0] * torch.tensor(PIXEL_STD) + torch.tensor(PIXEL_MEAN)
        frames = pixels[:, 1].round().int().tolist()
        truth = self.marked.annotations(int(pixels[0, 0].round()), frames)
        num_classes = len(self.marked.categories)
        embeddings = torch.full((len(frames), self.num_queries, 1 + num_classes), -SURE)
        embeddings[..., 0] = -1
        association = torch.zeros(len(frames), self.num_queries, LOOKS)
        boxes = torch.full((len(frames), self.num_queries, 4), 0.01)
        height, width = truth.masks.shape[-2:]
        masks = torch.full((len(frames), max(1, len(truth.labels)), *images.shape[-2:]), -SURE)
        for t in range(len(frames)):
            present = np.flatnonzero(truth.present[:, t])
            for query, row in zip(self.rng.permutation(self.num_queries), present, strict=False):
                embeddings[t, query, 0] = row
                embeddings[t, query, 1 + truth.labels[row]] = SURE
                association[t, query, truth.track_ids[row] % LOOKS] = 6.0
                x1, y1, x2, y2 = truth.boxes[row, t] / np.array([width, height, width, height])
                boxes[t, query] = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
                masks[t, row, :height, :width] = torch.from_numpy(truth.masks[row, t]) * 2 * SURE - SURE
        heads = KnownMasks(list(masks))
        found = FramePredictions(heads.classify(embeddings), boxes, embeddings, boxes[..., :2], heads, association)
        self.given.append(weakref.ref(found))
        return found
