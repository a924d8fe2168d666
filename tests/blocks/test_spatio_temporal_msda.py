"""STJ-MSDA is S-MSDA and T-MSDA, fused."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise

from vislab.blocks.clip_msda import ClipMSDA, ClipMSDAConfig
from vislab.blocks.fusion import AdditionConfig, ConcatenationConfig, DynamicAttentionFusionConfig, FusionConfig
from vislab.blocks.spatial_msda import SpatialMSDA, SpatialMSDAConfig
from vislab.blocks.spatio_temporal_msda import SpatioTemporalMSDA
from vislab.blocks.temporal_msda import TemporalMSDAConfig

SHAPES = torch.tensor([[3, 4], [2, 2]])
TOKENS, CHANNELS = 16, 8


def build(temporal: TemporalMSDAConfig | None, fusion: FusionConfig) -> SpatioTemporalMSDA:
    return randomise(SpatioTemporalMSDA(CHANNELS, 2, 2, SpatialMSDAConfig(), temporal, fusion))


def inputs(frames: int = 3) -> tuple[torch.Tensor, ...]:
    query, memory = noise(2, frames, TOKENS, CHANNELS, seed=1), noise(2, frames, TOKENS, CHANNELS, seed=3)
    padding = torch.zeros(2, TOKENS, dtype=torch.bool)
    padding[1, 9:12] = True
    return query, noise(2, 1, TOKENS, 2, 2, seed=2).sigmoid(), memory, SHAPES, padding


def test_without_temporal_it_is_exactly_the_spatial_block() -> None:
    ablated = build(None, DynamicAttentionFusionConfig())
    plain = SpatialMSDA(CHANNELS, 2, 2, SpatialMSDAConfig()).double()
    plain.load_state_dict({name.removeprefix("spatial."): p for name, p in ablated.state_dict().items()})
    assert torch.equal(ablated(*inputs()), plain(*inputs()))


@pytest.mark.parametrize("fusion", [AdditionConfig(), ConcatenationConfig(), DynamicAttentionFusionConfig(5)])
def test_fuses_both_attention_maps(fusion: FusionConfig) -> None:
    block = build(TemporalMSDAConfig(), fusion)
    query, reference, memory, shapes, padding = inputs()
    intra = block.spatial(query, reference, memory, shapes, padding)
    value = block.spatial.project_value(memory, padding)
    inter = block.temporal(query, reference, memory, value, shapes, padding, block.spatial)
    torch.testing.assert_close(block(*inputs()), block.fusion(intra, inter))
    if isinstance(fusion, AdditionConfig):
        torch.testing.assert_close(block(*inputs()), intra + inter)


@pytest.mark.parametrize("projections", ["shared", "own_output", "own"])
def test_gradients_reach_every_parameter(projections: str) -> None:
    block = build(TemporalMSDAConfig(projections=projections), DynamicAttentionFusionConfig(16))
    block(*inputs()).square().sum().backward()
    assert [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_one_frame_is_finite() -> None:
    assert build(TemporalMSDAConfig(), DynamicAttentionFusionConfig())(*inputs(frames=1)).isfinite().all()


@pytest.mark.parametrize("projections", ["shared", "own"])
def test_padded_values_are_kept_without_a_mask(projections: str) -> None:
    block = build(TemporalMSDAConfig(projections=projections), AdditionConfig())
    *arguments, padding = inputs()
    assert torch.equal(block(*arguments, None), block(*arguments, torch.zeros_like(padding)))
    assert not torch.equal(block(*arguments, None), block(*arguments, padding))


def test_neighbours_have_references_of_their_own() -> None:
    """T-MSDA with another reference on the other frames: only its part of the sum changes."""
    block, arguments = build(TemporalMSDAConfig(window=1), AdditionConfig()), inputs()
    query, reference, memory, shapes, padding = arguments
    other = noise(2, 3, TOKENS, 2, 2, 2, seed=8).sigmoid()
    same = reference.unsqueeze(3).expand_as(other)
    torch.testing.assert_close(block(*arguments, same), block(*arguments))
    intra = block.spatial(query, reference, memory, shapes, padding)
    value = block.spatial.project_value(memory, padding)
    inter = block.temporal(query, reference, memory, value, shapes, padding, block.spatial, other)
    torch.testing.assert_close(block(*arguments, other), intra + inter)
    assert not torch.allclose(block(*arguments, other), block(*arguments))


def test_devis_attention_needs_no_fusion() -> None:
    block = SpatioTemporalMSDA(CHANNELS, 2, 2, SpatialMSDAConfig(), ClipMSDAConfig(3), AdditionConfig(), clip_length=3)
    block, (query, reference, memory, shapes, padding) = randomise(block), inputs()
    assert block.fusion is None and isinstance(block.temporal, ClipMSDA)
    value = block.spatial.project_value(memory, padding)
    expected = block.spatial.output_proj(block.temporal(query, reference, value, shapes, block.spatial))
    torch.testing.assert_close(block(query, reference, memory, shapes, padding), expected)
    block(*inputs()).square().sum().backward()
    assert [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()] == []
