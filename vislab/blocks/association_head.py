"""Contrastive association head: object embeddings to embeddings that are compared between frames (RefineVIS 3.3).

Shape letters: C channels, E channels of the association embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vislab.blocks.feed_forward import MLP
from vislab.errors import UserError


@dataclass(frozen=True)
class AssociationHeadConfig:
    """num_layers: 3 linear layers in IDOL (wjf5203/VNext projects/IDOL/idol/models/segmentation_condInst.py); RefineVIS
    gives no number. channels: E; None is the width of the model, as there."""

    num_layers: int = 3
    channels: int | None = None

    def build(self, channels: int) -> AssociationHead:
        if self.num_layers < 1:
            raise UserError(f"association.head.num_layers is {self.num_layers}, expected at least 1")
        return AssociationHead(channels, self)


class AssociationHead(nn.Module):
    """Linear layers with ReLU between them. Their outputs are compared by plain dot products, without temperature."""

    def __init__(self, channels: int, config: AssociationHeadConfig) -> None:
        super().__init__()
        self.mlp = MLP(channels, channels, config.channels or channels, config.num_layers)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(..., C) to (..., E)."""
        return self.mlp(embeddings)
