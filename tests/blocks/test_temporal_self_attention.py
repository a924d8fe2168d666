"""TSA: attention over the frames of one query."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise

from vislab.blocks.temporal_self_attention import TemporalSelfAttention, TemporalSelfAttentionConfig


def build(position: bool = False) -> TemporalSelfAttention:
    return randomise(TemporalSelfAttention(8, 2, TemporalSelfAttentionConfig(position=position), dropout=0.0))


@pytest.mark.parametrize("position", [False, True])
def test_a_query_sees_its_own_frames_only(position: bool) -> None:
    block, x = build(position), noise(2, 4, 3, 8)
    before, other = block(x), x.clone()
    other[:, 2, 1] = noise(2, 8, seed=5)
    after = block(other)
    torch.testing.assert_close(after[:, :, [0, 2]], before[:, :, [0, 2]], atol=0, rtol=0)
    assert not torch.isclose(after[:, :, 1], before[:, :, 1]).all(-1).any(), "all frames of the track see the change"


@pytest.mark.parametrize("position", [False, True])
def test_equals_attention_of_every_track(position: bool) -> None:
    block, x = build(position), noise(2, 4, 3, 8)
    found = block(x)
    index = torch.arange(4.0)[:, None]
    sine = torch.stack([(index / 10000 ** (2 * k / 8)) for k in range(4)], -1).flatten(1).double()
    encoding = torch.stack((sine.sin(), sine.cos()), -1).flatten(1) if position else None
    for b in range(2):
        for q in range(3):
            track = block.attention(x[b, :, q][None], encoding)[0]
            torch.testing.assert_close(found[b, :, q], track, atol=1e-6, rtol=0)


def test_frames_are_a_set_unless_their_position_is_added() -> None:
    x, order = noise(2, 4, 3, 8), torch.tensor([3, 1, 0, 2])
    torch.testing.assert_close(build()(x[:, order]), build()(x)[:, order])
    assert not torch.allclose(build(position=True)(x[:, order]), build(position=True)(x)[:, order])


def test_one_frame_attends_to_itself() -> None:
    block, x = build(), noise(2, 1, 3, 8)
    attention = block.attention
    value = x @ attention.in_proj_weight[16:].T + attention.in_proj_bias[16:]
    torch.testing.assert_close(block(x), attention.norm(x + attention.out_proj(value)))
