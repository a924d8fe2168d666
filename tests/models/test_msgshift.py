"""MsgShifT: PVT v2 of another library without its tokens, and what its tokens carry between frames."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from tiny_models import noise, randomise
from torch import Tensor

from vislab.blocks.frame_aggregation import FrameConvolutionConfig, FrameTransformerConfig
from vislab.blocks.messenger_shift import MessengerShiftConfig, MessengerTransformerConfig
from vislab.errors import UserError
from vislab.models.msgshift import AggregationConfig, MsgShift, MsgShiftConfig

TINY = MsgShiftConfig(
    depths=(2, 1, 2, 2), widths=(8, 12, 16, 16), num_heads=(1, 2, 2, 4), feed_forward_ratios=(2, 2, 2, 2), num_tokens=8,
    drop_path=0.0,
)  # fmt: skip
PLAIN = replace(TINY, num_tokens=0, aggregation=None)


def build(config: MsgShiftConfig, seed: int = 0) -> MsgShift:
    return randomise(config.build(), seed).eval()


def library_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our PVT v2 weights under the names of transformers' PvtV2Backbone."""
    names = [
        (r"^stages\.(\d)\.embedding\.projection", r"encoder.layers.\1.patch_embedding.proj"),
        (r"^stages\.(\d)\.embedding\.norm", r"encoder.layers.\1.patch_embedding.layer_norm"),
        (r"^stages\.(\d)\.norm", r"encoder.layers.\1.layer_norm"),
        (r"^stages\.(\d)\.layers\.", r"encoder.layers.\1.blocks."),
        (r"attention_norm", "layer_norm_1"), (r"feed_forward_norm", "layer_norm_2"),
        (r"attention\.reduce\.", "attention.spatial_reduction."), (r"reduce_norm", "layer_norm"),
        (r"out_proj", "proj"), (r"feed_forward\.expand", "mlp.dense1"), (r"feed_forward\.contract", "mlp.dense2"),
        (r"feed_forward\.depthwise", "mlp.dwconv.dwconv"),
    ]  # fmt: skip
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        if "in_proj" in name:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[name.replace("in_proj_", f"{part}.")] = piece
        else:
            renamed[name] = tensor.flatten(1) if "dense" in name and tensor.dim() == 4 else tensor
    del renamed["messengers"]
    return renamed


def test_without_tokens_it_is_pvt_v2() -> None:
    from transformers import PvtV2Backbone, PvtV2Config

    library = PvtV2Backbone(
        PvtV2Config(
            hidden_sizes=list(PLAIN.widths), depths=list(PLAIN.depths), num_attention_heads=list(PLAIN.num_heads),
            mlp_ratios=list(PLAIN.feed_forward_ratios), sr_ratios=list(PLAIN.reductions),
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
    ).double().eval()  # fmt: skip
    model = build(PLAIN)
    library.load_state_dict(library_state(model.state_dict()))
    clips = noise(2, 2, 3, 64, 96)
    for ours, theirs in zip(model(clips), library(clips.flatten(0, 1)).feature_maps, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 160)])
def test_maps_of_the_stated_strides_and_widths(height: int, width: int) -> None:
    model = build(TINY)
    maps = model(noise(2, 3, 3, height, width))
    assert [tuple(feature.shape) for feature in maps] == [
        (6, channels, height // stride, width // stride)
        for channels, stride in zip(model.channels, model.strides, strict=True)
    ]


AGGREGATIONS = [
    MessengerShiftConfig(), MessengerTransformerConfig(1), FrameConvolutionConfig(), FrameTransformerConfig(1), None,
]  # fmt: skip


@pytest.mark.parametrize("aggregation", AGGREGATIONS, ids=lambda a: type(a).__name__)
def test_frames_meet_through_the_aggregation_only_and_clips_never(aggregation: AggregationConfig | None) -> None:
    model, clips = build(replace(TINY, aggregation=aggregation)), noise(2, 3, 3, 64, 64)
    changed = clips.clone()
    changed[0, 1] += 1
    reached = [
        (after - before).abs().amax((1, 2, 3)) > 1e-9
        for before, after in zip(model(clips), model(changed), strict=True)
    ]
    others = aggregation is not None
    assert [frames.tolist() for frames in reached] == [[others, True, others, False, False, False]] * 4


def test_features_roll_with_the_clip() -> None:
    """A cyclic shift knows no first frame."""
    model, clips = build(TINY), noise(1, 5, 3, 64, 64)
    for straight, rolled in zip(model(clips), model(clips.roll(2, 1)), strict=True):
        torch.testing.assert_close(rolled, straight.roll(2, 0))


def test_one_frame_does_not_notice_the_shift() -> None:
    clips, shifting = noise(2, 1, 3, 64, 64), build(TINY)
    still = build(replace(TINY, aggregation=None))
    for one, other in zip(shifting(clips), still(clips), strict=True):
        assert torch.equal(one, other)


def test_only_new_layers_add_parameters() -> None:
    sizes = {type(a): sum(p.numel() for p in replace(TINY, aggregation=a).build().parameters()) for a in AGGREGATIONS}
    nothing = sizes[type(None)]
    assert sizes[MessengerShiftConfig] == nothing == sum(p.numel() for p in PLAIN.build().parameters()) + 8 * 3
    assert sizes[MessengerTransformerConfig] == sizes[FrameTransformerConfig] > nothing
    layers = [width for width, depth in zip(TINY.widths, TINY.depths, strict=True) for _ in range(depth)]
    assert sizes[FrameConvolutionConfig] == nothing + sum(3 * width * width + width for width in layers)


@pytest.mark.parametrize("kind", ["zero", "random"])
def test_other_tokens_at_inference_leave_training_alone(kind: str) -> None:
    clips = noise(1, 2, 3, 64, 64)
    learned, replaced = build(TINY), build(replace(TINY, inference_tokens=kind))
    assert all(torch.equal(a, b) for a, b in zip(learned.train()(clips), replaced.train()(clips), strict=True))
    at_inference = replaced.eval()(clips)
    assert not any(torch.allclose(a, b) for a, b in zip(learned.eval()(clips), at_inference, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(at_inference, replaced(clips), strict=True)), "the same draw"
    tokens = replaced._tokens()
    assert tokens.shape == learned.messengers.shape and tokens.dtype == torch.float64
    assert tokens.any() == (kind == "random") and tokens.abs().max() < 0.1
    learned.messengers.data.copy_(tokens)
    assert all(torch.equal(a, b) for a, b in zip(learned(clips), at_inference, strict=True))


def test_gradients_reach_every_parameter() -> None:
    model = build(replace(TINY, tokens_in_kv_sr1=True)).train()
    sum(feature.square().sum() for feature in model(noise(1, 2, 3, 64, 64))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_drop_path_rises_linearly() -> None:
    stages = replace(TINY, drop_path=0.12).build().stages
    rates = [layer.drop_path for stage in stages for layer in stage.layers]
    assert rates == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_tokens": 6}, "num_tokens is 6, expected a positive multiple of 4"),
        ({"num_tokens": 0}, "num_tokens is 0, expected a positive multiple of 4"),
        ({"num_tokens": 0, "aggregation": MessengerTransformerConfig()}, "num_tokens is 0, expected some"),
        ({"num_heads": (1, 2, 3, 4)}, "widths has 16, expected a multiple of its num_heads, 3"),
        ({"aggregation": MessengerShiftConfig(strides=())}, "strides is empty"),
    ],
)
def test_configurations_that_cannot_be(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(TINY, **changes).build()
