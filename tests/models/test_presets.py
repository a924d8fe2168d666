"""Named models at every scale, and what happens to names that do not exist."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from vislab.blocks.temporal_msda import TemporalMSDAConfig
from vislab.errors import UserError
from vislab.models.presets import PRESETS, Scale, build_model, seqformer, taformer, with_num_classes


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("scale", get_args(Scale))
def test_every_model_builds_on_the_meta_device(name: str, scale: Scale) -> None:
    model = build_model(name, scale, device="meta")
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


FRAME_BY_FRAME = ("refinevis", "refinevis-mask2former", "refinevis-condinst", "idol", "maskdino")
OF_CLIPS = [name for name in PRESETS if name not in FRAME_BY_FRAME]


@pytest.mark.parametrize("name", OF_CLIPS)
def test_the_smallest_models_run(name: str) -> None:
    model = build_model(name, "smoke").eval()
    frames = model.clip_length or 2
    output = model(torch.randn(1, frames, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool))
    assert output.pred_boxes.shape == (1, model.config.num_queries, frames, 4)
    assert (output.pred_masks is None) == (name == "deformable-detr")
    if output.pred_masks is not None:
        side = 64 // model.mask_stride
        assert output.pred_masks(0, torch.tensor([0])).shape == (1, frames, side, side)


@pytest.mark.parametrize("name", FRAME_BY_FRAME)
def test_the_smallest_models_of_single_frames_run(name: str) -> None:
    model = build_model(name, "smoke").eval()
    padding = torch.zeros(1, 64, 64, dtype=torch.bool)
    if name == "maskdino":
        frames = model(torch.randn(2, 3, 64, 64), padding.expand(2, -1, -1))
    else:
        output = model(torch.randn(1, 2, 3, 64, 64), padding)
        frames = output.frames
        assert output.num_frames == 2 and (output.refine is None) == (name == "idol")
    count = frames.logits.shape[1]
    assert frames.logits.shape == (2, count, 8) and frames.boxes.shape == (2, count, 4)
    assert frames.masks(1, torch.tensor([0])).shape == (1, 16, 16)


@pytest.mark.parametrize("name", OF_CLIPS)
def test_a_model_runs_on_the_meta_device(name: str) -> None:
    """Counting operations needs shapes only."""
    model = build_model(name, "smoke", device="meta").eval()
    frames = model.clip_length or 2
    with torch.device("meta"):
        output = model(torch.zeros(1, frames, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool))
        if output.pred_masks is not None:
            side = 64 // model.mask_stride
            assert output.pred_masks(0, torch.arange(3)).shape == (3, frames, side, side)


def test_taformer_is_seqformer_with_its_temporal_slots_filled() -> None:
    for scale in get_args(Scale):
        changes = {
            "encoder.temporal": None, "decoder.temporal_attention": None, "temporal_position": None
        }  # fmt: skip
        ablated = build_model("taformer", scale, device="meta", changes=changes)
        assert ablated.config == seqformer(scale)
        assert taformer(scale) != seqformer(scale)


def test_changes_by_dotted_path_and_by_field() -> None:
    model = build_model(
        "taformer", "tiny", device="meta", changes={"encoder.temporal.num_points": 2, "decoder.num_layers": 2},
        num_queries=7,
    )  # fmt: skip
    assert model.config.encoder.temporal == TemporalMSDAConfig(num_points=2)
    assert model.query_embed.weight.shape == (7, 256) and len(model.decoder.layers) == 2


def test_a_slot_is_filled_before_its_fields_are_changed() -> None:
    changes = {"encoder.temporal": TemporalMSDAConfig(), "encoder.temporal.window": 3}
    model = build_model("seqformer", "tiny", device="meta", changes=changes)
    assert model.config.encoder.temporal.window == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "seqfomer"}, "unknown model 'seqfomer': expected one of seqformer, taformer, deformable-detr, "),
        ({"name": "seqformer", "scale": "huge"}, "unknown scale 'huge': expected one of smoke, tiny, small, paper"),
        ({"name": "seqformer", "queries": 5}, "unknown field 'queries' of seqformer: expected one of backbone, num_c"),
        ({"name": "taformer", "changes": {"encoder.tempral.window": 1}}, "'encoder' .* has num_layers.*temporal"),
        ({"name": "seqformer", "changes": {"encoder.temporal.window": 1}}, "'encoder.temporal' is None"),
        ({"name": "taformer", "changes": {"encoder.temporal.window": "2"}}, "'encoder.temporal.window' is '2'"),
        ({"name": "taformer", "num_queries": 2.5}, "'num_queries' is 2.5"),
        ({"name": "taformer", "changes": {"encoder.temporal.border": "wrap"}}, "expected 'mask' or 'clamp' or"),
        ({"name": "taformer", "scale": "tiny", "changes": {"encoder.spatial.levels": (3,)}}, "levels is"),
        ({"name": "taformer", "scale": "tiny", "changes": {"encoder.temporal.window": 0}}, "window is 0"),
    ],
)
def test_mistakes_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(**({"device": "meta"} | arguments))


@pytest.mark.parametrize("name", ["seqformer", "mask2former-vis", "refinevis", "refinevis-mask2former", "idol"])
def test_models_take_the_classes_of_a_data_set(name: str) -> None:
    config = with_num_classes(PRESETS[name]("smoke"), 5)  # type: ignore[arg-type]
    assert config.num_classes == 5 and with_num_classes(config, 8) == PRESETS[name]("smoke")
    with torch.device("meta"):
        shapes = [tuple(value.shape) for key, value in config.build().state_dict().items() if "class_head" in key]
    assert any(shape[0] in (5, 6) for shape in shapes)  # 6: one of them no object
