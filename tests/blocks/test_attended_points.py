"""Attended points: locations and weights that give the attention's own result when sampled."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise

from vislab import ops
from vislab.blocks.attended_points import attended_points
from vislab.blocks.clip_msda import ClipMSDAConfig
from vislab.blocks.fusion import AdditionConfig
from vislab.blocks.spatial_msda import SpatialMSDAConfig
from vislab.blocks.spatio_temporal_msda import SpatioTemporalMSDA, TemporalConfig
from vislab.blocks.temporal_msda import TemporalMSDAConfig
from vislab.errors import UserError

SHAPES = torch.tensor([[3, 4], [2, 2]])
FRAMES, QUERIES, CHANNELS, HEADS = 3, 4, 8, 2


def build(temporal: TemporalConfig | None, levels: tuple[int, ...] | None = None) -> SpatioTemporalMSDA:
    spatial = SpatialMSDAConfig(2, levels)
    return randomise(SpatioTemporalMSDA(CHANNELS, HEADS, 2, spatial, temporal, AdditionConfig(), FRAMES))


@pytest.mark.parametrize("temporal", [None, *(ClipMSDAConfig(k) for k in (1, 2, 3)), ClipMSDAConfig(1, window=2)])
@pytest.mark.parametrize("size", [2, 4])
def test_sampling_them_is_the_attention(temporal: ClipMSDAConfig | None, size: int) -> None:
    block = build(temporal)
    query, memory = noise(2, FRAMES, QUERIES, CHANNELS, seed=1), noise(2, FRAMES, 16, CHANNELS, seed=2)
    reference = noise(2, FRAMES, QUERIES, 2, size, seed=3).sigmoid()
    points = attended_points(block, query, reference, SHAPES)
    value = block.spatial.project_value(memory, None)
    samples = ops.deform_attn(value, SHAPES, points.frames, points.locations, points.weights)
    torch.testing.assert_close(block.spatial.output_proj(samples), block(query, reference, memory, SHAPES, None))
    assert torch.equal(points.reference[:, :, :, 0], reference[..., 0, :])
    assert points.frames[:, 0].tolist() == [0, 1, 2]


def test_chosen_levels_only() -> None:
    block = build(ClipMSDAConfig(2, "per_level"), levels=(1,))
    reference = noise(2, 1, QUERIES, 2, 2, seed=3).sigmoid()
    points = attended_points(block, noise(2, FRAMES, QUERIES, CHANNELS, seed=1), reference, SHAPES)
    assert points.locations.shape == (2, FRAMES, QUERIES, HEADS, 3, 1, 2, 2)
    assert torch.equal(points.reference[:, 1, :, 2], reference[:, 0, :, 1])


def test_two_softmaxes_have_no_joint_weights() -> None:
    with pytest.raises(UserError, match="temporal is TemporalMSDA, expected ClipMSDA or None"):
        attended_points(
            build(TemporalMSDAConfig()), noise(2, FRAMES, QUERIES, CHANNELS), noise(2, 1, QUERIES, 2, 2), SHAPES
        )
