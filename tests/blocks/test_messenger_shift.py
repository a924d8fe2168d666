"""Messenger shift as an exact permutation of tokens, and MHSA + FFN in its place."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from slow_deformable import noise, randomise
from torch import Tensor

from vislab.blocks.messenger_shift import (
    MessengerShift,
    MessengerShiftConfig,
    MessengerTransformerConfig,
    shift_messengers,
)
from vislab.errors import UserError

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NO_CUDA])]
STRIDES = (1, -1, 2, -2)


def frames_of(num_frames: int, num_tokens: int = 8, device: str = "cpu") -> Tensor:
    """(1, T, M, 1) tokens that hold the number of their frame; frames are counted from 1, so that 0 is nobody's."""
    return torch.arange(1.0, num_frames + 1, device=device)[None, :, None, None].repeat(1, 1, num_tokens, 1)


def groups(tokens: Tensor, count: int = 4) -> list[list[int]]:
    """Per group, the frame whose tokens each frame holds; all tokens of a group agree."""
    parts = tokens[0, :, :, 0].cpu().chunk(count, dim=1)
    assert all(part.eq(part[:, :1]).all() for part in parts)
    return [part[:, 0].int().tolist() for part in parts]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("border", "expected"),
    [
        ("cyclic", [[5, 1, 2, 3, 4], [2, 3, 4, 5, 1], [4, 5, 1, 2, 3], [3, 4, 5, 1, 2]]),
        ("zero", [[0, 1, 2, 3, 4], [2, 3, 4, 5, 0], [0, 0, 1, 2, 3], [3, 4, 5, 0, 0]]),
        ("keep", [[1, 1, 2, 3, 4], [2, 3, 4, 5, 5], [1, 2, 1, 2, 3], [3, 4, 5, 4, 5]]),
    ],
)
def test_frame_of_every_token_after_one_shift(border: str, expected: list[list[int]], device: str) -> None:
    assert groups(shift_messengers(frames_of(5, device=device), STRIDES, border)) == expected


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("border", "expected"),
    [
        ("cyclic", [[1, 2, 3, 4, 5]] * 4),
        # what went over the end is lost: both ends of the clip differ, its middle does not
        ("zero", [[1, 2, 3, 4, 0], [0, 2, 3, 4, 5], [1, 2, 3, 0, 0], [0, 0, 3, 4, 5]]),
        ("keep", [[1, 2, 3, 4, 4], [2, 2, 3, 4, 5], [1, 2, 3, 2, 3], [3, 4, 3, 4, 5]]),
    ],
)
def test_frame_of_every_token_after_two_layers(border: str, expected: list[list[int]], device: str) -> None:
    tokens, config = frames_of(5, device=device), MessengerShiftConfig(shift_border=border)
    for layer in range(2):
        shift = config.build(8, 1, layer, 2)
        assert shift is not None
        _, tokens = shift(tokens, tokens)
    assert groups(tokens) == expected


@pytest.mark.parametrize("num_frames", [1, 2, 3, 7])
@pytest.mark.parametrize("strides", [STRIDES, (1,), (3, -5), (0, 1)])
def test_cyclic_shift_permutes_frames_and_its_inverse_restores(num_frames: int, strides: tuple[int, ...]) -> None:
    tokens = noise(2, num_frames, 4 * len(strides), 3)
    shifted = shift_messengers(tokens, strides)
    for group, (stride, part) in enumerate(zip(strides, shifted.chunk(len(strides), dim=2), strict=True)):
        own = tokens[:, :, 4 * group : 4 * group + 4]
        for frame in range(num_frames):
            assert torch.equal(part[:, (frame + stride) % num_frames], own[:, frame])
    assert torch.equal(shift_messengers(shifted, tuple(-stride for stride in strides)), tokens)


@pytest.mark.parametrize("border", ["cyclic", "zero", "keep"])
def test_a_single_frame_and_no_tokens_pass_unchanged(border: str) -> None:
    tokens = noise(3, 1, 8, 2)
    assert torch.equal(shift_messengers(tokens, STRIDES, border), tokens)
    assert shift_messengers(noise(1, 3, 0, 2), STRIDES, border).shape == (1, 3, 0, 2)


def test_patches_and_other_clips_are_left_alone() -> None:
    patches, tokens = noise(2, 3, 5, 4), noise(2, 3, 8, 4, seed=1)
    shift = MessengerShift(STRIDES)
    same, shifted = shift(patches, tokens)
    assert same is patches and torch.equal(shifted[1:], shift(patches[1:], tokens[1:])[1])
    assert list(shift.parameters()) == []


@pytest.mark.parametrize(("depth", "signs"), [(1, [0]), (2, [1, -1]), (3, [1, -1, 0]), (4, [1, -1, 1, -1])])
def test_every_shift_of_a_stage_is_undone(depth: int, signs: list[int]) -> None:
    shifts = [MessengerShiftConfig().build(8, 1, layer, depth) for layer in range(depth)]
    assert [0 if shift is None else shift.strides[0] for shift in shifts] == signs
    for first, second in pairwise(shift for shift in shifts if shift is not None):
        assert [-stride for stride in first.strides] == list(second.strides)


def test_tokens_that_no_group_fits() -> None:
    with pytest.raises(UserError, match="messenger tokens: 6, expected a multiple of 4"):
        shift_messengers(noise(1, 2, 6, 1), STRIDES)
    with pytest.raises(UserError, match="strides is empty"):
        MessengerShiftConfig(strides=()).build(8, 1, 0, 2)


def test_gradient_returns_to_the_frame_that_a_token_came_from() -> None:
    tokens = noise(1, 4, 4, 2).requires_grad_()
    shift_messengers(tokens, STRIDES)[:, 0].sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[0, :, :, 0].nonzero().tolist() == [[1, 1], [2, 2], [2, 3], [3, 0]]


def test_transformer_lets_all_tokens_of_a_clip_meet() -> None:
    module = randomise(MessengerTransformerConfig(2).build(8, 2, 0, 2))
    patches, tokens = noise(2, 3, 5, 8), noise(2, 3, 4, 8, seed=1)
    same, mixed = module(patches, tokens)
    assert same is patches and mixed.shape == tokens.shape
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = tokens.flatten(1, 2)[:, order].view_as(tokens)
    torch.testing.assert_close(module(patches, shuffled)[1].flatten(1, 2), mixed.flatten(1, 2)[:, order])
    changed = tokens.clone()
    changed[0, 2, 3] += 1
    difference = (module(patches, changed)[1] - mixed).abs().amax(-1)
    assert (difference[0] > 1e-9).all() and not difference[1].any()
