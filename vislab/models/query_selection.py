"""Two-stage query selection: the encoder's best tokens become the decoder's queries (Deformable DETR, DINO, MaskDINO).

Shape letters: F frames, S tokens of all levels, Q queries, K classes, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

SMALLEST_SIZE = 0.05  # of a proposal's box on the first level, doubled on each that follows
MARGIN = 0.01  # proposals whose coordinates are this near to 0 or 1 are none


class Selected(NamedTuple):
    """Q tokens of each frame. queries: (F, Q, C); boxes: (F, Q, 4) cxcywh in [0, 1] of the padded image."""

    queries: Tensor
    boxes: Tensor


def proposals(shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """A box at the centre of every token: logits (S, 4), infinite where it is none, and where that is, (S, 1) bool.

    MaskDINO counts levels from the coarsest on, so that coarse tokens propose small boxes; its weights were trained so
    (IDEA-Research/MaskDINO maskdino/utils/utils.py, gen_encoder_output_proposals).
    """
    levels = []
    for level, (height, width) in enumerate(shapes):
        y = (torch.arange(height) + 0.5) / height
        x = (torch.arange(width) + 0.5) / width
        size = torch.full((height, width), SMALLEST_SIZE * 2**level)
        boxes = torch.stack((x.expand(height, width), y[:, None].expand(height, width), size, size), dim=-1)
        levels.append(boxes.flatten(0, 1))
    boxes = torch.cat(levels)
    none = ~((boxes > MARGIN) & (boxes < 1 - MARGIN)).all(-1, keepdim=True)
    return boxes.logit().masked_fill(none, torch.inf), none


class QuerySelection(nn.Module):
    """The tokens with the best class scores."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, tokens: Tensor, shapes: list[tuple[int, int]], num_queries: int, class_head: Callable[[Tensor], Tensor],
        box_head: Callable[[Tensor], Tensor],
    ) -> Selected:  # fmt: skip
        """tokens: (F, S, C) of the levels in the order of shapes. Fewer than num_queries tokens are all selected."""
        logits, none = (part.to(tokens.device) for part in proposals(shapes))
        tokens = self.norm(self.project(tokens.masked_fill(none, 0.0)))
        scores = class_head(tokens).amax(-1)
        best = scores.topk(min(num_queries, scores.shape[1]), dim=1).indices[..., None]
        queries = tokens.gather(1, best.expand(-1, -1, tokens.shape[-1]))
        start = logits.to(tokens)[best[..., 0]]
        return Selected(queries, (box_head(queries) + start).sigmoid())
