"""The trajectory decoder: its layers step by step, references across frames, gradients through boxes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import CHANNELS, HEADS, noise, randomise, token_memory
from torch import Tensor

from vislab import ops
from vislab.blocks.box_refinement import refine
from vislab.blocks.clip_msda import ClipMSDAConfig
from vislab.blocks.temporal_msda import TemporalMSDAConfig
from vislab.errors import UserError
from vislab.models.trajectory_decoder import TrajectoryDecoder, TrajectoryDecoderConfig, TrajectoryDecoderLayer

SHAPES = [(4, 6), (2, 3)]
FRAMES, QUERIES = 3, 5
CONFIG = TrajectoryDecoderConfig(num_layers=3, feed_forward_channels=24, temporal=ClipMSDAConfig(2))


def build(config: TrajectoryDecoderConfig = CONFIG, frames: int = FRAMES) -> TrajectoryDecoder:
    return randomise(TrajectoryDecoder(CHANNELS, HEADS, len(SHAPES), config, 0.0, frames)).eval()


def inputs(frames: int = FRAMES) -> tuple[Tensor, Tensor, Tensor]:
    content, position = (noise(frames, QUERIES, CHANNELS, seed=seed) for seed in (11, 12))
    return content, position, noise(frames, QUERIES, 2, seed=13).sigmoid()


def test_layers_of_a_new_decoder_keep_their_references() -> None:
    """Box heads start at zero: no layer moves a box, and the first sets its size to sigmoid(-2)."""
    decoder = TrajectoryDecoder(CHANNELS, HEADS, len(SHAPES), CONFIG, 0.0, FRAMES).double().eval()
    outputs = decoder(*inputs(), token_memory(SHAPES, FRAMES))
    expected = torch.cat((inputs()[2], torch.full((FRAMES, QUERIES, 2), -2.0).sigmoid().double()), dim=-1)
    for output in outputs:
        torch.testing.assert_close(output.refined, expected.expand(2, -1, -1, -1))


def test_boxes_are_refined_layer_by_layer() -> None:
    decoder = build()
    outputs = decoder(*inputs(), token_memory(SHAPES, FRAMES))
    references = [inputs()[2].expand(2, -1, -1, -1), *(output.refined for output in outputs[:-1])]
    for output, head, reference in zip(outputs, decoder.box_heads, references, strict=True):
        torch.testing.assert_close(output.reference, reference)
        torch.testing.assert_close(output.refined, refine(head(output.queries), reference))
        assert output.queries.shape == (2, FRAMES, QUERIES, CHANNELS)


def test_a_layer_written_out() -> None:
    """Self-attention of all T * Q queries, then TMSDA at the trajectory's references on the other frames, then FFN."""
    layer = randomise(TrajectoryDecoderLayer(CHANNELS, HEADS, len(SHAPES), CONFIG, 0.0, FRAMES)).eval()
    memory, (queries, position, _) = token_memory(SHAPES, FRAMES), inputs()
    queries = queries.expand(2, -1, -1, -1)
    reference = noise(2, FRAMES, QUERIES, len(SHAPES), 4, seed=4).sigmoid()
    flat = layer.self_attention(queries.reshape(2, -1, CHANNELS), position.reshape(-1, CHANNELS))
    others = [[1, 2], [0, 2], [0, 1]]
    other = torch.stack([torch.stack([reference[:, s] for s in row], dim=2) for row in others], dim=1)
    attending = flat.view_as(queries)
    update = layer.cross_attention(
        attending + position, reference, memory.tokens, memory.spatial_shapes, memory.padding_mask, other
    )
    expected = layer.feed_forward(layer.norm(attending + update))
    torch.testing.assert_close(layer(queries, position, reference, memory), expected)


@pytest.mark.parametrize("temporal", [ClipMSDAConfig(2), ClipMSDAConfig(4), TemporalMSDAConfig(2, window=1)])
def test_instance_aware_queries_follow_the_reference_of_their_trajectory(temporal: object) -> None:
    """Moving query 2's reference on frame 1 changes query 2 on every frame; without instance awareness on frame 1
    alone. Other queries do not see references."""
    for aware in (True, False):
        config = replace(CONFIG, temporal=temporal, instance_aware=aware)
        layer = randomise(TrajectoryDecoderLayer(CHANNELS, HEADS, len(SHAPES), config, 0.0, FRAMES)).eval()
        memory, (queries, position, _) = token_memory(SHAPES, FRAMES), inputs()
        reference = noise(2, FRAMES, QUERIES, len(SHAPES), 2, seed=4).sigmoid()
        moved = reference.clone()
        moved[:, 1, 2] = 0.25
        before, after = (layer(queries.expand(2, -1, -1, -1), position, r, memory) for r in (reference, moved))
        changed = (before != after).any(-1)
        expected = torch.zeros_like(changed)
        expected[:, slice(None) if aware else 1, 2] = True
        assert torch.equal(changed, expected)


@pytest.mark.parametrize("detach", [True, False])
def test_gradient_of_the_last_boxes_reaches_the_first_references_only_if_not_detached(detach: bool) -> None:
    """Detached, a layer's box depends on earlier ones through its queries alone: of the box head of the first layer
    nothing is left."""
    decoder = build(replace(CONFIG, detach_reference=detach))
    decoder(*inputs(), token_memory(SHAPES, FRAMES))[-1].refined.sum().backward()
    reached = decoder.box_heads[0].layers[-1].weight.grad
    assert (reached is None) if detach else reached.abs().sum() > 0
    assert decoder.layers[0].self_attention.in_proj_weight.grad.abs().sum() > 0


def test_queries_of_all_frames_attend_to_each_other_and_frames_to_other_frames() -> None:
    config = replace(CONFIG, temporal=None, num_layers=1)
    memory, (content, position, reference) = token_memory(SHAPES, FRAMES), inputs()
    other = content.clone()
    other[2, 0] += 1
    before, after = (build(config)(c, position, reference, memory)[0].queries for c in (content, other))
    assert (before != after).any(-1).all()
    tokens = memory.tokens.clone()
    tokens[:, 2] = noise(*tokens[:, 2].shape, seed=99)
    changed = memory._replace(tokens=tokens)
    for temporal, seen in ((None, [False, False, True]), (ClipMSDAConfig(2), [True, True, True])):
        decoder = build(replace(config, temporal=temporal))
        before, after = (decoder(content, position, reference, m)[0].queries for m in (memory, changed))
        assert (before != after).any(-1).flatten(2).all(-1).all(0).tolist() == seen


def test_one_frame_is_a_plain_deformable_decoder() -> None:
    decoder, plain = build(frames=1), build(replace(CONFIG, temporal=None), frames=1)
    assert decoder.state_dict().keys() == plain.state_dict().keys()
    outputs = [module(*inputs(1), token_memory(SHAPES, 1))[-1].refined for module in (decoder, plain)]
    torch.testing.assert_close(*outputs, atol=0, rtol=0)


@pytest.mark.parametrize("temporal", [None, ClipMSDAConfig(4), ClipMSDAConfig(2), ClipMSDAConfig(6)])
@pytest.mark.parametrize("aware", [True, False])
def test_attended_points_reproduce_the_attention(temporal: ClipMSDAConfig | None, aware: bool) -> None:
    """Sampling the values at these places with these weights gives what the layer's attention gave."""
    decoder = build(replace(CONFIG, temporal=temporal, instance_aware=aware))
    memory = token_memory(SHAPES, FRAMES)
    seen: list[Tensor] = []
    for layer in decoder.layers:
        layer.cross_attention.register_forward_hook(lambda _, __, output: seen.append(output))
    outputs = decoder(*inputs(), memory)
    for index, points in enumerate(decoder.attended_points(*inputs(), memory)):
        block = decoder.layers[index].cross_attention
        value = block.spatial.project_value(memory.tokens, memory.padding_mask)
        samples = ops.deform_attn(value, memory.spatial_shapes, points.frames, points.locations, points.weights)
        torch.testing.assert_close(block.spatial.output_proj(samples), seen[index])
        torch.testing.assert_close(points.weights.flatten(-3).sum(-1), torch.ones_like(points.weights[..., 0, 0, 0]))
        own = outputs[index].reference * memory.ratios[:, None, None, 0].repeat(1, 1, 1, 1 if index == 0 else 2)
        torch.testing.assert_close(points.reference[:, :, :, 0], own)
        if temporal is not None:
            expected = own[:, 2] if aware else own[:, 0]
            torch.testing.assert_close(points.reference[:, 0, :, 2], expected)


def test_attended_points_of_two_softmaxes_are_refused() -> None:
    decoder = build(replace(CONFIG, temporal=TemporalMSDAConfig()))
    with pytest.raises(UserError, match="temporal is TemporalMSDA, expected ClipMSDA or None"):
        decoder.attended_points(*inputs(), token_memory(SHAPES, FRAMES))
