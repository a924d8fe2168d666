"""Spatiotemporal query interaction (STQI, TeViT Eq. 3-4) and its rivals of Table 5.

Shape letters: B batch, T frames, Q queries, C channels.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from vislab.blocks.multi_head_attention import MultiHeadSelfAttention
from vislab.errors import UserError

InteractionMode = Literal["spatiotemporal", "spatial", "fused"]


class QueryInteraction(nn.Module):
    """STQI: MHSA among the queries of a frame (Eq. 3), then among the frames of a query (Eq. 4), by one set of weights.

    The attention and its layer norm are the same module in both passes (TeViT mmdet/models/roi_heads/bbox_heads/
    stqi_head.py), so all modes have the same parameters. The temporal pass is made for a clip of one frame as well,
    where a query attends to itself only.
    mode: "spatiotemporal" is Eq. 3 then Eq. 4; "spatial" is Eq. 3 alone, an image-level model; "fused" is one pass over
    the queries of all frames together.
    """

    def __init__(
        self, channels: int, num_heads: int, mode: InteractionMode = "spatiotemporal", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if mode not in get_args(InteractionMode):
            raise UserError(f"query_interaction is {mode!r}, expected one of {', '.join(get_args(InteractionMode))}")
        self.mode = mode
        self.attention = MultiHeadSelfAttention(channels, num_heads, dropout)

    def forward(self, queries: Tensor) -> Tensor:
        """queries: (B, T, Q, C). Returns the same shape."""
        if self.mode == "fused":
            return self.attention(queries.flatten(1, 2)).view_as(queries)
        queries = self.attention(queries.flatten(0, 1)).view_as(queries)
        if self.mode == "spatial":
            return queries
        by_query = queries.transpose(1, 2)
        return self.attention(by_query.flatten(0, 1)).view_as(by_query).transpose(1, 2)
