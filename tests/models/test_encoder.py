"""The deformable encoder: reference points, padding, who sees whom."""

from __future__ import annotations

import pytest
import torch
from tiny_models import CHANNELS, HEADS, noise, randomise

from vislab.blocks.clip_msda import ClipMSDAConfig
from vislab.blocks.temporal_msda import TemporalMSDAConfig
from vislab.models.encoder import Encoder, EncoderConfig, Memory, encoder_reference_points, valid_ratios

SHAPES = [(4, 6), (2, 3)]


def masks_of(valid: list[tuple[tuple[int, int], tuple[int, int]]]) -> list[torch.Tensor]:
    """For each clip the unpadded (height, width) on both levels; -> one (B, H, W) mask per level."""
    masks = [torch.ones(len(valid), *shape, dtype=torch.bool) for shape in SHAPES]
    for clip, sizes in enumerate(valid):
        for mask, (height, width) in zip(masks, sizes, strict=True):
            mask[clip, :height, :width] = False
    return masks


MASKS = masks_of([((4, 6), (2, 3)), ((3, 4), (2, 2))])


def test_valid_ratios() -> None:
    expected = [[[1.0, 1.0], [1.0, 1.0]], [[4 / 6, 3 / 4], [2 / 3, 2 / 2]]]
    torch.testing.assert_close(valid_ratios(MASKS), torch.tensor(expected))


def test_reference_points_are_cell_centres_of_the_unpadded_image_on_every_level() -> None:
    ratios = valid_ratios(MASKS)
    found = encoder_reference_points(SHAPES, ratios)
    assert found.shape == (2, 1, 30, 2, 2)
    for clip, sizes in enumerate([((4, 6), (2, 3)), ((3, 4), (2, 2))]):
        token = 0
        for (height, width), (valid_height, valid_width) in zip(SHAPES, sizes, strict=True):
            for i in range(height):
                for j in range(width):
                    point = torch.tensor([(j + 0.5) / valid_width, (i + 0.5) / valid_height])
                    for level in range(2):
                        torch.testing.assert_close(found[clip, 0, token, level], point * ratios[clip, level])
                    token += 1


def test_without_padding_the_reference_of_a_token_is_its_own_pixel_centre() -> None:
    found = encoder_reference_points(SHAPES, torch.ones(1, 2, 2))[0, 0]
    pixel = found[:24, 0] * torch.tensor([6.0, 4.0]) - 0.5
    torch.testing.assert_close(pixel.round(), pixel, atol=1e-5, rtol=0)
    assert pixel.round().tolist() == [[j, i] for i in range(4) for j in range(6)]


def build(num_layers: int = 2, temporal: TemporalMSDAConfig | None = None) -> Encoder:
    config = EncoderConfig(num_layers=num_layers, feed_forward_channels=24, temporal=temporal)
    return randomise(Encoder(CHANNELS, HEADS, 2, config, dropout=0.0))


def inputs(frames: int = 3) -> dict:
    ratios = valid_ratios(MASKS).double()
    return {
        "tokens": noise(2, frames, 30, CHANNELS, seed=1), "position": noise(2, 1, 30, CHANNELS, seed=2),
        "reference": encoder_reference_points(SHAPES, ratios), "spatial_shapes": torch.tensor(SHAPES),
        "padding_mask": torch.cat([mask.flatten(1) for mask in MASKS], dim=1),
    }  # fmt: skip


def test_a_layer_is_attention_and_feed_forward_with_post_norm() -> None:
    encoder, x = build(num_layers=1), inputs()
    layer = encoder.layers[0]
    rest = (x["reference"], x["tokens"], x["spatial_shapes"], x["padding_mask"])
    attended = layer.norm(x["tokens"] + layer.attention.spatial(x["tokens"] + x["position"], *rest))
    hidden = layer.feed_forward.linear1(attended).clamp(min=0)
    expected = layer.feed_forward.norm(attended + layer.feed_forward.linear2(hidden))
    torch.testing.assert_close(encoder(**x), expected)


def test_layers_follow_each_other() -> None:
    encoder, x = build(num_layers=2), inputs()
    first = encoder.layers[0](**x)
    torch.testing.assert_close(encoder(**x), encoder.layers[1](**(x | {"tokens": first})))


def test_no_layers_are_the_identity() -> None:
    x = inputs()
    assert torch.equal(build(num_layers=0)(**x), x["tokens"])


@pytest.mark.parametrize("temporal", [None, TemporalMSDAConfig(window=1), TemporalMSDAConfig(projections="own")])
def test_padded_tokens_do_not_reach_the_others(temporal: TemporalMSDAConfig | None) -> None:
    encoder, x = build(temporal=temporal), inputs()
    padded = x["padding_mask"][:, None, :, None]
    other = x | {"tokens": torch.where(padded, 50.0, x["tokens"])}
    keep = ~padded.expand_as(x["tokens"])
    torch.testing.assert_close(encoder(**x)[keep], encoder(**other)[keep])


def test_frames_do_not_meet_without_temporal_attention() -> None:
    encoder, x, order = build(), inputs(), [2, 0, 1]
    permuted = encoder(**(x | {"tokens": x["tokens"][:, order]}))
    torch.testing.assert_close(permuted, encoder(**x)[:, order])


def test_every_temporal_layer_widens_the_view_by_its_window() -> None:
    encoder, x = build(num_layers=2, temporal=TemporalMSDAConfig(window=1)), inputs(frames=6)
    other = x["tokens"].clone()
    other[:, 5] = noise(2, 30, CHANNELS, seed=9)
    changed = (encoder(**x) - encoder(**(x | {"tokens": other}))).abs().amax((0, 2, 3)) > 1e-9
    assert changed.tolist() == [False, False, False, True, True, True]


def test_every_frame_of_the_clip_sees_every_other_in_one_layer_of_devis() -> None:
    config = EncoderConfig(num_layers=1, feed_forward_channels=24, temporal=ClipMSDAConfig(2))
    encoder, x = randomise(Encoder(CHANNELS, HEADS, 2, config, dropout=0.0, clip_length=3)), inputs()
    other = x["tokens"].clone()
    other[:, 2] = noise(2, 30, CHANNELS, seed=9)
    changed = (encoder(**x) - encoder(**(x | {"tokens": other}))).abs().amax((0, 2, 3)) > 1e-9
    assert changed.tolist() == [True, True, True]


@pytest.mark.parametrize("size", [2, 4])
def test_references_on_padded_levels(size: int) -> None:
    ratios = valid_ratios(MASKS).double()
    memory = Memory(inputs()["tokens"], None, ratios, torch.tensor(SHAPES))
    reference = noise(2, 3, 5, size, seed=3).sigmoid()
    found = memory.on_levels(reference)
    for clip in range(2):
        for level in range(2):
            scale = torch.cat([ratios[clip, level]] * (size // 2))
            torch.testing.assert_close(found[clip, :, :, level], reference[clip] * scale)
