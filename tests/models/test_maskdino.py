"""MaskDINO's parts: proposals, selection, positions of boxes, and the decoder against its layers one by one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny_models import CHANNELS, HEADS, noise, randomise
from tiny_refinevis import MASKDINO, build, tiny_clips
from torch import nn

from vislab.blocks.box_refinement import inverse_sigmoid
from vislab.blocks.mask_boxes import mask_boxes
from vislab.errors import UserError
from vislab.models.maskdino import MaskDINOPixelDecoder
from vislab.models.maskdino_decoder import MaskDINODecoder, MaskDINODecoderConfig, box_position, frame_memory
from vislab.models.query_selection import QuerySelection, proposals
from vislab.models.refinevis import RefineVISConfig


def test_proposals_grow_from_the_first_level_on() -> None:
    logits, none = proposals([(1, 2), (2, 4), (120, 1)])
    boxes = logits.sigmoid()
    torch.testing.assert_close(boxes[:2], torch.tensor([[0.25, 0.5, 0.05, 0.05], [0.75, 0.5, 0.05, 0.05]]))
    torch.testing.assert_close(boxes[2], torch.tensor([0.125, 0.25, 0.1, 0.1]))
    assert none[:10].any().item() is False
    assert none[10].item() and none[-1].item() and not none[70].item(), "centres within 1 % of the border"
    assert logits[10].isinf().all()


def test_selection_takes_the_best_tokens() -> None:
    selection = randomise(QuerySelection(CHANNELS))
    assert isinstance(selection, QuerySelection)
    tokens, shapes = noise(2, 14, CHANNELS), [(1, 2), (3, 4)]
    class_head = nn.Linear(CHANNELS, 3).double()
    box_head = nn.Linear(CHANNELS, 4).double()
    found = selection(tokens, shapes, 4, class_head, box_head)
    every = selection.norm(selection.project(tokens))
    for frame in range(2):
        scores = class_head(every[frame]).max(-1).values.tolist()
        best = sorted(range(14), key=lambda token, scores=scores: -scores[token])[:4]
        torch.testing.assert_close(found.queries[frame], every[frame, best])
        expected = (box_head(every[frame, best]) + proposals(shapes)[0][best]).sigmoid()
        torch.testing.assert_close(found.boxes[frame], expected)
    assert selection(tokens, shapes, 99, class_head, box_head).queries.shape == (2, 14, CHANNELS)


def test_position_of_a_box() -> None:
    found = box_position(torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), 8)
    expected = []
    for number in (0.2, 0.1, 0.3, 0.4):  # y before x
        for pair in range(2):
            angle = number * 2 * math.pi / 10000 ** (2 * pair / 4)
            expected += [math.sin(angle), math.cos(angle)]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_boxes_are_refined_from_layer_to_layer_and_look_forward_twice() -> None:
    config = MaskDINODecoderConfig(num_layers=2, feed_forward_channels=24)
    decoder = randomise(MaskDINODecoder(CHANNELS, HEADS, 2, config, 0.0))
    assert isinstance(decoder, MaskDINODecoder)
    memory, _ = frame_memory([noise(1, CHANNELS, 2, 3), noise(1, CHANNELS, 4, 6, seed=1)])
    queries, start = noise(1, 3, CHANNELS, seed=2), noise(1, 3, 4, seed=3).sigmoid().requires_grad_()
    first, second = decoder(queries, start, memory, None)
    position = decoder.position_head(box_position(start, CHANNELS))
    state = decoder.layers[0](queries, position, memory.on_levels(start[:, None]), memory, None)
    torch.testing.assert_close(first.queries, decoder.norm(state))
    shift = decoder.box_head(decoder.norm(state)) + inverse_sigmoid(start)
    torch.testing.assert_close(first.boxes, shift.sigmoid())
    middle = (decoder.box_head(state) + inverse_sigmoid(start)).sigmoid()
    shift = decoder.box_head(second.queries) + inverse_sigmoid(middle)
    torch.testing.assert_close(second.boxes, shift.sigmoid())
    names = [name for name, _ in decoder.layers[0].named_parameters()]
    gradients = torch.autograd.grad(second.boxes.sum(), list(decoder.layers[0].parameters()), allow_unused=True)
    assert all(gradient is not None for gradient in gradients), names


def test_pixel_decoder_gives_the_finest_level_first() -> None:
    encoder = replace(MASKDINO.encoder, num_layers=1)
    decoder = randomise(MaskDINOPixelDecoder((8, 8, 16, 16), CHANNELS, HEADS, 5, encoder, 0.0))
    assert isinstance(decoder, MaskDINOPixelDecoder)
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    maps = [noise(2, width, *size, seed=width) for width, size in zip((8, 8, 16, 16), sizes, strict=True)]
    levels, features = decoder.frames(maps)
    assert [tuple(level.shape) for level in levels] == [
        (2, CHANNELS, *size) for size in ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1))
    ]
    assert features.shape == (2, CHANNELS, 16, 24)


@pytest.mark.parametrize("kind", ["mask2box", "bitmask", None])
@torch.no_grad()
def test_the_decoder_starts_at_the_boxes_of_the_first_masks(kind: str | None) -> None:
    config = RefineVISConfig(frame_model=replace(MASKDINO, initial_boxes=kind), tar=None, denoising=None)
    model = build(config)
    images, padding = tiny_clips(1, 1)
    frames = model(images, padding).frames
    selected, start = frames.aux_outputs[:2]
    torch.testing.assert_close(selected.logits, start.logits)
    share = torch.tensor([64 / 96, 48 / 64, 64 / 96, 48 / 64])
    if kind is None:
        torch.testing.assert_close(start.boxes, selected.boxes)
    else:
        expected = mask_boxes(selected.masks(0, torch.arange(5)), kind)  # type: ignore[arg-type]
        torch.testing.assert_close(start.boxes[0] * share, expected)


def test_user_mistakes() -> None:
    with pytest.raises(UserError, match="num_levels is 1"):
        replace(MASKDINO, num_levels=1).build()
