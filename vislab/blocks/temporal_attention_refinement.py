"""TAR: temporal attention refinement of object embeddings within a tracklet (RefineVIS section 3.4, Eq. 4).

Shape letters: N tracklets, T frames of a window, M remembered frames, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from vislab.blocks.feed_forward import FeedForward
from vislab.blocks.full_attention import MultiHeadAttention
from vislab.blocks.position_encoding import sine_encoding
from vislab.config import inference_only
from vislab.errors import require


@dataclass(frozen=True)
class TARConfig:
    """TAR. The paper gives the window; heads, width of the feed-forward network and dropout are our choice.

    window: W at inference, the current frame included; 0 leaves embeddings as they are. A window of the weights'
    training is not needed: they serve any W. position: where the encoding of the frame number goes: into queries and
    keys ("attention"), so that what is carried from frame to frame stays free of it, or into the embeddings
    themselves ("embeddings"), as the paper's sentence can also be read. neighbours: "same-frame" replaces all other
    frames of the window by copies of the frame itself, which is attention to itself alone: a control that has all
    parameters and no temporal information.
    """

    window: int = field(default=10, metadata=inference_only())
    num_heads: int = 8
    feed_forward_channels: int = 1024
    dropout: float = 0.0
    position: Literal["attention", "embeddings"] = "attention"
    neighbours: Literal["window", "same-frame"] = "window"

    def __post_init__(self) -> None:
        require(self.window >= 0, "tar.window", self.window, "0 (no refinement) or more frames")
        for name in ("num_heads", "feed_forward_channels"):
            require(getattr(self, name) >= 1, f"tar.{name}", getattr(self, name), "1 or more")
        require(0 <= self.dropout < 1, "tar.dropout", self.dropout, "a probability in [0, 1)")

    def build(self, channels: int) -> TemporalAttentionRefinement:
        fits = channels % self.num_heads == 0
        require(fits, "tar.num_heads", self.num_heads, f"a divisor of hidden_dim, {channels}")
        return TemporalAttentionRefinement(channels, self)


class TemporalAttentionRefinement(nn.Module):
    """TAR layer: multi-head self-attention among the embeddings of one tracklet, then a feed-forward network.

    Residuals and norms are those of a standard post-norm layer; the paper writes none. A tracklet without a match in a
    frame has the zero embedding there. Tracklets are the batch: they never meet.
    """

    def __init__(self, channels: int, config: TARConfig) -> None:
        super().__init__()
        self.config = config
        self.attention = MultiHeadAttention(channels, config.num_heads, config.dropout)
        self.feed_forward = FeedForward(channels, config.feed_forward_channels, config.dropout)

    def forward(self, embeddings: Tensor, frames: Tensor) -> Tensor:
        """All frames of a window at once (training, offline inference).

        embeddings: (N, T, C), zero where a tracklet has no match. frames: (T,) int64, absolute numbers. Returns
        (N, T, C).
        """
        if self.config.neighbours == "same-frame":
            alone, numbers = embeddings.flatten(0, 1)[:, None], frames.repeat(len(embeddings))[:, None]
            return self._attend(alone, numbers, alone, numbers, None).view_as(embeddings)
        return self._attend(embeddings, frames, embeddings, frames, None)

    def refine_current(
        self, current: Tensor, frame: int, memory: Tensor, memory_frames: Tensor, empty: Tensor
    ) -> Tensor:
        """The current frame only (online inference): Eq. 4 with the refined past as memory.

        current: (N, C), zero where a tracklet has no match. memory: (N, M, C), refined embeddings; memory_frames:
        (N, M) int64, their absolute numbers; empty: (N, M) bool, True where a tracklet remembers less than M frames.
        Returns (N, C).
        """
        if self.config.neighbours == "same-frame":
            memory, memory_frames, empty = memory[:, :0], memory_frames[:, :0], empty[:, :0]
        now = memory_frames.new_full((len(current), 1), frame)
        tokens = torch.cat((memory, current[:, None]), dim=1)
        blocked = torch.cat((empty, empty.new_zeros(len(current), 1)), dim=1)
        frames = torch.cat((memory_frames, now), dim=1)
        return self._attend(current[:, None], now, tokens, frames, blocked)[:, 0]

    def _attend(
        self, queries: Tensor, query_frames: Tensor, tokens: Tensor, frames: Tensor, blocked: Tensor | None
    ) -> Tensor:
        """queries: (N, Q, C) of query_frames; tokens: (N, T, C) of frames; blocked: (N, T) bool or None."""
        own, all_ = (sine_encoding(part, tokens.shape[-1]).to(tokens) for part in (query_frames, frames))
        if self.config.position == "embeddings":
            queries, tokens = queries + own, tokens + all_
            keys, own = tokens, torch.zeros_like(own)
        else:
            keys = tokens + all_
        return self.feed_forward(self.attention(queries, own, keys, tokens, blocked))


def refine_windows(layer: TemporalAttentionRefinement, embeddings: Tensor, frames: Tensor, window: int) -> Tensor:
    """Offline inference (section 3.6): neighbouring windows, each on its own; the last one may be shorter.

    embeddings: (N, T, C), T any number of frames. frames: (T,) int64. window: W; 0 changes nothing. Returns (N, T, C).
    """
    if window == 0 or not embeddings.numel():
        return embeddings
    parts = zip(embeddings.split(window, dim=1), frames.split(window), strict=True)
    return torch.cat([layer(part, numbers) for part, numbers in parts], dim=1)
