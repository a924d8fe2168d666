"""Masked-attention decoder: order of levels, predictions between layers, masks that guide the attention."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mask_models import IFR, MASK2FORMER
from tiny_models import CHANNELS, HEADS, noise, randomise
from torch import Tensor
from torch.nn import functional

from vislab.models.masked_decoder import MaskedDecoder, MaskedDecoderConfig
from vislab.models.pixel_decoder import PixelFeatures

BOTH = pytest.mark.parametrize("config", [MASK2FORMER.decoder, IFR.decoder], ids=["volumetric", "recurrent"])


def build(config: MaskedDecoderConfig, layers: int = 3) -> MaskedDecoder:
    config = replace(config, num_layers=layers)
    return randomise(MaskedDecoder(CHANNELS, HEADS, 5, 3, 4, config, 0.0, prior=None)).eval()


def features(frames: int = 3) -> PixelFeatures:
    levels = [noise(2, frames, CHANNELS, 2**k, 3 * 2**k, seed=k) for k in range(3)]
    return PixelFeatures(levels, noise(2, frames, CHANNELS, 8, 24, seed=9))


def changed(source: PixelFeatures, level: int) -> PixelFeatures:
    levels = list(source.levels)
    levels[level] = noise(*levels[level].shape, seed=30 + level)
    return PixelFeatures(levels, source.masks)


@BOTH
def test_layer_i_looks_at_level_i_mod_3(config: MaskedDecoderConfig) -> None:
    decoder, source = build(config, layers=5), features()
    before = decoder(source)
    assert len(before) == 6
    for level in range(3):
        after = decoder(changed(source, level))
        same = [torch.equal(a.logits, b.logits) for a, b in zip(before, after, strict=True)]
        assert same == [True] * (level + 1) + [False] * (5 - level)


@BOTH
def test_the_learned_queries_predict_before_the_first_layer(config: MaskedDecoderConfig) -> None:
    decoder, source = build(config), features()
    first = decoder(source)[0]
    queries = decoder.norm(decoder.query_features.weight)
    kernels = decoder.mask_head(queries)
    for b in range(2):
        torch.testing.assert_close(first.logits[b], decoder.class_head(queries))
        masks = first.masks(b, torch.arange(5))
        torch.testing.assert_close(masks, torch.einsum("qc,tchw->qthw", kernels, source.masks[b]))


@BOTH
def test_a_layer_gets_the_masks_that_were_predicted_before_it(
    config: MaskedDecoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mask logits at stride 4, resized and then thresholded, as the released code does it."""
    decoder, source, seen = build(config), features(), []
    for layer in decoder.layers:
        layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[-1]))
    predictions = decoder(source)
    for index, mask in enumerate(seen):
        size = source.levels[index].shape[-2:]
        for b in range(2):
            logits = predictions[index].masks(b, torch.arange(5))
            small = functional.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
            expected = (small.sigmoid() >= 0.5).flatten(2).transpose(0, 1)
            assert torch.equal(mask[b], expected) and not mask.requires_grad
            assert 0.1 < mask[b].float().mean() < 0.9


def test_volumetric_queries_predict_all_frames_alike_and_recurrent_ones_do_not() -> None:
    volumetric, recurrent = build(MASK2FORMER.decoder)(features())[-1], build(IFR.decoder)(features())[-1]
    assert volumetric.frames.shape == (2, 1, 5, CHANNELS) and recurrent.frames.shape == (2, 3, 5, CHANNELS)
    assert volumetric.logits.shape == recurrent.logits.shape == (2, 5, 4)
    assert not torch.isclose(recurrent.masks.kernels[:, 0], recurrent.masks.kernels[:, 1]).all(-1).any()


def test_the_recurrence_is_causal_within_the_first_layer() -> None:
    """Permuting later frames never changes an earlier frame's queries; from the second layer on it may."""
    decoder, source = build(IFR.decoder), features(frames=4)
    order = torch.tensor([0, 1, 3, 2])
    permuted = PixelFeatures([level[:, order] for level in source.levels], source.masks[:, order])
    before, after = decoder(source), decoder(permuted)
    assert torch.equal(before[1].frames[:, :2], after[1].frames[:, :2])
    assert not torch.equal(before[1].frames[:, 2:], after[1].frames[:, 2:])
    assert not torch.equal(before[2].frames[:, :2], after[2].frames[:, :2])


@BOTH
@pytest.mark.parametrize("frames", [1, 2])
def test_short_clips(config: MaskedDecoderConfig, frames: int) -> None:
    last = build(config)(features(frames))[-1]
    assert last.masks(0, torch.tensor([4])).shape == (1, frames, 8, 24)


def test_class_bias_of_a_prior() -> None:
    decoder = MaskedDecoder(CHANNELS, HEADS, 5, 3, 4, MaskedDecoderConfig(num_layers=1), 0.0, prior=0.01)
    torch.testing.assert_close(decoder.class_head.bias.sigmoid(), torch.full((4,), 0.01))


@BOTH
def test_gradient_reaches_every_parameter(config: MaskedDecoderConfig) -> None:
    decoder = build(config, layers=4)
    loss: Tensor = sum(
        prediction.logits.square().sum() + prediction.masks(0, torch.arange(5)).square().sum()
        for prediction in decoder(features())
    )
    loss.backward()
    assert [name for name, parameter in decoder.named_parameters() if parameter.grad is None] == []
