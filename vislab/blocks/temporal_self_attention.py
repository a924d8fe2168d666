"""TSA: temporal self-attention of box queries (TAFormer section 3.4).

Shape letters: B batch, T frames, Q queries, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vislab.blocks.multi_head_attention import MultiHeadSelfAttention
from vislab.blocks.position_encoding import temporal_sine_encoding


@dataclass(frozen=True)
class TemporalSelfAttentionConfig:
    """TSA. shared: one set of parameters for all decoder layers (fits Table 7's counts) or one each.

    position: adds the sine encoding of the frame index to queries and keys; the paper writes none.
    """

    shared: bool = True
    position: bool = False


class TemporalSelfAttention(nn.Module):
    """TSA: the box queries of one instance in all frames attend to each other, before the spatial self-attention."""

    def __init__(self, channels: int, num_heads: int, config: TemporalSelfAttentionConfig, dropout: float) -> None:
        super().__init__()
        self.position = config.position
        self.attention = MultiHeadSelfAttention(channels, num_heads, dropout)

    def forward(self, box_queries: Tensor) -> Tensor:
        """box_queries: (B, T, Q, C). Returns the same shape."""
        batch, frames, _, channels = box_queries.shape
        position = temporal_sine_encoding(frames, channels, device=box_queries.device) if self.position else None
        tracks = box_queries.transpose(1, 2).flatten(0, 1)
        return self.attention(tracks, position).unflatten(0, (batch, -1)).transpose(1, 2)
