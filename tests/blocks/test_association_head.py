"""The association head: a plain stack of linear layers."""

from __future__ import annotations

import pytest
import torch

from vislab.blocks.association_head import AssociationHeadConfig
from vislab.errors import UserError


def test_linear_layers_with_relu_between_them() -> None:
    torch.manual_seed(0)
    head = AssociationHeadConfig(num_layers=2, channels=5).build(4)
    x = torch.randn(3, 7, 4)
    first, last = head.mlp.layers
    torch.testing.assert_close(head(x), last(first(x).clamp(min=0)))
    assert head(x).shape == (3, 7, 5)
    assert AssociationHeadConfig().build(4)(x).shape == (3, 7, 4)


def test_counts() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in AssociationHeadConfig().build(256).parameters()) == 3 * 257 * 256


def test_user_mistakes() -> None:
    with pytest.raises(UserError, match="num_layers is 0"):
        AssociationHeadConfig(num_layers=0).build(4)
