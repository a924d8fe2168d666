"""Pixel decoder: the encoder against the one of the other deformable models, the FPN step written out."""

from __future__ import annotations

import torch
from tiny_models import BACKBONE, CHANNELS, HEADS, clips, noise, randomise
from torch import Tensor
from torch.nn import functional

from vislab.blocks.temporal_msda import TemporalMSDAConfig
from vislab.models.encoder import EncoderConfig
from vislab.models.pixel_decoder import PixelDecoder
from vislab.models.trunk import DeformableTrunk

ENCODER = EncoderConfig(num_layers=2, feed_forward_channels=24)
WIDTHS = BACKBONE.widths


def build(encoder: EncoderConfig = ENCODER) -> PixelDecoder:
    return randomise(PixelDecoder(WIDTHS, CHANNELS, HEADS, encoder, dropout=0.0)).eval()


def features(batch: int = 2, frames: int = 3, height: int = 64, width: int = 96) -> list[Tensor]:
    count = batch * frames
    return [
        noise(count, channels, height // stride, width // stride, seed=stride)
        for channels, stride in zip(WIDTHS, (4, 8, 16, 32), strict=True)
    ]


def finest_first(decoder: PixelDecoder) -> dict[str, Tensor]:
    """The decoder's encoder weights for a model that has its levels in the other order."""
    state = {}
    for name, tensor in decoder.state_dict().items():
        if name.startswith("input_proj."):
            level, rest = int(name.split(".")[1]), name.split(".", 2)[2]
            state[f"input_proj.{2 - level}.{rest}"] = tensor
        elif name == "level_embed":
            state[name] = tensor.flip(0)
        elif "sampling_offsets" in name or "attention_weights" in name:
            state[name] = tensor.unflatten(0, (HEADS, 3, -1)).flip(1).flatten(0, 2)
        elif name.startswith("encoder."):
            state[name] = tensor
    return state


def test_levels_are_the_deformable_encoders() -> None:
    """The same encoder, built for SeqFormer and DeVIS with finest level first, on images without padding."""
    decoder, (images, padding) = build(), clips()
    trunk = DeformableTrunk(
        BACKBONE.build(), CHANNELS, HEADS, 3, ENCODER, 0.0, None, position_offset=0.0, mask_padding=False
    )
    randomise(trunk, seed=1).eval()
    trunk.load_state_dict(finest_first(decoder), strict=False)
    raw, maps = trunk.extract(images)
    encoded = trunk.encoded_maps(trunk.encode(maps, torch.zeros_like(padding), None).tokens, maps)
    finest = noise(6, WIDTHS[0], 16, 24)
    levels = decoder([finest, *(part.flatten(0, 1) for part in raw)], batch=2).levels
    assert [tuple(level.shape[-2:]) for level in levels] == [(2, 3), (4, 6), (8, 12)]
    for level, expected in zip(levels, reversed(encoded), strict=True):
        torch.testing.assert_close(level, expected)


def test_masks_are_one_fpn_step_from_stride_8() -> None:
    decoder, maps = build(), features()
    levels, masks = decoder(maps, batch=2)
    convolution, norm = decoder.lateral
    lateral = functional.group_norm(
        functional.conv2d(maps[0], convolution.weight), norm.num_groups, norm.weight, norm.bias
    )
    total = lateral + functional.interpolate(levels[-1].flatten(0, 1), scale_factor=2, mode="bilinear")
    convolution, norm, _ = decoder.smooth
    smooth = functional.conv2d(total, convolution.weight, padding=1)
    smooth = functional.group_norm(smooth, norm.num_groups, norm.weight, norm.bias).clamp(min=0)
    expected = torch.einsum("ck,nkhw->nchw", decoder.mask_features.weight[..., 0, 0], smooth)
    expected = expected + decoder.mask_features.bias[:, None, None]
    torch.testing.assert_close(masks.flatten(0, 1), expected)
    assert masks.shape == (2, 3, CHANNELS, 16, 24)


def test_frames_do_not_meet_unless_a_temporal_block_is_set() -> None:
    maps = features()
    other = [level.clone() for level in maps]
    for level in other:
        level[1] = 0.5
    for temporal, meet in ((None, False), (TemporalMSDAConfig(window=1), True)):
        decoder = build(EncoderConfig(num_layers=1, feed_forward_channels=24, temporal=temporal))
        before, after = decoder(maps, batch=2).masks, decoder(other, batch=2).masks
        assert torch.equal(before[0, [0, 2]], after[0, [0, 2]]) != meet
        torch.testing.assert_close(before[1], after[1])


def test_odd_sizes_and_one_frame() -> None:
    decoder = build()
    for height, width in ((32, 64), (96, 32)):
        levels, masks = decoder(features(1, 1, height, width), batch=1)
        assert masks.shape == (1, 1, CHANNELS, height // 4, width // 4)
        assert levels[0].shape == (1, 1, CHANNELS, height // 32, width // 32)
