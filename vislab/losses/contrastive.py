"""Temporal contrastive loss on box queries (TAFormer section 3.5, Eq. 7-8).

Shape letters: B batch, T frames, Q queries, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vislab.shared_batch import normaliser


@dataclass(frozen=True)
class ContrastiveConfig:
    """Contrastive loss on box queries.

    auxiliary: also after every earlier decoder layer (Table 6). temperature: tau, not stated in the paper (our
    choice). reduction: "sum" over ordered frame pairs as Eq. 8 prints, or their "mean". channels: width of the two
    projection layers and of the queries. queries: "all" as printed, or only those "matched" to an instance.
    """

    weight: float = 1.0
    auxiliary: bool = True
    temperature: float = 0.1
    reduction: Literal["sum", "mean"] = "sum"
    channels: int = 256
    queries: Literal["all", "matched"] = "all"


def query_info_nce(embeddings: Tensor, temperature: float) -> Tensor:
    """InfoNCE between the queries of every ordered pair of different frames (Eq. 7), cosine similarity.

    embeddings: (B, T, Q, C). Returns (B, T, T): L_N(B_t, B_t'), zero on the diagonal.
    """
    batch, frames, queries, _ = embeddings.shape
    unit = functional.normalize(embeddings, dim=-1)
    similarity = torch.einsum("btqc,bskc->btsqk", unit, unit) / temperature
    own = torch.arange(queries, device=embeddings.device).expand(batch * frames * frames, queries)
    loss = functional.cross_entropy(similarity.flatten(0, 2).transpose(1, 2), own, reduction="none").mean(-1)
    different = ~torch.eye(frames, dtype=torch.bool, device=embeddings.device)
    return loss.view(batch, frames, frames) * different


class ContrastiveLoss(nn.Module):
    """Two linear layers and Eq. 8. It owns parameters that exist in training only."""

    def __init__(self, config: ContrastiveConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Sequential(
            nn.Linear(config.channels, config.channels), nn.ReLU(), nn.Linear(config.channels, config.channels)
        )

    def forward(self, frame_queries: Tensor, matches: list[tuple[Tensor, Tensor]]) -> Tensor:
        """frame_queries: (B, T, Q, C) box queries of one decoder layer. Returns the mean over clips, a scalar."""
        embeddings = self.head(frame_queries)
        if self.config.queries == "matched":
            clips = [clip[:, index][None] for clip, (index, _) in zip(embeddings, matches, strict=True) if len(index)]
        else:
            clips = [embeddings]
        pairs = [query_info_nce(clip, self.config.temperature) for clip in clips]
        total = torch.stack([pair.sum() for pair in pairs]).sum() if pairs else embeddings.sum() * 0.0
        frames = embeddings.shape[1]
        count = frames * (frames - 1) if self.config.reduction == "mean" else 1
        return total / (normaliser(embeddings.shape[0]) * max(count, 1))
