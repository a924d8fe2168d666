"""The trunk that all deformable models share: levels, padding, sizes, numbers of frames."""

from __future__ import annotations

import pytest
import torch
from tiny_models import BACKBONE, CHANNELS, HEADS, clips, noise, randomise
from torch import nn

from vislab.errors import UserError
from vislab.models.encoder import EncoderConfig
from vislab.models.trunk import DeformableTrunk, check_widths, input_projections, level_masks, unpadded_size


def build(levels: int, clip_length: int | None = None, stride4: bool = False) -> DeformableTrunk:
    encoder = EncoderConfig(num_layers=1, feed_forward_channels=24)
    backbone = BACKBONE.build(stride4=stride4)
    return randomise(DeformableTrunk(backbone, CHANNELS, HEADS, levels, encoder, 0.0, clip_length)).eval()


@pytest.mark.parametrize("stride4", [False, True])
@pytest.mark.parametrize(
    ("levels", "strides"), [(1, [32]), (3, [8, 16, 32]), (4, [8, 16, 32, 64]), (5, [8, 16, 32, 64, 128])]
)
def test_levels(levels: int, strides: list[int], stride4: bool) -> None:
    trunk, (images, _) = build(levels, stride4=stride4), clips(height=128, width=256, sizes=((128, 256),))
    maps = trunk.extract(images)
    assert [tuple(part.shape) for part in maps.projected] == [
        (1, 3, CHANNELS, 128 // stride, 256 // stride) for stride in strides
    ]
    assert len(maps.raw) == 3 + stride4
    torch.testing.assert_close(
        maps.projected[min(levels, 3) - 1][0], trunk.input_proj[min(levels, 3) - 1](maps.raw[-1][0])
    )
    if levels > 3:
        torch.testing.assert_close(maps.projected[3][0], trunk.input_proj[3](maps.raw[-1][0]))
    if levels > 4:
        torch.testing.assert_close(maps.projected[4][0], trunk.input_proj[4](maps.projected[3][0]))


def test_projections_start_without_bias() -> None:
    projections = input_projections((8, 16, 32), 16, 4)
    assert [projection[0].kernel_size for projection in projections] == [(1, 1)] * 3 + [(3, 3)]
    assert all(not projection[0].bias.any() and isinstance(projection[1], nn.GroupNorm) for projection in projections)


def test_encoded_tokens_become_maps_again() -> None:
    trunk, maps = (
        build(3),
        [noise(2, 3, CHANNELS, *size, seed=index) for index, size in enumerate([(4, 6), (2, 3), (1, 2)])],
    )
    tokens = torch.cat([part.flatten(3).transpose(2, 3) for part in maps], dim=2)
    for found, expected in zip(trunk.encoded_maps(tokens, maps), maps, strict=True):
        assert torch.equal(found, expected)


def test_memory_of_a_padded_clip() -> None:
    trunk, (images, padding) = build(3), clips()
    memory = trunk.encode(trunk.extract(images).projected, padding, None)
    masks = level_masks(padding, [(8, 12), (4, 6), (2, 3)])
    assert torch.equal(memory.padding_mask, torch.cat([mask.flatten(1) for mask in masks], dim=1))
    assert memory.tokens.shape == (2, 3, 96 + 24 + 6, CHANNELS) and memory.spatial_shapes.tolist() == [
        [8, 12],
        [4, 6],
        [2, 3],
    ]
    assert memory.ratios[0].eq(1).all() and memory.ratios[1, 0].tolist() == pytest.approx([9 / 12, 6 / 8])


def test_unpadded_sizes_are_width_and_height() -> None:
    assert unpadded_size(clips()[1]).tolist() == [[96, 64], [70, 45]]


def test_number_of_frames() -> None:
    assert build(3, clip_length=2).extract(clips(2)[0]).projected[0].shape[1] == 2
    for frames in (1, 3):
        with pytest.raises(UserError, match=f"clip of {frames} frames, expected the model's clip_length of 2"):
            build(3, clip_length=2).extract(clips(frames)[0])


def test_widths_and_levels_that_cannot_be() -> None:
    check_widths(16, 4, 1), check_widths(16, 4, 3)
    with pytest.raises(UserError, match="hidden_dim is 18, expected a multiple of 4"):
        check_widths(18, 2, 3)
    for levels in (0, 2):
        with pytest.raises(UserError, match=f"num_levels is {levels}, expected 1"):
            check_widths(16, 4, levels)
