"""IFR's decoder layer against Eq. 2-3 written as loops over frames and queries."""

from __future__ import annotations

import pytest
import torch
from slow_attention import slow_attend, slow_feed_forward
from slow_deformable import noise, randomise
from torch import Tensor

from vislab.blocks.frame_memory import FrameMemory
from vislab.blocks.inter_frame_recurrent import InterFrameRecurrentConfig, InterFrameRecurrentLayer
from vislab.blocks.masked_attention import MaskMode

CONFIG = InterFrameRecurrentConfig(feed_forward_channels=12)


def build(config: InterFrameRecurrentConfig = CONFIG) -> InterFrameRecurrentLayer:
    return randomise(config.build(8, 2, 0.0)).eval()


def inputs(frames: int = 3, queries: int = 3) -> tuple[Tensor, Tensor, FrameMemory, Tensor]:
    memory = FrameMemory(noise(2, frames, 4, 8, seed=1), noise(frames, 4, 8, seed=2), noise(frames, 8, seed=3))
    mask = torch.rand(2, frames, queries, 4, generator=torch.Generator().manual_seed(4)) < 0.4
    mask[0, 0, 1] = False
    return noise(2, queries, 8, seed=5), noise(queries, 8, seed=6), memory, mask


def unrolled(
    layer: InterFrameRecurrentLayer, clip: Tensor, position: Tensor, memory: FrameMemory, mask: Tensor, mode: MaskMode
) -> tuple[Tensor, Tensor]:
    """The layer by its definition: one clip, one frame, one query after the other. mode: how masks act."""
    num_queries = len(position)
    new_clip, new_frames = [], []
    for b in range(len(clip)):
        previous, frames = list(clip[b]), []
        for t in range(memory.tokens.shape[1]):
            tokens, token_position = memory.tokens[b, t], memory.position[t]
            joint = [
                slow_attend(
                    layer.cross_attention, group[q], position[q], tokens, token_position, mask[b, t, q], mode=mode
                )
                for group in (previous, clip[b])
                for q in range(num_queries)
            ]
            keys, key_position = torch.stack(joint), torch.cat((position, position))
            attended = [
                slow_attend(layer.self_attention, joint[j], key_position[j], keys, key_position)
                for j in range(2 * num_queries)
            ]
            previous = attended[:num_queries]
            frames.append(torch.stack(previous))
        everything = torch.cat(frames)
        place = torch.cat([position + frame for frame in memory.frame_position])
        gathered = torch.stack(
            [
                slow_attend(layer.temporal_attention, clip[b, q], position[q], everything, place)
                for q in range(num_queries)
            ]
        )
        met = [
            slow_attend(layer.clip_attention, gathered[q], position[q], gathered, position) for q in range(num_queries)
        ]
        if layer.feed_forward.state_dict():
            met = [slow_feed_forward(layer.feed_forward, x) for x in met]
        new_clip.append(torch.stack(met))
        new_frames.append(torch.stack(frames))
    return torch.stack(new_clip), torch.stack(new_frames)


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("width", [12, None])
@pytest.mark.parametrize("mode", ["neg_inf", "multiply"])
def test_equals_the_unrolled_definition_forward_and_gradients(mode: MaskMode, width: int | None, frames: int) -> None:
    layer = build(InterFrameRecurrentConfig(mode, feed_forward_channels=width))
    clip, position, memory, mask = inputs(frames)
    leaves = [clip, position, *memory]
    for leaf in leaves:
        leaf.requires_grad_()
    wanted = [*leaves, *layer.parameters()]
    fast, slow = layer(clip, position, memory, mask), unrolled(layer, clip, position, memory, mask, mode)
    for found, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(found, expected)
    weights = [noise(*part.shape, seed=20 + index) for index, part in enumerate(fast)]
    gradients = [
        torch.autograd.grad(sum((part * weight).sum() for part, weight in zip(parts, weights, strict=True)), wanted)
        for parts in (fast, slow)
    ]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_later_frames_do_not_change_earlier_ones() -> None:
    layer, (clip, position, memory, mask) = build(), inputs(frames=4)
    frames = layer(clip, position, memory, mask)[1]
    order = torch.tensor([0, 1, 3, 2])
    permuted = memory._replace(tokens=memory.tokens[:, order])
    moved = layer(clip, position, permuted, mask[:, order])[1]
    assert torch.equal(moved[:, :2], frames[:, :2])
    assert not torch.isclose(moved[:, 2:], frames[:, 2:]).all(-1).any()


def test_earlier_frames_change_later_ones() -> None:
    layer, (clip, position, memory, mask) = build(), inputs()
    other = memory._replace(tokens=memory.tokens.clone())
    other.tokens[:, 0] = noise(2, 4, 8, seed=30)
    before, after = layer(clip, position, memory, mask)[1], layer(clip, position, other, mask)[1]
    assert not torch.isclose(before[:, 2], after[:, 2]).all(-1).any()


def test_gradient_reaches_the_first_frame_from_the_last() -> None:
    layer, (clip, position, memory, mask) = build(), inputs(frames=5)
    memory.tokens.requires_grad_()
    layer(clip, position, memory, mask)[1][:, -1].square().sum().backward()
    assert memory.tokens.grad is not None
    assert (memory.tokens.grad[:, 0].abs().amax((1, 2)) > 1e-6).all()


def test_the_first_frame_starts_from_a_copy_of_the_clip_level_queries() -> None:
    """With the same frame twice, frame 2 differs from frame 1 only in what it was handed."""
    layer, (clip, position, memory, mask) = build(), inputs(frames=2)
    same = FrameMemory(
        memory.tokens[:, :1].expand(-1, 2, -1, -1), memory.position[:1].expand(2, -1, -1), memory.frame_position
    )
    mask = mask[:, :1].expand(-1, 2, -1, -1)
    first, second = layer.frame_queries(clip, position, same, mask).unbind(1)
    single = FrameMemory(memory.tokens[:, :1], memory.position[:1], memory.frame_position[:1])
    torch.testing.assert_close(layer.frame_queries(clip, position, single, mask[:, :1])[:, 0], first)
    assert not torch.allclose(first, second)


def test_multiply_mode_reads_blocked_tokens() -> None:
    clip, position, memory, mask = inputs()
    mask[:] = False
    mask[..., 0] = True
    other = memory._replace(tokens=memory.tokens.clone())
    other.tokens[:, :, 1:] = noise(2, 3, 3, 8, seed=31)
    for mode, moved in (("neg_inf", False), ("multiply", True)):
        layer = build(InterFrameRecurrentConfig(mask_mode=mode, feed_forward_channels=None))
        before, after = layer(clip, position, memory, mask)[0], layer(clip, position, other, mask)[0]
        assert torch.allclose(before, after) != moved


def test_in_training_mode_too_every_parameter_learns() -> None:
    layer = randomise(CONFIG.build(8, 2, 0.1)).train()
    clip, _ = layer(*inputs())
    clip.square().sum().backward()
    assert [name for name, parameter in layer.named_parameters() if parameter.grad is None] == []


def test_a_clip_level_query_may_start_from_its_own_frames() -> None:
    """Positions that are far apart in every head tell queries apart; of several frames the weights add up to one."""
    torch.manual_seed(0)
    config = InterFrameRecurrentConfig(feed_forward_channels=None, start="own_frames")
    layer = config.build(8, 2, 0.0).double().eval()
    position = 40.0 * torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [-1, 0, -1, 0], [0, -1, 0, -1]]).repeat_interleave(2, 1)
    clip, frame, frame_position = noise(2, 4, 8, seed=1), noise(2, 1, 4, 8, seed=2), noise(3, 8, seed=3)
    expected = torch.nn.functional.layer_norm(clip + frame[:, 0], (8,))
    for frames in (frame, frame.repeat(1, 3, 1, 1)):
        found = layer.clip_queries(clip, position.double(), frames, frame_position[: frames.shape[1]])
        torch.testing.assert_close(found, torch.nn.functional.layer_norm(expected, (8,)), atol=1e-4, rtol=1e-4)


def test_other_starts_draw_the_same_random_numbers() -> None:
    """What both starts leave random is the same, so that they are compared on equal terms."""
    states = []
    for start in ("random", "own_frames"):
        torch.manual_seed(0)
        states.append(InterFrameRecurrentConfig(start=start).build(8, 2, 0.0).state_dict())
    changed = {name for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    parts = (
        "temporal_attention.in_proj_weight",
        "temporal_attention.out_proj.weight",
        "clip_attention.out_proj.weight",
    )
    assert changed == set(parts)
