"""Mask2Former-VIS' decoder layer."""

from __future__ import annotations

import torch
from slow_attention import slow_attend, slow_feed_forward
from slow_deformable import noise, randomise
from torch import Tensor

from vislab.blocks.frame_memory import FrameMemory
from vislab.blocks.volumetric_queries import VolumetricQueries, VolumetricQueriesConfig


def build() -> VolumetricQueries:
    return randomise(VolumetricQueriesConfig(feed_forward_channels=12).build(8, 2, 0.0)).eval()


def inputs(frames: int = 3) -> tuple[Tensor, Tensor, FrameMemory, Tensor]:
    memory = FrameMemory(noise(2, frames, 4, 8, seed=1), noise(frames, 4, 8, seed=2), noise(frames, 8, seed=3))
    mask = torch.rand(2, frames, 5, 4, generator=torch.Generator().manual_seed(4)) < 0.4
    mask[0, :, 1] = False
    return noise(2, 5, 8, seed=5), noise(5, 8, seed=6), memory, mask


def test_equals_the_definition_query_by_query() -> None:
    layer, (clip, position, memory, mask) = build(), inputs()
    found, frames = layer(clip, position, memory, mask)
    assert frames.shape == (2, 1, 5, 8) and torch.equal(frames[:, 0], found)
    token_position = memory.position.flatten(0, 1)
    for b in range(2):
        tokens = memory.tokens[b].flatten(0, 1)
        seen = [
            slow_attend(layer.cross_attention, clip[b, q], position[q], tokens, token_position, mask[b, :, q].flatten())
            for q in range(5)
        ]
        for q in range(5):
            met = slow_attend(layer.self_attention, seen[q], position[q], torch.stack(seen), position)
            torch.testing.assert_close(found[b, q], slow_feed_forward(layer.feed_forward, met))


def test_a_frame_without_the_object_is_not_seen_as_long_as_another_has_it() -> None:
    layer, (clip, position, memory, mask) = build(), inputs()
    mask[:, 1] = False
    mask[:, 0, :, 0] = True
    other = memory._replace(tokens=memory.tokens.clone())
    other.tokens[:, 1] = 7.0
    torch.testing.assert_close(layer(clip, position, other, mask), layer(clip, position, memory, mask))
