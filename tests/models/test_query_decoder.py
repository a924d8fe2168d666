"""The query-decomposed decoder against a simple form: one clip, one frame at a time, torch's own attention."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import CHANNELS, HEADS, noise, randomise, token_memory
from torch import Tensor, nn
from torch.nn import functional

from vislab.blocks.spatial_msda import SpatialMSDA
from vislab.blocks.temporal_self_attention import TemporalSelfAttentionConfig
from vislab.models.query_decoder import DecoderConfig, DecoderLayer, LayerOutput, Memory, QueryDecoder

SHAPES, QUERIES, FRAMES = [(3, 4), (2, 2)], 5, 3
CONFIG = DecoderConfig(num_layers=3, feed_forward_channels=24)
SHARED, SEPARATE = TemporalSelfAttentionConfig(), TemporalSelfAttentionConfig(shared=False)


def build(temporal: TemporalSelfAttentionConfig | None = None, **changes: object) -> QueryDecoder:
    config = replace(CONFIG, temporal_attention=temporal, **changes)
    return randomise(QueryDecoder(CHANNELS, HEADS, len(SHAPES), config, dropout=0.0))


def inputs(frames: int = FRAMES) -> tuple[Tensor, Tensor, Tensor, Memory]:
    content, position = noise(QUERIES, CHANNELS, seed=1), noise(QUERIES, CHANNELS, seed=2)
    reference = noise(QUERIES, 2, seed=3).sigmoid()
    return content.expand(2, -1, -1), position, reference, token_memory(SHAPES, frames)


def self_attention(block: nn.Module, x: Tensor, position: Tensor) -> Tensor:
    """x: (Q, C)."""
    library = nn.MultiheadAttention(CHANNELS, HEADS, batch_first=True).double()
    library.load_state_dict({k: v for k, v in block.state_dict().items() if not k.startswith("norm.")})
    query = (x + position)[None]
    return block.norm(x + library(query, query, x[None])[0][0])


def frame_samples(block: SpatialMSDA, query: Tensor, reference: Tensor, tokens: Tensor, padding: Tensor) -> Tensor:
    """Deformable attention within a frame with grid_sample. query (Q, C), reference (Q, L, 2 or 4), tokens (S, C)."""
    points, levels = block.num_points, len(SHAPES)
    value = block.value_proj(tokens).masked_fill(padding[:, None], 0.0)
    offsets = block.sampling_offsets(query).view(QUERIES, HEADS, levels, points, 2)
    weights = block.attention_weights(query).view(QUERIES, HEADS, -1).softmax(-1).view(QUERIES, HEADS, levels, points)
    total, start = torch.zeros(HEADS, CHANNELS // HEADS, QUERIES, dtype=torch.float64), 0
    for level, (height, width) in enumerate(SHAPES):
        grid = value[start : start + height * width].view(height, width, HEADS, -1).permute(2, 3, 0, 1)
        start += height * width
        if reference.shape[-1] == 2:
            move = offsets[:, :, level] / torch.tensor([width, height])
        else:
            move = offsets[:, :, level] / points * reference[:, None, level, None, 2:] / 2
        locations = (reference[:, None, level, None, :2] + move).transpose(0, 1)
        sampled = functional.grid_sample(grid, 2 * locations - 1, align_corners=False)
        total = total + (sampled * weights[:, :, level].transpose(0, 1)[:, None]).sum(-1)
    return total.permute(2, 0, 1).flatten(1)


def simple_layer(layer: DecoderLayer, instance, boxes, position, references, tokens, padding) -> tuple:
    """One clip. boxes: a list with one (Q, C) per frame; the first layer gets the same tensor for all."""
    instance = self_attention(layer.instance_attention, instance, position)
    seen, moved, importance = [], [], []
    for box, reference, frame in zip(boxes, references, tokens, strict=True):
        box = self_attention(layer.box_attention, box, position)
        samples = frame_samples(layer.cross_attention, box + position, reference, frame, padding)
        box = layer.box_feed_forward(layer.box_norm(box + layer.box_output_proj(samples)))
        seen.append(layer.cross_attention.output_proj(samples))
        importance.append(layer.frame_weight(box))
        moved.append(box)
    shares = torch.stack(importance).exp() / torch.stack(importance).exp().sum(0)
    gathered = sum(share * sample for share, sample in zip(shares, seen, strict=True))
    return layer.instance_feed_forward(layer.instance_norm(instance + gathered)), moved


def simple_decoder(decoder: QueryDecoder, content, position, reference, memory: Memory, clip: int) -> list[tuple]:
    """Per layer: instance (Q, C), box queries (T, Q, C), boxes (T, Q, 4)."""
    tokens, padding, ratios = memory.tokens[clip], memory.padding_mask[clip], memory.ratios[clip]
    instance, boxes, outputs = content[clip], [content[clip]] * len(tokens), []
    references = [reference] * len(tokens)
    for index, layer in enumerate(decoder.layers):
        if index > 0 and len(decoder.temporal_attention):
            block = decoder.temporal_attention[min(index, len(decoder.temporal_attention)) - 1]
            tracks = [block.attention(torch.stack(boxes)[:, q][None])[0] for q in range(QUERIES)]
            boxes = list(torch.stack(tracks, dim=1))
        scale = torch.cat([ratios] * (references[0].shape[-1] // 2), dim=-1)
        scaled = [points[:, None] * scale for points in references]
        instance, boxes = simple_layer(layer, instance, boxes, position, scaled, tokens, padding)
        updates = [decoder.box_heads[index](box) for box in boxes]
        refined = []
        for update, points in zip(updates, references, strict=True):
            logit = torch.zeros_like(update)
            logit[:, : points.shape[-1]] = torch.logit(points)
            refined.append((update + logit).sigmoid())
        outputs.append((instance, torch.stack(boxes), torch.stack(refined)))
        references = refined
    return outputs


@pytest.mark.parametrize("temporal", [None, SHARED, SEPARATE])
@pytest.mark.parametrize("frames", [1, 3])
def test_equals_the_simple_form(temporal: TemporalSelfAttentionConfig | None, frames: int) -> None:
    decoder = build(temporal)
    found = decoder(*inputs(frames))
    for clip in range(2):
        expected = simple_decoder(decoder, *inputs(frames), clip)
        for layer, (instance, boxes, refined) in zip(found, expected, strict=True):
            torch.testing.assert_close(layer.instance[clip], instance, atol=1e-9, rtol=0)
            torch.testing.assert_close(layer.boxes[clip], boxes, atol=1e-9, rtol=0)
            torch.testing.assert_close(layer.refined[clip], refined, atol=1e-9, rtol=0)


def test_every_layer_starts_from_the_boxes_of_the_one_before() -> None:
    first, second, third = build()(*inputs())
    torch.testing.assert_close(first.reference, inputs()[2].expand(2, FRAMES, -1, -1))
    torch.testing.assert_close(second.reference, first.refined)
    torch.testing.assert_close(third.reference, second.refined)


def permute(memory: Memory, order: list[int]) -> Memory:
    return memory._replace(tokens=memory.tokens[:, order])


def outputs_equal(first: LayerOutput, second: LayerOutput, order: list[int]) -> bool:
    """Whether the second is the first with its frames in another order."""
    same = [torch.allclose(getattr(first, name)[:, order], getattr(second, name)) for name in ("boxes", "refined")]
    return torch.allclose(first.instance, second.instance) and all(same)


@pytest.mark.parametrize("temporal", [None, SHARED])
def test_frames_are_a_set(temporal: TemporalSelfAttentionConfig | None) -> None:
    """Permuting the frames permutes box queries and leaves instances; so does TSA, which knows no order either."""
    decoder, order = build(temporal), [2, 0, 1]
    *query, memory = inputs()
    for before, after in zip(decoder(*query, memory), decoder(*query, permute(memory, order)), strict=True):
        assert outputs_equal(before, after, order)


def test_temporal_attention_with_positions_knows_the_order() -> None:
    decoder, order = build(TemporalSelfAttentionConfig(position=True)), [2, 0, 1]
    *query, memory = inputs()
    before, after = decoder(*query, memory), decoder(*query, permute(memory, order))
    assert outputs_equal(before[0], after[0], order) and not outputs_equal(before[1], after[1], order)


def test_box_queries_of_different_frames_meet_only_in_temporal_attention() -> None:
    *query, memory = inputs()
    other = memory.tokens.clone()
    other[:, 2] = noise(*other[:, 2].shape, seed=9)
    changes = {}
    for name, temporal in (("without", None), ("with", SHARED)):
        decoder = build(temporal)
        before, after = decoder(*query, memory), decoder(*query, memory._replace(tokens=other))
        changes[name] = [not torch.allclose(x.boxes[:, 0], y.boxes[:, 0]) for x, y in zip(before, after, strict=True)]
    assert changes == {"without": [False, False, False], "with": [False, True, True]}


def test_without_temporal_attention_it_is_the_identity() -> None:
    """The ablated decoder equals one whose temporal blocks return their input."""
    full, ablated = build(SHARED), build()
    ablated.load_state_dict({k: v for k, v in full.state_dict().items() if not k.startswith("temporal_attention.")})
    full.temporal_attention[0] = nn.Identity()
    for first, second in zip(full(*inputs()), ablated(*inputs()), strict=True):
        assert torch.equal(first.instance, second.instance) and torch.equal(first.refined, second.refined)


@pytest.mark.parametrize(
    ("num_layers", "temporal", "count"),
    [(3, None, 0), (3, SHARED, 1), (3, SEPARATE, 2), (1, SHARED, 0), (1, SEPARATE, 0)],
)
def test_number_of_temporal_blocks(num_layers: int, temporal: TemporalSelfAttentionConfig, count: int) -> None:
    assert len(build(temporal, num_layers=num_layers).temporal_attention) == count


@pytest.mark.parametrize("detach", [True, False])
def test_gradient_through_the_reference(detach: bool) -> None:
    decoder = build(detach_reference=detach)
    decoder(*inputs())[-1].refined.sum().backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in decoder.box_heads[0].parameters()]
    assert all(reached) if not detach else not any(reached)


def test_new_box_heads_keep_the_point_and_start_small() -> None:
    decoder = QueryDecoder(CHANNELS, HEADS, len(SHAPES), CONFIG, dropout=0.0).double()
    first, *later = decoder(*inputs())
    centre = inputs()[2].expand(2, FRAMES, -1, -1)
    torch.testing.assert_close(first.refined[..., :2], centre, atol=1e-6, rtol=0)
    size = torch.tensor(-2.0).sigmoid().item()
    torch.testing.assert_close(first.refined[..., 2:], torch.full_like(centre, size), atol=1e-6, rtol=0)
    for layer in later:
        torch.testing.assert_close(layer.refined, first.refined, atol=1e-6, rtol=0)


@pytest.mark.parametrize("temporal", [None, SHARED, SEPARATE])
def test_gradients_reach_every_parameter(temporal: TemporalSelfAttentionConfig | None) -> None:
    decoder = build(temporal)
    sum(layer.refined.square().sum() + layer.instance.square().sum() for layer in decoder(*inputs())).backward()
    weights = {name: p for name, p in decoder.named_parameters() if p.dim() > 1}
    assert [name for name, p in weights.items() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad.isfinite().all() for p in decoder.parameters())
