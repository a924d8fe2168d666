"""STQI against torch.nn.MultiheadAttention applied by hand."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise
from torch import Tensor, nn

from vislab.blocks.query_interaction import QueryInteraction
from vislab.errors import UserError


def attend(block: QueryInteraction, x: Tensor) -> Tensor:
    """x: (X, C), one set of queries that see each other."""
    library = nn.MultiheadAttention(x.shape[-1], block.attention.num_heads).double()
    library.load_state_dict({n: p for n, p in block.attention.state_dict().items() if not n.startswith("norm.")})
    return nn.functional.layer_norm(
        x + library(x, x, x)[0], x.shape[-1:], block.attention.norm.weight, block.attention.norm.bias
    )


def spatial(block: QueryInteraction, queries: Tensor) -> Tensor:
    return torch.stack([torch.stack([attend(block, frame) for frame in clip]) for clip in queries])


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("num_queries", [1, 5])
def test_modes(frames: int, num_queries: int) -> None:
    queries = noise(2, frames, num_queries, 8)
    blocks = {m: randomise(QueryInteraction(8, 2, m)) for m in ("spatial", "fused", "spatiotemporal")}
    expected = {"spatial": spatial(blocks["spatial"], queries)}
    expected["fused"] = torch.stack([attend(blocks["fused"], c.flatten(0, 1)).view_as(c) for c in queries])
    temporal = spatial(blocks["spatial"], expected["spatial"].transpose(1, 2)).transpose(1, 2)
    expected["spatiotemporal"] = temporal
    for mode, block in blocks.items():
        torch.testing.assert_close(block(queries), expected[mode], atol=1e-12, rtol=0)


def test_modes_share_their_parameters() -> None:
    """STQI adds nothing to its spatial part (TeViT section 3.3), and weights pass between all modes."""
    blocks = [QueryInteraction(8, 2, mode) for mode in ("spatial", "fused", "spatiotemporal")]
    shapes = [{name: p.shape for name, p in block.state_dict().items()} for block in blocks]
    assert shapes[0] == shapes[1] == shapes[2]
    assert sum(p.numel() for p in blocks[2].parameters()) == 4 * (8 * 8 + 8) + 2 * 8


def test_who_meets_whom() -> None:
    queries = noise(2, 3, 4, 8)
    changed = queries.clone()
    changed[0, 1, 2] += 1
    same_frame = torch.zeros(2, 3, 4, dtype=torch.bool)
    same_frame[0, 1] = True
    whole_clip = torch.zeros_like(same_frame)
    whole_clip[0] = True
    for mode, reached in (("spatial", same_frame), ("fused", whole_clip), ("spatiotemporal", whole_clip)):
        block = randomise(QueryInteraction(8, 2, mode))
        assert torch.equal((block(changed) - block(queries)).abs().amax(-1) > 1e-9, reached), mode


def test_the_temporal_pass_is_made_for_one_frame_too() -> None:
    queries = noise(2, 1, 4, 8)
    once, twice = (randomise(QueryInteraction(8, 2, mode)) for mode in ("spatial", "spatiotemporal"))
    assert not torch.allclose(once(queries), twice(queries))


def test_unknown_mode() -> None:
    with pytest.raises(UserError, match="'temporal', expected one of spatiotemporal, spatial, fused"):
        QueryInteraction(8, 2, "temporal")
