"""T-MSDA against loops over the neighbouring frames of Eq. 2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slow_deformable import linear, noise, randomise, slow_samples, slow_value

from vislab.blocks.spatial_msda import SpatialMSDA, SpatialMSDAConfig, initial_offsets
from vislab.blocks.temporal_msda import TemporalMSDA, TemporalMSDAConfig, neighbour_table
from vislab.errors import UserError

SHAPES = [(3, 4), (1, 2)]
TOKENS = sum(height * width for height, width in SHAPES)
BATCH, QUERIES, CHANNELS, HEADS = 2, 3, 8, 2


def build(config: TemporalMSDAConfig) -> tuple[TemporalMSDA, SpatialMSDA]:
    spatial = SpatialMSDA(CHANNELS, HEADS, 2, SpatialMSDAConfig())
    return randomise(TemporalMSDA(CHANNELS, HEADS, 2, config), seed=1), randomise(spatial, seed=2)


def inputs(frames: int) -> tuple[torch.Tensor, ...]:
    """query, reference, memory, padding_mask."""
    reference = noise(BATCH, frames, QUERIES, 2, 2, seed=2).sigmoid()
    padding = torch.rand(BATCH, TOKENS, generator=torch.Generator().manual_seed(4)) < 0.3
    query, memory = noise(BATCH, frames, QUERIES, CHANNELS, seed=1), noise(BATCH, frames, TOKENS, CHANNELS, seed=3)
    return query, reference, memory, padding


def run(temporal: TemporalMSDA, spatial: SpatialMSDA, query, reference, memory, padding) -> torch.Tensor:
    value = spatial.project_value(memory, padding)
    return temporal(query, reference, memory, value, torch.tensor(SHAPES), padding, spatial)


def source_frames(frames: int, config: TemporalMSDAConfig) -> list[list[int | None]]:
    """t' of every relative offset, None where there is no such frame."""
    table: list[list[int | None]] = []
    for t in range(frames):
        row: list[int | None] = []
        for offset in [o for o in range(-config.window, config.window + 1) if o]:
            source = t + offset
            if not 0 <= source < frames and config.border == "mirror":
                source = t - offset
            if config.border == "clamp":
                source = min(max(source, 0), frames - 1)
            row.append(None if not 0 <= source < frames else t if config.neighbours == "same-frame" else source)
        table.append(row)
    return table


def loops(temporal: TemporalMSDA, spatial: SpatialMSDA, query, reference, memory, padding) -> np.ndarray:
    config = temporal.config
    value = slow_value(temporal.value_proj or spatial.value_proj, memory, padding, HEADS)
    samples = slow_samples(
        query, reference, value, SHAPES, list(config.levels or range(2)), source_frames(query.shape[1], config),
        temporal.sampling_offsets, temporal.attention_weights, config.num_points,
    )  # fmt: skip
    return linear(temporal.output_proj or spatial.output_proj, samples)


def assert_equals_loops(config: TemporalMSDAConfig, frames: int) -> None:
    blocks = build(config)
    np.testing.assert_allclose(
        run(*blocks, *inputs(frames)).detach().numpy(), loops(*blocks, *inputs(frames)), atol=1e-12
    )


@pytest.mark.parametrize("border", ["mask", "clamp", "mirror"])
@pytest.mark.parametrize("neighbours", ["adjacent", "same-frame"])
@pytest.mark.parametrize(("frames", "window"), [(4, 1), (3, 2), (2, 3), (1, 2)])
def test_equals_loops(border: str, neighbours: str, frames: int, window: int) -> None:
    config = TemporalMSDAConfig(num_points=2, window=window, border=border, neighbours=neighbours)
    assert_equals_loops(config, frames)


@pytest.mark.parametrize("projections", ["shared", "own_output", "own"])
@pytest.mark.parametrize("levels", [None, (0,), (1,)])
def test_projections_and_levels(projections: str, levels: tuple[int, ...] | None) -> None:
    assert_equals_loops(TemporalMSDAConfig(num_points=1, projections=projections, levels=levels), frames=3)


def test_neighbour_table_of_a_window_of_two() -> None:
    rows = [[-1, -1, 1, 2], [-1, 0, 2, 3], [0, 1, 3, -1], [1, 2, -1, -1]]
    assert neighbour_table(4, 2).tolist() == rows
    assert neighbour_table(4, 2, border="clamp").tolist() == [[0, 0, 1, 2], [0, 0, 2, 3], [0, 1, 3, 3], [1, 2, 3, 3]]
    assert neighbour_table(4, 2, border="mirror").tolist() == [[2, 1, 1, 2], [3, 0, 2, 3], [0, 1, 3, 0], [1, 2, 2, 1]]
    same = [[-1, -1, 0, 0], [-1, 1, 1, 1], [2, 2, 2, -1], [3, 3, -1, -1]]
    assert neighbour_table(4, 2, neighbours="same-frame").tolist() == same


@pytest.mark.parametrize("border", ["mask", "clamp", "mirror"])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_neighbour_table_equals_its_definition(border: str, frames: int) -> None:
    for window in (1, 2, 9):
        config = TemporalMSDAConfig(window=window, border=border)
        expected = [[-1 if f is None else f for f in row] for row in source_frames(frames, config)]
        assert neighbour_table(frames, window, border).tolist() == expected


@pytest.mark.parametrize("frames", [2, 5])
def test_one_softmax_over_all_neighbours(frames: int) -> None:
    """On a constant clip, sampled inside, attention returns the constant however many neighbours there are."""
    temporal, spatial = build(TemporalMSDAConfig())
    with torch.no_grad():
        temporal.sampling_offsets.weight.zero_()
        temporal.sampling_offsets.bias.zero_()
    query, reference, _, padding = inputs(frames)
    token = noise(CHANNELS, seed=9)
    memory = token.expand(BATCH, frames, TOKENS, -1)
    found = run(temporal, spatial, query, torch.full_like(reference, 0.5), memory, torch.zeros_like(padding))
    expected = spatial.output_proj(spatial.value_proj(token)).expand_as(found)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("border", ["mask", "mirror"])
def test_one_frame_has_no_neighbours(border: str) -> None:
    temporal, spatial = build(TemporalMSDAConfig(border=border))
    query, reference, memory, padding = inputs(1)
    query.requires_grad_()
    found = run(temporal, spatial, query, reference, memory, padding)
    torch.testing.assert_close(found, spatial.output_proj.bias.expand_as(found))
    (gradient,) = torch.autograd.grad(found.square().sum(), query)
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_frame_is_finite_in_every_parameter_gradient(dtype: torch.dtype) -> None:
    temporal, spatial = build(TemporalMSDAConfig())
    temporal.to(dtype), spatial.to(dtype)
    query, reference, memory, padding = inputs(1)
    run(temporal, spatial, query.to(dtype), reference.to(dtype), memory.to(dtype), padding).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in temporal.parameters())


def test_frames_outside_of_the_window_have_no_effect() -> None:
    temporal, spatial = build(TemporalMSDAConfig(window=1))
    query, reference, memory, padding = inputs(6)
    before = run(temporal, spatial, query, reference, memory, padding)
    shuffled = memory[:, [0, 1, 2, 5, 3, 4]]
    after = run(temporal, spatial, query, reference, shuffled, padding)
    torch.testing.assert_close(after[:, :2], before[:, :2], atol=0, rtol=0)
    assert not torch.isclose(after[:, 2:], before[:, 2:]).all(-1).any()


def test_the_own_frame_is_left_out() -> None:
    temporal, spatial = build(TemporalMSDAConfig(window=2))
    query, reference, memory, padding = inputs(5)
    before = run(temporal, spatial, query, reference, memory, padding)
    other = memory.clone()
    other[:, 2] = noise(BATCH, TOKENS, CHANNELS, seed=8)
    after = run(temporal, spatial, query, reference, other, padding)
    torch.testing.assert_close(after[:, 2], before[:, 2], atol=0, rtol=0)
    assert not torch.isclose(after[:, [0, 1, 3, 4]], before[:, [0, 1, 3, 4]]).all(-1).any()


def test_the_same_frame_control_sees_no_other_frame() -> None:
    temporal, spatial = build(TemporalMSDAConfig(neighbours="same-frame"))
    query, reference, memory, padding = inputs(5)
    before = run(temporal, spatial, query, reference, memory, padding)
    other = memory.clone()
    other[:, [0, 1, 3, 4]] = noise(BATCH, 4, TOKENS, CHANNELS, seed=8)
    torch.testing.assert_close(
        run(temporal, spatial, query, reference, other, padding)[:, 2], before[:, 2], atol=0, rtol=0
    )


def test_same_frame_control_has_the_parameters_of_the_real_block() -> None:
    real, control = (build(TemporalMSDAConfig(neighbours=name))[0] for name in ("adjacent", "same-frame"))
    assert {n: p.shape for n, p in real.named_parameters()} == {n: p.shape for n, p in control.named_parameters()}


def test_one_reference_for_all_frames() -> None:
    blocks = build(TemporalMSDAConfig())
    query, reference, memory, padding = inputs(3)
    torch.testing.assert_close(
        run(*blocks, query, reference[:, :1], memory, padding),
        run(*blocks, query, reference[:, :1].expand(-1, 3, -1, -1, -1), memory, padding),
    )


def test_a_new_block_samples_the_pattern_in_every_neighbour() -> None:
    block = TemporalMSDA(CHANNELS, HEADS, 2, TemporalMSDAConfig(num_points=3, projections="own"))
    assert not block.sampling_offsets.weight.any() and not block.attention_weights.bias.any()
    bias = block.sampling_offsets.bias.view(HEADS, 4 * 2, 3, 2)
    torch.testing.assert_close(bias, initial_offsets(HEADS, 3)[:, None].expand_as(bias))
    assert not block.value_proj.bias.any() and not block.output_proj.bias.any()


def test_parameters_per_point_at_paper_scale() -> None:
    """Table 7: one more K_inter adds 592,128 parameters over six encoder layers."""

    def count(num_points: int) -> int:
        with torch.device("meta"):
            block = TemporalMSDA(256, 8, 4, TemporalMSDAConfig(num_points=num_points))
        return 6 * sum(p.numel() for p in block.parameters())

    assert [count(k + 1) - count(k) for k in (1, 2, 3)] == [592_128] * 3
    assert count(1) == 592_128


@pytest.mark.parametrize(("projections", "extra"), [("shared", 0), ("own_output", 72), ("own", 144)])
def test_parameters_of_own_projections(projections: str, extra: int) -> None:
    base = 3 * HEADS * 4 * 2 * 4 * (CHANNELS + 1)
    temporal, _ = build(TemporalMSDAConfig(projections=projections))
    assert sum(p.numel() for p in temporal.parameters()) == base + extra


def test_settings_that_cannot_be() -> None:
    with pytest.raises(UserError, match="window is 0, expected at least 1"):
        build(TemporalMSDAConfig(window=0))
    with pytest.raises(UserError, match="levels is"):
        build(TemporalMSDAConfig(levels=(2,)))
