"""SeqFormer and TAFormer as wholes: shapes, padding, order of frames, gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import CHANNELS, SEQFORMER, TAFORMER, build, clips, noise, randomise
from torch import Tensor, nn
from torch.nn import functional

from vislab.blocks.clip_msda import ClipMSDAConfig
from vislab.blocks.dynamic_mask_head import dynamic_masks
from vislab.blocks.temporal_msda import TemporalMSDAConfig
from vislab.errors import UserError
from vislab.models.backbones import ResNetConfig, SwinConfig
from vislab.models.queries import grid_points
from vislab.models.seqformer import MaskHeadConfig, SeqFormer, SeqFormerConfig

EVERY_QUERY = torch.arange(SEQFORMER.num_queries)
CLIP_ENCODER = replace(SEQFORMER.encoder, temporal=ClipMSDAConfig(2))
SWIN = SwinConfig(depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), embed_dim=8, window_size=4)


@pytest.mark.parametrize("config", [SEQFORMER, TAFORMER, replace(SEQFORMER, num_levels=4)])
@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("sizes", [((64, 96), (45, 70)), ((33, 31),)])
def test_shapes(config: SeqFormerConfig, frames: int, sizes: tuple) -> None:
    model, (images, padding) = build(config), clips(frames, sizes=sizes)
    output = model(images, padding)
    batch = len(sizes)
    assert len(output.aux_outputs) == 2
    for layer in (*output.aux_outputs, output):
        assert layer.pred_logits.shape == (batch, 5, 3)
        assert layer.pred_boxes.shape == (batch, 5, frames, 4)
        assert ((layer.pred_boxes >= 0) & (layer.pred_boxes <= 1)).all()
        assert layer.frame_queries.shape == (batch, frames, 5, CHANNELS)
        masks = layer.pred_masks(batch - 1, torch.tensor([3, 1]))
        assert masks.shape == (2, frames, 64 // model.mask_stride, 96 // model.mask_stride)
        tensors = (layer.pred_logits, layer.pred_boxes, layer.frame_queries, masks)
        assert all(tensor.isfinite().all() for tensor in tensors)


def test_masks_of_chosen_queries_are_rows_of_all_masks() -> None:
    output = build(TAFORMER)(*clips())
    every = output.pred_masks(1, EVERY_QUERY)
    torch.testing.assert_close(output.pred_masks(1, torch.tensor([4, 0, 4])), every[[4, 0, 4]])
    assert output.pred_masks(0, EVERY_QUERY[:0]).shape == (0, 3, 16, 24)


@pytest.mark.parametrize("config", [SEQFORMER, TAFORMER])
def test_encoder_maps_are_what_the_mask_head_reads(config: SeqFormerConfig) -> None:
    model, (images, padding) = build(config), clips()
    kept: list[list[Tensor]] = []
    model.mask_features.register_forward_hook(lambda _, inputs, __: kept.append(inputs[0]))
    model(images, padding)
    maps = model.encoder_maps(images, padding)
    assert [each.shape[-2:] for each in maps] == [(8, 12), (4, 6), (2, 3)]
    for own, read in zip(maps, kept[0], strict=True):
        torch.testing.assert_close(own.flatten(0, 1), read)


@pytest.mark.parametrize("scale", [1.0, 32.0])
def test_masks_start_from_the_reference_of_the_layer_in_unpadded_pixels(scale: float) -> None:
    model = build(replace(SEQFORMER, mask_head=MaskHeadConfig(coordinate_scale=scale)))
    images, padding = clips()
    kept: dict[str, Tensor] = {}
    model.mask_features.register_forward_hook(lambda _, __, output: kept.update(features=output))
    model.controller.register_forward_hook(lambda _, __, output: kept.update(parameters=output))
    output = model(images, padding)
    points = output.aux_outputs[-1].pred_boxes[1, ..., :2] * torch.tensor([70, 45])
    features = kept["features"].unflatten(0, (2, 3))[1]
    expected = dynamic_masks(features, kept["parameters"][1], points, 8, scale)
    torch.testing.assert_close(output.pred_masks(1, EVERY_QUERY), expected)


def assert_same(first, second, frames: list[int] | slice = slice(None), **tolerance) -> None:
    """The first output, its frames reordered, equals the second, in every layer."""
    pairs = zip((*first.aux_outputs, first), (*second.aux_outputs, second), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a.pred_logits, b.pred_logits, **tolerance)
        torch.testing.assert_close(a.pred_boxes[:, :, frames], b.pred_boxes, **tolerance)
        masks = a.pred_masks(0, EVERY_QUERY)[:, frames], b.pred_masks(0, EVERY_QUERY)
        torch.testing.assert_close(*masks, **tolerance)


@pytest.mark.parametrize("config", [SEQFORMER, TAFORMER])
def test_clips_of_a_batch_do_not_meet(config: SeqFormerConfig) -> None:
    model, (images, padding) = build(config), clips()
    together, alone = model(images, padding), model(images[1:], padding[1:])
    torch.testing.assert_close(together.pred_logits[1:], alone.pred_logits)
    torch.testing.assert_close(together.pred_boxes[1:], alone.pred_boxes)
    torch.testing.assert_close(together.pred_masks(1, EVERY_QUERY), alone.pred_masks(0, EVERY_QUERY))


def test_seqformer_does_not_know_the_order_of_frames() -> None:
    model, (images, padding), order = build(SEQFORMER), clips(), [2, 0, 1]
    assert_same(model(images, padding), model(images[:, order], padding), order)


TEMPORAL_PARTS = {
    "T-MSDA": replace(SEQFORMER, encoder=TAFORMER.encoder),
    "temporal position": replace(SEQFORMER, temporal_position="index"),
    "normalised position": replace(SEQFORMER, temporal_position="normalised"),
    "all": TAFORMER,
}


@pytest.mark.parametrize("config", TEMPORAL_PARTS.values(), ids=TEMPORAL_PARTS)
def test_taformer_knows_the_order_of_frames(config: SeqFormerConfig) -> None:
    model, (images, padding), order = build(config), clips(frames=4), [3, 0, 2, 1]
    before, after = model(images, padding), model(images[:, order], padding)
    assert not torch.allclose(before.pred_logits, after.pred_logits)


def test_the_same_frame_control_does_not_see_the_other_frames() -> None:
    """All parameters of T-MSDA, no temporal information: exchanging inner frames exchanges the outputs."""
    temporal = TemporalMSDAConfig(num_points=2, window=1, neighbours="same-frame")
    model = build(replace(SEQFORMER, encoder=replace(SEQFORMER.encoder, temporal=temporal)))
    images, padding = clips(frames=5)
    order = [0, 3, 2, 1, 4]  # border frames have fewer neighbours, so they keep their places
    assert_same(model(images, padding), model(images[:, order], padding), order)


class PooledBackbone(nn.Module):
    """Averages of the image's cells: a feature map whose cells do not see their surroundings."""

    channels = (3, 3, 3)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [functional.avg_pool2d(images, stride) for stride in (8, 16, 32)]


@pytest.mark.parametrize("config", [SEQFORMER, TAFORMER], ids=["seqformer", "taformer"])
def test_more_padding_changes_nothing_after_the_backbone(config: SeqFormerConfig) -> None:
    """Backbone convolutions and group norms see the padding (in the release as well); nothing behind them does."""
    model = build(config)
    model.backbone = PooledBackbone()
    model.input_proj = randomise(nn.ModuleList(nn.Conv2d(3, CHANNELS, 1) for _ in range(3)), seed=5)
    images, padding = clips(sizes=((64, 96),))
    more_images = functional.pad(images, (0, 64, 0, 32))
    more_padding = functional.pad(padding, (0, 64, 0, 32), value=True)
    little, much = model(images, padding), model(more_images, more_padding)
    torch.testing.assert_close(little.pred_logits, much.pred_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(little.pred_boxes, much.pred_boxes, atol=1e-5, rtol=0)
    torch.testing.assert_close(little.frame_queries, much.frame_queries, atol=1e-5, rtol=0)


def test_padding_is_told_from_the_image() -> None:
    model, (images, padding) = build(SEQFORMER), clips()
    without = model(images, torch.zeros_like(padding))
    torch.testing.assert_close(model(images, padding).pred_logits[0], without.pred_logits[0])
    assert not torch.allclose(model(images, padding).pred_logits[1], without.pred_logits[1])


def total(model: SeqFormer, frames: int = 3) -> Tensor:
    output = model(*clips(frames))
    loss = torch.zeros((), dtype=torch.float64)
    for layer in (*output.aux_outputs, output):
        masks = layer.pred_masks(0, EVERY_QUERY)
        loss = loss + layer.pred_logits.square().sum() + layer.pred_boxes.square().sum() + masks.tanh().square().sum()
    return loss


FOUR_LEVELS = {
    "seqformer": replace(SEQFORMER, num_levels=4),
    "taformer": replace(TAFORMER, num_levels=4),
    "grid": replace(SEQFORMER, reference_init="grid"),
}


@pytest.mark.parametrize("config", FOUR_LEVELS.values(), ids=FOUR_LEVELS)
def test_gradients_reach_every_parameter(config: SeqFormerConfig) -> None:
    model = build(config)
    total(model).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert [name for name, p in model.named_parameters() if p.dim() > 1 and not p.grad.any()] == []


@pytest.mark.parametrize("config", [SEQFORMER, TAFORMER], ids=["seqformer", "taformer"])
def test_gradients_of_one_frame_are_finite(config: SeqFormerConfig) -> None:
    model = build(config)
    total(model, frames=1).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_frozen_stages_get_no_gradient_and_everything_else_does() -> None:
    backbone = ResNetConfig(depths=(1, 1, 1, 1), widths=(8, 8, 16, 16), stem_width=8, layer_type="basic")
    model = build(replace(SEQFORMER, backbone=backbone))
    total(model).backward()
    missing = {name for name, p in model.named_parameters() if p.grad is None}
    frozen = ("backbone.body.embedder.", "backbone.body.encoder.stages.0.")
    assert missing and missing == {name for name, _ in model.named_parameters() if name.startswith(frozen)}


def test_gradients_reach_every_parameter_of_a_swin_model() -> None:
    model = build(replace(SEQFORMER, backbone=SWIN))
    total(model).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_float32_and_float64_agree() -> None:
    """The reference points are float32 in either, so agreement is that of float32."""
    images, padding = clips()
    double, single = build(TAFORMER), build(TAFORMER).float()
    exact, rounded = double(images, padding), single(images.float(), padding)
    assert rounded.pred_logits.dtype == torch.float32
    torch.testing.assert_close(rounded.pred_logits, exact.pred_logits.float(), atol=1e-3, rtol=1e-3)


def test_grid_references_are_the_first_references() -> None:
    model = replace(SEQFORMER, reference_init="grid").build().eval()
    output = model(*(x.float() if x.is_floating_point() else x for x in clips()))
    centres = output.aux_outputs[0].pred_boxes[0, :, 0, :2]
    torch.testing.assert_close(centres, grid_points(5), atol=1e-5, rtol=0)


def test_new_model_predicts_rare_classes() -> None:
    model = SEQFORMER.build()
    assert all(head.bias.sigmoid().sub(0.01).abs().max() < 1e-6 for head in model.class_heads)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_levels": 2}, "num_levels is 2, expected at least 3"),
        ({"num_heads": 3}, "hidden_dim is 16, expected a multiple of 4 and of num_heads, 3"),
        ({"hidden_dim": 6, "num_heads": 2}, "hidden_dim is 6, expected a multiple of 4"),
        ({"encoder": CLIP_ENCODER}, "clip_length is None, expected the number of frames of a clip, which ClipMSDA"),
        ({"encoder": CLIP_ENCODER, "clip_length": 0}, "clip_length is 0, expected None or at least 1"),
    ],
)
def test_settings_that_cannot_be(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(SEQFORMER, **changes).build()


def test_dropout_acts_in_training_only() -> None:
    model = randomise(replace(SEQFORMER, dropout=0.3).build())
    images, padding = clips()
    expected = build(SEQFORMER)(images, padding).pred_logits
    torch.testing.assert_close(model.eval()(images, padding).pred_logits, expected)
    torch.manual_seed(0)
    assert not torch.allclose(model.train()(images, padding).pred_logits, noise(1) + expected)


@pytest.mark.parametrize("init", ["linear", "grid"])
def test_autocast_keeps_boxes_and_masks_in_float32(init: str) -> None:
    """bfloat16 has 8 bits: boxes would be off by a pixel, coordinates of the mask head by two."""
    model, (images, padding) = build(replace(TAFORMER, reference_init=init)).float(), clips()
    expected = model(images.float(), padding)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(images.float(), padding)
        masks = output.pred_masks(1, EVERY_QUERY)
    assert output.pred_boxes.dtype == masks.dtype == torch.float32
    torch.testing.assert_close(output.pred_boxes, expected.pred_boxes, atol=0.01, rtol=0)
    (output.pred_logits.float().sum() + output.pred_boxes.sum() + masks.tanh().sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("config", [SEQFORMER, TAFORMER], ids=["seqformer", "taformer"])
def test_devis_attention_in_the_encoder(config: SeqFormerConfig) -> None:
    """ClipMSDA takes T-MSDA's place; the model then takes clips of its clip_length only."""
    model = build(replace(config, encoder=CLIP_ENCODER, clip_length=3))
    assert model.clip_length == 3 and build(config).clip_length is None
    total(model).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    images, padding = clips()
    before, after = model(images, padding), model(images[:, [0, 2, 1]], padding)
    assert not torch.allclose(before.pred_logits, after.pred_logits)
    with pytest.raises(UserError, match="clip of 4 frames, expected the model's clip_length of 3"):
        model(*clips(frames=4))


def test_devis_attention_without_temporal_points_is_seqformer() -> None:
    encoder = replace(CLIP_ENCODER, temporal=ClipMSDAConfig(0))
    model, plain = build(replace(SEQFORMER, encoder=encoder)), build(SEQFORMER)
    assert_same(model(*clips()), plain(*clips()), atol=0, rtol=0)
