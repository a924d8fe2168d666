"""TMSDA against loops over frames, levels and points written from DeVIS Eq. 2-4, and appendix A's tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from slow_deformable import bilinear, linear, noise, randomise, sampling_point
from torch import Tensor

from vislab.blocks.clip_msda import ClipMSDA, ClipMSDAConfig, other_frames, reference_on_frames
from vislab.blocks.fusion import AdditionConfig
from vislab.blocks.spatial_msda import SpatialMSDA, SpatialMSDAConfig, initial_offsets
from vislab.blocks.spatio_temporal_msda import SpatioTemporalMSDA
from vislab.errors import UserError

SHAPES = [(3, 4), (1, 2)]
TOKENS = sum(height * width for height, width in SHAPES)
BATCH, QUERIES, CHANNELS, HEADS = 2, 3, 8, 2


def build(frames: int, k_curr: int, config: ClipMSDAConfig, levels: tuple[int, ...] | None = None) -> tuple:
    """ClipMSDA and the S-MSDA beside it."""
    spatial = SpatialMSDA(CHANNELS, HEADS, len(SHAPES), SpatialMSDAConfig(k_curr, levels))
    clip = ClipMSDA(CHANNELS, config.slots(frames), spatial, config)
    return randomise(clip, seed=1), randomise(spatial, seed=2)


def inputs(frames: int, size: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """query, reference (points or boxes) of every level, value."""
    reference = noise(BATCH, frames, QUERIES, len(SHAPES), size, seed=2).sigmoid()
    query, value = noise(BATCH, frames, QUERIES, CHANNELS, seed=1), noise(BATCH, frames, TOKENS, HEADS, 4, seed=3)
    return query, reference, value


def run(blocks: tuple, query: Tensor, reference: Tensor, value: Tensor, other: Tensor | None = None) -> Tensor:
    clip, spatial = blocks
    return clip(query, reference, value, torch.tensor(SHAPES), spatial, other)


def ascending(frames: int) -> list[list[int | None]]:
    return [[source for source in range(frames) if source != t] for t in range(frames)]


def loops(
    blocks: tuple, query: Tensor, reference: Tensor, value: Tensor, sources: list[list[int | None]],
    look: Callable[[int, int, int, int, int], np.ndarray],
) -> np.ndarray:  # fmt: skip
    """Eq. 3 for every head. sources: other frames per frame, None where absent. look(b, t, q, source, level): the
    reference on another frame."""
    clip, spatial = blocks
    levels = list(spatial.levels or range(len(SHAPES)))
    query, value = query.numpy(), value.numpy()
    batch, frames, queries, _ = query.shape
    slots, k_curr, k_temp = len(sources[0]), spatial.num_points, clip.config.num_points
    own = (batch, frames, queries, HEADS, len(levels), k_curr)
    others = (batch, frames, queries, HEADS, slots, len(levels), k_temp)
    starts = np.cumsum([0] + [height * width for height, width in SHAPES])
    offsets = linear(spatial.sampling_offsets, query).reshape(*own, 2)
    logits = linear(spatial.attention_weights, query).reshape(own)
    other_offsets = linear(clip.sampling_offsets, query).reshape(*others, 2)
    other_logits = linear(clip.attention_weights, query).reshape(others)
    result = np.zeros((batch, frames, queries, HEADS, value.shape[-1]))
    for b, t, q, m in np.ndindex(batch, frames, queries, HEADS):
        total = 0.0
        for slot, source in [(None, t), *enumerate(sources[t])]:
            for index, level in enumerate(levels):
                for k in range(k_curr if slot is None else k_temp):
                    if source is None:
                        continue
                    here = (b, t, q, m, index, k) if slot is None else (b, t, q, m, slot, index, k)
                    start = reference[b, t % reference.shape[1], q, level].numpy()
                    start = start if slot is None else look(b, t, q, source, level)
                    offset = (offsets if slot is None else other_offsets)[here]
                    weight = np.exp((logits if slot is None else other_logits)[here])
                    height, width = SHAPES[level]
                    grid = value[b, source, starts[level] : starts[level + 1], m].reshape(height, width, -1)
                    count = k_curr if slot is None else k_temp
                    x, y = sampling_point(start, offset, width, height, count)
                    result[b, t, q, m] += weight * bilinear(grid, x, y)
                    total += weight
        result[b, t, q, m] /= total
    return result.reshape(batch, frames, queries, -1)


@pytest.mark.parametrize(("k_curr", "k_temp"), [(2, 2), (3, 1), (1, 2)])
@pytest.mark.parametrize("frames", [2, 4])
@pytest.mark.parametrize("kind", ["level0", "per_level"])
def test_equals_loops(k_curr: int, k_temp: int, frames: int, kind: str) -> None:
    blocks = build(frames, k_curr, ClipMSDAConfig(k_temp, kind))
    query, reference, value = inputs(frames)

    def look(b: int, t: int, q: int, source: int, level: int) -> np.ndarray:
        return reference[b, t, q, 0 if kind == "level0" else level].numpy()

    found = run(blocks, query, reference, value).detach().numpy()
    np.testing.assert_allclose(found, loops(blocks, query, reference, value, ascending(frames), look), atol=1e-12)


@pytest.mark.parametrize(("k_curr", "k_temp"), [(2, 2), (2, 1)])
@pytest.mark.parametrize("size", [2, 4])
def test_instance_aware_references_are_those_of_the_trajectory_on_the_other_frames(
    k_curr: int, k_temp: int, size: int
) -> None:
    blocks = build(3, k_curr, ClipMSDAConfig(k_temp))
    query, reference, value = inputs(3, size)
    other = reference_on_frames(reference, blocks[0].source_frames(3))
    found = run(blocks, query, reference, value, other).detach().numpy()

    def look(b: int, t: int, q: int, source: int, level: int) -> np.ndarray:
        return reference[b, source, q, level].numpy()

    np.testing.assert_allclose(found, loops(blocks, query, reference, value, ascending(3), look), atol=1e-12)


@pytest.mark.parametrize(("k_curr", "k_temp"), [(1, 1), (2, 1)])
@pytest.mark.parametrize("levels", [(0,), (1,)])
def test_levels_of_the_spatial_block_hold_for_all_frames(k_curr: int, k_temp: int, levels: tuple[int, ...]) -> None:
    blocks = build(2, k_curr, ClipMSDAConfig(k_temp, "per_level"), levels)
    query, reference, value = inputs(2)
    expected = loops(
        blocks, query, reference, value, ascending(2), lambda b, t, q, _, level: reference[b, t, q, level].numpy()
    )
    np.testing.assert_allclose(run(blocks, query, reference, value).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("k_curr", "k_temp"), [(2, 2), (2, 1)])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_window_mirrors_neighbours_outside_of_the_clip(k_curr: int, k_temp: int, frames: int) -> None:
    """A neighbour outside is taken from the other side; where that is outside as well, its points take no part."""
    blocks = build(frames, k_curr, ClipMSDAConfig(k_temp, "per_level", window=1))
    query, reference, value = inputs(frames)

    def source(t: int, offset: int) -> int | None:
        options = [s for s in (t + offset, t - offset) if 0 <= s < frames]
        return options[0] if options else None

    sources = [[source(t, offset) for offset in (-1, 1)] for t in range(frames)]
    expected = loops(
        blocks, query, reference, value, sources, lambda b, t, q, _, level: reference[b, t, q, level].numpy()
    )
    np.testing.assert_allclose(run(blocks, query, reference, value).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("k_curr", "k_temp"), [(1, 1), (2, 1)])
@pytest.mark.parametrize("size", [2, 4])
def test_gradients_equal_finite_differences(k_curr: int, k_temp: int, size: int) -> None:
    """Of queries, values, every parameter, and of references, which pass gradients on when they are not detached."""
    clip, spatial = build(2, k_curr, ClipMSDAConfig(k_temp))
    query, reference, value = (part[:1] for part in inputs(2, size))
    names = ["sampling_offsets", "attention_weights"]
    parameters = [getattr(block, name).bias for block in (clip, spatial) for name in names]

    def forward(query: Tensor, reference: Tensor, value: Tensor, *_: Tensor) -> Tensor:
        other = reference_on_frames(reference, clip.source_frames(2))
        return clip(query[:, :, :1], reference[:, :, :1], value, torch.tensor(SHAPES), spatial, other[:, :, :1])

    tensors = [part.clone().requires_grad_() for part in (query, reference, value)]
    assert torch.autograd.gradcheck(forward, (*tensors, *parameters), eps=1e-6, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize(("k_curr", "k_temp"), [(2, 2), (3, 2)])
def test_absent_neighbours_have_finite_zero_gradients(k_curr: int, k_temp: int) -> None:
    clip, spatial = build(1, k_curr, ClipMSDAConfig(k_temp, window=2))
    run((clip, spatial), *inputs(1)).square().sum().backward()
    assert all(not parameter.grad.any() for parameter in clip.parameters())
    assert spatial.attention_weights.weight.grad.isfinite().all()


def test_frames_are_taken_in_ascending_order_without_the_own() -> None:
    """Table TA.0."""
    assert other_frames(6).tolist() == [
        [1, 2, 3, 4, 5], [0, 2, 3, 4, 5], [0, 1, 3, 4, 5], [0, 1, 2, 4, 5], [0, 1, 2, 3, 5], [0, 1, 2, 3, 4]
    ]  # fmt: skip
    assert other_frames(1).shape == (1, 0)
    for frames in range(1, 13):
        assert other_frames(frames).tolist() == ascending(frames)


def test_windows_of_the_release() -> None:
    """DeVIS src/models/devis_transformer.py:96-112 with ENC_TEMPORAL_WINDOW 4, i.e. two frames on each side."""
    assert other_frames(5, window=2).tolist() == [[2, 1, 1, 2], [3, 0, 2, 3], [0, 1, 3, 4], [1, 2, 4, 1], [2, 3, 3, 2]]


@pytest.mark.parametrize("frames", [3, 6, 9, 12])
def test_dimensions_of_the_projections(frames: int) -> None:
    """Table TA.1: M L K_curr (x 2) for the current frame, M L K_temp (T - 1) (x 2) for the others, for any image."""
    heads, levels, k_curr, k_temp = 8, 4, 4, 3
    with torch.device("meta"):
        spatial = SpatialMSDA(256, heads, levels, SpatialMSDAConfig(k_curr))
        config = ClipMSDAConfig(k_temp)
        clip = ClipMSDA(256, config.slots(frames), spatial, config)
        query = torch.zeros(1, frames, 5, 256)
        (own_offsets, own_logits), (offsets, logits) = spatial.project(query), clip.project(query)
    assert spatial.attention_weights.out_features == heads * levels * k_curr
    assert spatial.sampling_offsets.out_features == heads * levels * k_curr * 2
    assert clip.attention_weights.out_features == heads * levels * k_temp * (frames - 1)
    assert clip.sampling_offsets.out_features == heads * levels * k_temp * (frames - 1) * 2
    assert own_logits.shape == (1, frames, 5, heads, 1, levels, k_curr) and own_offsets.shape == (*own_logits.shape, 2)
    assert logits.shape == (1, frames, 5, heads, frames - 1, levels, k_temp) and offsets.shape == (*logits.shape, 2)


def test_one_temporal_frame_more_costs_as_much_as_the_release() -> None:
    """296,064 parameters for 12 layers of one level and K_temp 4, 1,184,256 for four levels."""

    def count(frames: int, levels: int) -> int:
        with torch.device("meta"):
            spatial = SpatialMSDA(256, 8, levels, SpatialMSDAConfig())
            clip = ClipMSDA(256, frames - 1, spatial, ClipMSDAConfig())
        return 12 * sum(parameter.numel() for parameter in clip.parameters())

    assert count(7, 1) - count(6, 1) == 296_064
    assert count(7, 4) - count(6, 4) == 1_184_256


def test_a_new_block_looks_along_the_pattern_on_every_frame_and_weighs_all_points_alike() -> None:
    spatial = SpatialMSDA(CHANNELS, HEADS, 2, SpatialMSDAConfig())
    clip = ClipMSDA(CHANNELS, 3, spatial, ClipMSDAConfig(num_points=3))
    assert not clip.sampling_offsets.weight.any() and not clip.attention_weights.weight.any()
    assert not clip.attention_weights.bias.any()
    bias = clip.sampling_offsets.bias.view(HEADS, 3 * 2, 3, 2)
    torch.testing.assert_close(bias, initial_offsets(HEADS, 3)[:, None].expand_as(bias))


@pytest.mark.parametrize("k_temp", [2, 4])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_initial_share_is_the_weight_of_the_other_frames(share: float, k_temp: int) -> None:
    """Only the first frame is not empty: what comes out is the share of the queries that look at it."""
    config = ClipMSDAConfig(k_temp, initial_share=share)
    block = SpatioTemporalMSDA(CHANNELS, HEADS, 2, SpatialMSDAConfig(), config, AdditionConfig(), 4).double()
    with torch.no_grad():
        for projection in (block.spatial.sampling_offsets, block.temporal.sampling_offsets):
            projection.bias.zero_()
    query, reference, value = inputs(4)
    first = torch.zeros_like(value)
    first[:, 0] = 1.0
    middle = torch.full_like(reference, 0.5)  # all points inside
    found = block.temporal(query, middle, first, torch.tensor(SHAPES), block.spatial)
    torch.testing.assert_close(found[:, 0], torch.full_like(found[:, 0], 1 - share), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[:, 1:], torch.full_like(found[:, 1:], share / 3), atol=1e-6, rtol=0)


def clip_block(k_temp: int, frames: int | None) -> SpatioTemporalMSDA:
    config = ClipMSDAConfig(k_temp)
    return SpatioTemporalMSDA(CHANNELS, HEADS, 2, SpatialMSDAConfig(), config, AdditionConfig(), frames)


@pytest.mark.parametrize(("k_temp", "frames"), [(0, 4), (4, 1), (0, None)])
def test_without_temporal_points_or_frames_it_is_spatial_attention(k_temp: int, frames: int | None) -> None:
    block = clip_block(k_temp, frames)
    plain = SpatioTemporalMSDA(CHANNELS, HEADS, 2, SpatialMSDAConfig(), None, AdditionConfig())
    assert block.temporal is None
    assert {n: p.shape for n, p in block.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}
    randomise(block), plain.double().load_state_dict(block.state_dict())
    frames = frames or 2
    query, reference, _ = inputs(frames)
    memory, padding = noise(BATCH, frames, TOKENS, CHANNELS, seed=4), torch.rand(BATCH, TOKENS) < 0.3
    arguments = (query, reference, memory, torch.tensor(SHAPES), padding)
    torch.testing.assert_close(block(*arguments), plain(*arguments), atol=0, rtol=0)


def test_temporal_points_of_no_weight_leave_spatial_attention() -> None:
    """The limit of the joint softmax: with logits of minus a thousand on the other frames only the own one counts."""
    block = randomise(clip_block(2, 3)).double()
    with torch.no_grad():
        block.temporal.attention_weights.weight.zero_()
        block.temporal.attention_weights.bias.fill_(-1000)
    query, reference, value = inputs(3)
    own = block.spatial.sample(query, reference, value, torch.tensor(SHAPES))
    found = block.temporal(query, reference, value, torch.tensor(SHAPES), block.spatial)
    torch.testing.assert_close(found, own, atol=1e-12, rtol=0)


def test_a_constant_clip_is_returned_whatever_the_number_of_frames() -> None:
    """One softmax over everything: weights sum to 1."""
    for k_temp in (2, 3):
        clip, spatial = build(5, 2, ClipMSDAConfig(k_temp))
        with torch.no_grad():
            for block in (clip, spatial):
                block.sampling_offsets.weight.zero_(), block.sampling_offsets.bias.zero_()
        query, reference, value = inputs(5)
        constant = value[:1, :1, :1].expand_as(value)
        found = run((clip, spatial), query, torch.full_like(reference, 0.5), constant)
        torch.testing.assert_close(found, constant[:, :, :QUERIES].flatten(-2), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("k_curr", "k_temp"), [(2, 2), (2, 1)])
def test_half_precision_follows_float32(k_curr: int, k_temp: int) -> None:
    blocks = tuple(block.float() for block in build(3, k_curr, ClipMSDAConfig(k_temp)))
    arguments = [part.float() for part in inputs(3)]
    expected = run(blocks, *arguments)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(blocks, *arguments)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


def test_another_number_of_frames_is_an_error() -> None:
    blocks = build(4, 2, ClipMSDAConfig())
    with pytest.raises(AssertionError, match="clip of 3 frames, this ClipMSDA is for 4"):
        run(blocks, *inputs(3))


def test_settings_that_cannot_be() -> None:
    with pytest.raises(UserError, match="temporal.num_points is -1, expected 0 or more"):
        ClipMSDAConfig(-1)
    with pytest.raises(UserError, match="temporal.window is 0, expected None"):
        ClipMSDAConfig(window=0)
    for share in (0.0, 1.0):
        with pytest.raises(UserError, match=f"temporal.initial_share is {share}, expected None or a number in"):
            ClipMSDAConfig(initial_share=share)
    with pytest.raises(UserError, match="clip_length is None, expected the number of frames"):
        clip_block(4, None)
