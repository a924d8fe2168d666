"""S-MSDA against loops over queries, heads, levels and points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slow_deformable import linear, noise, randomise, slow_samples, slow_value

from vislab.blocks.spatial_msda import SpatialMSDA, SpatialMSDAConfig, initial_offsets
from vislab.errors import UserError

SHAPES = [(3, 5), (2, 2), (1, 2)]
TOKENS = sum(height * width for height, width in SHAPES)
BATCH, FRAMES, QUERIES, CHANNELS, HEADS = 2, 3, 4, 8, 2


def build(num_points: int = 3, levels: tuple[int, ...] | None = None, num_levels: int = 3) -> SpatialMSDA:
    block = SpatialMSDA(CHANNELS, HEADS, num_levels, SpatialMSDAConfig(num_points, levels))
    return randomise(block)


def inputs(dimensions: int = 2) -> tuple[torch.Tensor, ...]:
    """query, reference, memory, spatial_shapes, padding_mask."""
    reference = noise(BATCH, FRAMES, QUERIES, 3, dimensions, seed=2).sigmoid()
    padding = torch.rand(BATCH, TOKENS, generator=torch.Generator().manual_seed(4)) < 0.3
    query, memory = noise(BATCH, FRAMES, QUERIES, CHANNELS, seed=1), noise(BATCH, FRAMES, TOKENS, CHANNELS, seed=3)
    return query, reference, memory, torch.tensor(SHAPES), padding


@pytest.mark.parametrize("dimensions", [2, 4])
@pytest.mark.parametrize("levels", [None, (1,), (0, 2)])
@pytest.mark.parametrize("num_points", [1, 3])
def test_equals_loops(dimensions: int, levels: tuple[int, ...] | None, num_points: int) -> None:
    block = build(num_points, levels)
    query, reference, memory, shapes, padding = inputs(dimensions)
    value = slow_value(block.value_proj, memory, padding, HEADS)
    samples = slow_samples(
        query, reference, value, SHAPES, list(levels or range(3)), [[t] for t in range(FRAMES)],
        block.sampling_offsets, block.attention_weights, num_points,
    )  # fmt: skip
    found = block(query, reference, memory, shapes, padding).detach().numpy()
    np.testing.assert_allclose(found, linear(block.output_proj, samples), atol=1e-12)


def test_a_subset_of_levels_is_all_levels_with_the_others_weighted_zero() -> None:
    full, part = build(), build(levels=(0, 2))
    part.load_state_dict(full.state_dict() | {
        f"{name}.{kind}": getattr(getattr(full, name), kind).unflatten(0, (HEADS, 3, -1))[:, [0, 2]].flatten(0, 2)
        for name in ("sampling_offsets", "attention_weights")
        for kind in ("weight", "bias")
    })  # fmt: skip
    with torch.no_grad():
        full.attention_weights.bias.view(HEADS, 3, -1)[:, 1] = -1e4
    torch.testing.assert_close(part(*inputs()), full(*inputs()), atol=1e-12, rtol=0)


def test_initial_offsets_of_four_heads() -> None:
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    torch.testing.assert_close(initial_offsets(4, 2)[:, 0], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(initial_offsets(4, 2)[:, 1], 2 * expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("num_heads", [1, 3, 8])
def test_initial_offsets_of_point_k_lie_on_the_square_of_radius_k(num_heads: int) -> None:
    offsets = initial_offsets(num_heads, 4)
    radius = torch.arange(1.0, 5.0).expand(num_heads, 4)
    torch.testing.assert_close(offsets.abs().amax(-1), radius)
    angle = torch.atan2(offsets[:, 0, 1], offsets[:, 0, 0]) % (2 * torch.pi)
    torch.testing.assert_close(angle, torch.arange(num_heads) * (2 * torch.pi / num_heads), atol=1e-5, rtol=0)


def test_a_new_block_samples_the_pattern_on_every_level_with_equal_weights() -> None:
    block = SpatialMSDA(CHANNELS, HEADS, 3, SpatialMSDAConfig(2))
    assert not block.sampling_offsets.weight.any() and not block.attention_weights.weight.any()
    assert not block.attention_weights.bias.any() and not block.value_proj.bias.any()
    bias = block.sampling_offsets.bias.view(HEADS, 3, 2, 2)
    for level in range(3):
        torch.testing.assert_close(bias[:, level], initial_offsets(HEADS, 2))


def test_weights_sum_to_one() -> None:
    """On a constant map, sampled inside, attention returns the constant."""
    block = build()
    with torch.no_grad():
        block.sampling_offsets.weight.zero_()
        block.sampling_offsets.bias.zero_()
    query, _, _, shapes, padding = inputs()
    token = noise(CHANNELS, seed=9)
    memory, centre = token.expand(BATCH, FRAMES, TOKENS, -1), torch.full((BATCH, 1, QUERIES, 3, 2), 0.5).double()
    found = block(query, centre, memory, shapes, torch.zeros_like(padding))
    expected = block.output_proj(block.value_proj(token)).expand_as(found)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_padded_tokens_count_as_zero_value() -> None:
    block = build()
    query, reference, memory, shapes, padding = inputs()
    other = torch.where(padding[:, None, :, None], 100.0, memory)
    torch.testing.assert_close(
        block(query, reference, memory, shapes, padding), block(query, reference, other, shapes, padding)
    )


def test_padded_tokens_are_sampled_as_they_are_without_a_mask() -> None:
    block, (query, reference, memory, shapes, padding) = build(), inputs()
    assert torch.equal(
        block(query, reference, memory, shapes, None),
        block(query, reference, memory, shapes, torch.zeros_like(padding)),
    )


def test_everything_padded_leaves_the_output_bias() -> None:
    block = build()
    query, reference, memory, shapes, padding = inputs()
    found = block(query, reference, memory, shapes, torch.ones_like(padding))
    torch.testing.assert_close(found, block.output_proj.bias.expand_as(found))


@pytest.mark.parametrize("dimensions", [2, 4])
def test_one_reference_for_all_frames(dimensions: int) -> None:
    block = build()
    query, reference, memory, shapes, padding = inputs(dimensions)
    shared = reference[:, :1]
    torch.testing.assert_close(
        block(query, shared, memory, shapes, padding),
        block(query, shared.expand(-1, FRAMES, -1, -1, -1), memory, shapes, padding),
    )


def test_frames_do_not_meet() -> None:
    block = build()
    query, reference, memory, shapes, padding = inputs()
    order = torch.tensor([2, 0, 1])
    permuted = block(query[:, order], reference[:, order], memory[:, order], shapes, padding)
    torch.testing.assert_close(permuted, block(query, reference, memory, shapes, padding)[:, order])


def test_gradients() -> None:
    block = SpatialMSDA(4, 2, 1, SpatialMSDAConfig(1))
    randomise(block)
    shapes, padding = torch.tensor([[3, 3]]), torch.zeros(1, 9, dtype=torch.bool)
    arguments = [noise(1, 1, 2, 4, seed=1), noise(1, 1, 2, 1, 4, seed=2).sigmoid(), noise(1, 1, 9, 4, seed=3)]
    for argument in arguments:
        argument.requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: block(*x, shapes, padding), arguments)


@pytest.mark.parametrize("levels", [(), (3,), (-1,), (0, 5)])
def test_levels_that_do_not_exist(levels: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="levels is .* expected None or some of 0, 1, 2"):
        SpatialMSDA(CHANNELS, HEADS, 3, SpatialMSDAConfig(levels=levels))
