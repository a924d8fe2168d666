"""DeVIS as a whole: shapes, frames, masks, image mode, options, swaps with other models' blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import CHANNELS, DEVIS, IMAGE_MODE, build_devis, clips, randomise
from torch import Tensor

from vislab.blocks.clip_msda import ClipMSDAConfig
from vislab.blocks.multi_scale_mask_head import MultiScaleMaskHeadConfig
from vislab.blocks.position_encoding import spatial_sine_encoding
from vislab.blocks.temporal_msda import TemporalMSDAConfig
from vislab.blocks.vistr_mask_head import VisTRMaskHeadConfig
from vislab.config import with_changes
from vislab.errors import UserError
from vislab.models.devis import Devis, DevisConfig
from vislab.models.presets import build_model

QUERIES = DEVIS.num_queries
EVERY_QUERY = torch.arange(QUERIES)
NAIVE: dict[str, Any] = {
    "num_levels": 1, "decoder.instance_aware": False, "mask_head": VisTRMaskHeadConfig(deformable=False),
    "mask_layers": (),
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "devis": {},
    "four levels": {"num_levels": 4},
    "naive": NAIVE,
    "naive, four levels": NAIVE | {"num_levels": 4},
    "no temporal points": {"encoder.temporal.num_points": 0, "decoder.temporal.num_points": 0},
    "detr mask head": {"mask_head": MultiScaleMaskHeadConfig(1, False, False)},
    "detr mask head, one level": {"num_levels": 1, "mask_head": MultiScaleMaskHeadConfig(1, False, False)},
    "grid": {"reference_init": "grid", "mask_padding": True, "position_offset": -0.5},
    "sines": {"temporal_position": "index"},
    "taformer's encoder": {"encoder.temporal": TemporalMSDAConfig(2, window=1)},
    "taformer's attention": {"decoder.temporal": TemporalMSDAConfig(2, window=1)},
}


def variant(name: str) -> DevisConfig:
    return with_changes(DEVIS, VARIANTS[name])


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("sizes", [((64, 96), (45, 70)), ((33, 31),)])
def test_shapes(name: str, sizes: tuple) -> None:
    model, (images, padding) = build_devis(variant(name)), clips(sizes=sizes)
    output, batch = model(images, padding), len(sizes)
    assert len(output.aux_outputs) == 2
    for layer in (*output.aux_outputs, output):
        assert layer.pred_logits.shape == (batch, QUERIES, 3, 3)
        assert layer.class_scores().shape == (batch, QUERIES, 3)
        assert layer.pred_boxes.shape == (batch, QUERIES, 3, 4)
        assert ((layer.pred_boxes >= 0) & (layer.pred_boxes <= 1)).all()
        assert layer.frame_queries.shape == (batch, 3, QUERIES, CHANNELS)
    masks = output.pred_masks(batch - 1, torch.tensor([3, 1]))
    assert masks.shape == (2, 3, 64 // model.mask_stride, 96 // model.mask_stride) and masks.isfinite().all()


def test_only_chosen_layers_predict_masks() -> None:
    output = build_devis()(*clips())
    assert [layer.pred_masks is not None for layer in (*output.aux_outputs, output)] == [False, True, True]
    assert not torch.allclose(output.aux_outputs[1].pred_masks(0, EVERY_QUERY), output.pred_masks(0, EVERY_QUERY))
    without = build_devis(replace(DEVIS, mask_head=None))(*clips())
    assert [layer.pred_masks for layer in (*without.aux_outputs, without)] == [None] * 3


def test_masks_of_chosen_queries_are_rows_of_all_masks() -> None:
    output = build_devis()(*clips())
    every = output.pred_masks(1, EVERY_QUERY)
    torch.testing.assert_close(output.pred_masks(1, torch.tensor([3, 0, 3])), every[[3, 0, 3]])
    assert output.pred_masks(0, EVERY_QUERY[:0]).shape == (0, 3, 16, 24)


def test_training_on_all_queries_computes_every_mask_once_and_picks() -> None:
    """Table 2's first row against its second."""
    head = MultiScaleMaskHeadConfig(positive_only=False)
    picky, wasteful = build_devis().train(), build_devis(replace(DEVIS, mask_head=head)).train()
    computed: list[int] = []
    wasteful.mask_head.register_forward_hook(lambda _, args, __: computed.append(len(args[0])))
    first, second = picky(*clips()), wasteful(*clips())
    for query in ([1], [2, 0]):
        masks = first.pred_masks(0, torch.tensor(query)), second.pred_masks(0, torch.tensor(query))
        torch.testing.assert_close(*masks)
    assert computed == [QUERIES]
    wasteful.eval()(*clips()).pred_masks(0, torch.tensor([1]))
    assert computed == [QUERIES, 1]


def test_maps_that_the_mask_head_reads() -> None:
    """Encoded levels and C2; without encoded features C3, C4 and the projected C5, or for VisTR the encoded C5."""
    images, padding = clips()
    for name in ("devis", "detr mask head", "naive", "naive, four levels"):
        model = build_devis(variant(name))
        maps, memory = model._memory(images, padding)
        inputs = model._mask_inputs(maps, memory, padding)
        encoded = model.encoded_maps(memory.tokens, maps.projected)
        stride32 = min(len(encoded), 3) - 1
        assert [key.shape[-2:] for key in inputs.keys] == [mask.shape[-2:] for mask in inputs.padding_masks]
        assert all(a is b for a, b in zip(inputs.keys, encoded, strict=False)) or torch.equal(
            inputs.keys[0], encoded[0]
        )
        torch.testing.assert_close(inputs.finest, maps.raw[0])
        if name == "devis":
            torch.testing.assert_close(inputs.levels, encoded)
        else:
            torch.testing.assert_close(inputs.levels[:2], maps.raw[1:3])
            last = maps.projected if name == "detr mask head" else encoded
            torch.testing.assert_close(inputs.levels[2], last[stride32])


def test_queries_are_stored_frame_by_frame_position_before_content() -> None:
    model = build_devis()
    content, position, reference = model._queries()
    for frame in range(3):
        for query in range(QUERIES):
            row = model.query_embed.weight[frame * QUERIES + query]
            torch.testing.assert_close(position[frame, query], row[:CHANNELS])
            torch.testing.assert_close(content[frame, query], row[CHANNELS:])
            expected = model.reference_points(row[:CHANNELS]).sigmoid()
            torch.testing.assert_close(reference[frame, query], expected)


def test_clips_of_a_batch_do_not_meet() -> None:
    model, (images, padding) = build_devis(), clips()
    together, alone = model(images, padding), model(images[1:], padding[1:])
    torch.testing.assert_close(together.pred_logits[1:], alone.pred_logits)
    torch.testing.assert_close(together.pred_boxes[1:], alone.pred_boxes)
    torch.testing.assert_close(together.pred_masks(1, EVERY_QUERY), alone.pred_masks(0, EVERY_QUERY))


@pytest.mark.parametrize("temporal", [True, False])
def test_equal_queries_without_temporal_parts_do_not_know_the_order_of_frames(temporal: bool) -> None:
    """Frames meet in the joint self-attention, which has no order; TMSDA's slots and the learned encoding have one."""
    changes = {} if temporal else VARIANTS["no temporal points"] | {"temporal_position": None}
    model = build_devis(with_changes(DEVIS, changes))
    with torch.no_grad():
        model.query_embed.weight.copy_(model.query_embed.weight[:QUERIES].repeat(3, 1))
    (images, padding), order = clips(), [2, 0, 1]
    before, after = model(images, padding), model(images[:, order], padding)
    assert torch.allclose(before.pred_logits[:, :, order], after.pred_logits) != temporal
    assert torch.allclose(before.pred_boxes[:, :, order], after.pred_boxes) != temporal


def test_the_learned_temporal_encoding_tells_frames_apart() -> None:
    model = build_devis()
    images, padding = clips()
    assert model.temporal_encoding.weight.shape == (3, CHANNELS)
    seen: dict[str, Tensor] = {}
    model.encoder.register_forward_pre_hook(lambda _, args: seen.update(position=args[1]))
    model(images, padding)
    mask = torch.nn.functional.interpolate(padding[:, None].float(), size=(8, 12))[:, 0] > 0.5
    spatial = spatial_sine_encoding(mask, CHANNELS, offset=0.0).flatten(1, 2) + model.level_embed[0]
    expected = spatial[:, None] + model.temporal_encoding.weight[:, None]
    torch.testing.assert_close(seen["position"][:, :, :96], expected)


@pytest.mark.parametrize("mask_padding", [True, False])
def test_padded_tokens_are_sampled_unless_masked(mask_padding: bool) -> None:
    model, (images, padding) = build_devis(replace(DEVIS, mask_padding=mask_padding)), clips()
    maps = model.extract(images).projected
    other = [feature_map.clone() for feature_map in maps]
    other[0][1, :, :, -1, -1] += 10.0
    tokens = [model.encode(part, padding, None).tokens for part in (maps, other)]
    inside = (~padding[1, ::8, ::8]).flatten().nonzero()[:, 0]
    same = torch.equal(tokens[0][1][:, inside], tokens[1][1][:, inside])
    assert same == mask_padding


@pytest.mark.parametrize("frames", [1, 2, 4, 6])
def test_another_number_of_frames_is_one_clear_error(frames: int) -> None:
    model = build_devis()
    assert model.clip_length == 3
    with pytest.raises(UserError, match=f"^clip of {frames} frames, expected the model's clip_length of 3$"):
        model(*clips(frames))
    with pytest.raises(UserError, match="expected the model's clip_length of 3"):
        model.attended_points(*clips(frames))


def test_image_mode_has_nothing_temporal() -> None:
    model = build_devis(IMAGE_MODE)
    assert model.temporal_encoding is None and not [name for name, _ in model.named_parameters() if "temporal" in name]
    assert model.state_dict().keys() == build_devis(replace(DEVIS, clip_length=1)).state_dict().keys()
    output = model(*clips(1))
    assert output.pred_logits.shape == (2, QUERIES, 1, 3)
    torch.testing.assert_close(output.class_scores(), output.pred_logits[:, :, 0].sigmoid().float())
    assert output.pred_masks(1, torch.tensor([2])).shape == (1, 1, 16, 24)


def total(model: Devis) -> Tensor:
    output = model(*clips(model.clip_length))
    loss = torch.zeros((), dtype=torch.float64)
    for layer in (*output.aux_outputs, output):
        loss = loss + layer.pred_logits.square().sum() + layer.pred_boxes.square().sum()
        if layer.pred_masks is not None:
            loss = loss + layer.pred_masks(0, EVERY_QUERY).tanh().square().sum()
    return loss


@pytest.mark.parametrize("config", [*map(variant, VARIANTS), IMAGE_MODE], ids=[*VARIANTS, "image mode"])
def test_gradients_reach_every_parameter(config: DevisConfig) -> None:
    model = build_devis(config)
    total(model).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_gradients_of_masks_of_no_instance() -> None:
    model = build_devis()
    model(*clips()).pred_masks(0, EVERY_QUERY[:0]).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_float32_and_float64_agree() -> None:
    images, padding = clips()
    exact, rounded = build_devis()(images, padding), build_devis().float()(images.float(), padding)
    assert rounded.pred_logits.dtype == torch.float32
    torch.testing.assert_close(rounded.pred_logits, exact.pred_logits.float(), atol=1e-3, rtol=1e-3)


def test_bfloat16_autocast_keeps_boxes_precise() -> None:
    model, (images, padding) = randomise(DEVIS.build()).float().eval(), clips()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(images.float(), padding)
        masks = output.pred_masks(0, EVERY_QUERY)
    assert output.pred_boxes.dtype == torch.float32
    assert output.pred_logits.isfinite().all() and masks.isfinite().all()


def test_attended_points_of_every_layer() -> None:
    model = build_devis(with_changes(DEVIS, {"decoder.temporal.num_points": 2}))
    layers = model.attended_points(*clips())
    assert len(layers) == 3
    for index, points in enumerate(layers):
        assert points.frames.tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1]]
        assert points.reference.shape == (2, 3, QUERIES, 3, 2 if index == 0 else 4)
        assert points.locations.shape == (2, 3, QUERIES, 2, 3, 3, 4, 2)
        assert points.weights.shape == points.locations.shape[:-1]
        assert not points.weights[:, :, :, :, 1:, :, 2:].any(), "K_temp is 2"
        assert not points.weights.requires_grad
    boxes = model(*clips()).aux_outputs[0].pred_boxes  # what layer 1 starts from, here of an unpadded clip
    torch.testing.assert_close(layers[1].reference[0, 0, :, 2], boxes[0, :, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_levels": 2}, r"num_levels is 2, expected 1 \(stride 32\) or at least 3"),
        ({"num_levels": 1}, "num_levels is 1, expected at least 3 for mask_head.encoded_features"),
        (
            {"num_levels": 1, "mask_head": MultiScaleMaskHeadConfig(3, False)},
            "mask_head.attention_scales is 3, expected at most num_levels, 1",
        ),
        ({"clip_length": 0}, "clip_length is 0, expected at least 1"),
        ({"num_queries": 0}, "num_queries is 0, expected at least 1"),
        ({"mask_layers": (3,)}, r"mask_layers is \(3,\), expected some of 0 to 2"),
        ({"hidden_dim": 24}, "hidden_dim is 24, expected a multiple of 16"),
        ({"num_heads": 3}, "hidden_dim is 16, expected a multiple of 4 and of num_heads, 3"),
    ],
)
def test_settings_that_cannot_be(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(DEVIS, **changes).build()


def test_blocks_are_swapped_in_one_line_of_changes() -> None:
    clip = ClipMSDAConfig(num_points=2)
    taformer = build_model("taformer", "smoke", "meta", {"encoder.temporal": clip, "clip_length": 5})
    assert taformer.encoder.layers[0].attention.temporal.num_slots == 4
    devis = build_model("devis", "smoke", "meta", {"encoder.temporal": TemporalMSDAConfig(window=1)})
    assert devis.encoder.layers[0].attention.fusion is not None
    ablated = build_model("devis", "smoke", "meta", {"encoder.temporal": None, "decoder.temporal.num_points": 0})
    assert not [name for name, _ in ablated.named_parameters() if "temporal." in name]
