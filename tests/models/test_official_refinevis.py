"""Released MaskDINO and IDOL state dicts: names, shapes and what is stored several times."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_official_mask2former import BACKBONE, backbone_names
from tiny_refinevis import DYNAMIC, MASKDINO
from torch import Tensor, nn

from vislab.errors import UserError
from vislab.models.counts import parameter_counts
from vislab.models.official.checkpoint import convert, load_strictly
from vislab.models.official.idol import idol_name
from vislab.models.official.maskdino import maskdino_name
from vislab.models.refinevis import RefineVISConfig
from vislab.models.refinevis_presets import idol, maskdino


def filled(model: nn.Module, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return model.eval()


def new_maskdino(seed: int) -> nn.Module:
    return filled(replace(MASKDINO, backbone=BACKBONE).build(), seed)


def new_idol(seed: int) -> nn.Module:
    config = RefineVISConfig(frame_model=replace(DYNAMIC, backbone=BACKBONE), tar=None, denoising=None)
    return filled(config.build(), seed)


def encoder_names(here: str, there: str) -> dict[str, str]:
    names = {"attention.spatial": "self_attn", "norm": "norm1", "feed_forward.norm": "norm2"}
    names |= {f"feed_forward.linear{i}": f"linear{i}" for i in (1, 2)}
    return {f"{here}encoder.layers.0.{ours}": f"{there}encoder.layers.0.{theirs}" for ours, theirs in names.items()}


def decoder_names(here: str, there: str, cross: str) -> dict[str, str]:
    names = {cross: "cross_attn", "norm": "norm1", "self_attention": "self_attn", "self_attention.norm": "norm2"}
    names |= {"feed_forward.norm": "norm3"} | {f"feed_forward.linear{i}": f"linear{i}" for i in (1, 2)}
    return {
        f"{here}decoder.layers.{layer}.{ours}": f"{there}decoder.layers.{layer}.{theirs}"
        for layer in range(2)
        for ours, theirs in names.items()
    }


def maskdino_names() -> dict[str, list[str]]:
    pixel, predictor = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
    names = backbone_names() | encoder_names("pixel_decoder.", pixel + "transformer.")
    names |= decoder_names("", predictor, "cross_attention")
    names |= {f"pixel_decoder.{name}": pixel + name for name in ("input_proj", "mask_features")}
    names |= {"pixel_decoder.level_embed": pixel + "transformer.level_embed"}
    for ours, theirs in (("lateral", "adapter_1"), ("smooth", "layer_1")):
        names |= {f"pixel_decoder.{ours}.0": pixel + theirs, f"pixel_decoder.{ours}.1": f"{pixel}{theirs}.norm"}
    heads = {"selection.project": "enc_output", "selection.norm": "enc_output_norm", "class_head": "class_embed"}
    heads |= {"mask_head": "mask_embed", "label_embed": "label_enc", "decoder.position_head": "decoder.ref_point_head"}
    every = {ours: [theirs] for ours, theirs in (names | {k: predictor + v for k, v in heads.items()}).items()}
    boxes = ["_bbox_embed", *(f"{place}bbox_embed.{layer}" for place in ("", "decoder.") for layer in range(2))]
    copies = {"decoder.box_head": boxes, "decoder.norm": ["decoder_norm", "decoder.norm"]}
    return every | {ours: [predictor + name for name in theirs] for ours, theirs in copies.items()}


def idol_names() -> dict[str, list[str]]:
    here, detr = "frame_model.", "detr.detr."
    names = {here + ours: detr + "backbone.0." + theirs for ours, theirs in backbone_names().items()}
    names |= encoder_names(here, detr + "transformer.")
    names |= decoder_names(here, detr + "transformer.", "cross_attention.spatial")
    names |= {here + name: f"{detr}transformer.{name}" for name in ("level_embed", "reference_points")}
    names |= {here + name: detr + name for name in ("query_embed", "input_proj")}
    names |= {here + "class_heads": detr + "class_embed", here + "controller": "detr.controller"}
    layers = {"top_down.0": "lay3", "top_down.1": "lay4", "top_down.2": "dcn", "reduce": "lay1", "project": "lay2"}
    names |= {f"{here}mask_features.{ours}": f"detr.mask_head.{theirs}" for ours, theirs in layers.items()}
    names |= {"association_head.mlp": "detr.reid_embed_head"}
    every = {ours: [theirs] for ours, theirs in names.items()}
    return every | {here + "decoder.box_heads": [detr + "bbox_embed", detr + "transformer.decoder.bbox_embed"]}


def released(model: nn.Module, names: dict[str, list[str]]) -> dict[str, Tensor]:
    """The state dict that the released code would have written for the weights of this model."""
    state = {}
    for ours, tensor in model.state_dict().items():
        prefix = max((p for p in names if ours == p or ours.startswith(p + ".")), key=len)
        for theirs in names[prefix]:
            state[theirs + ours.removeprefix(prefix)] = tensor.clone()
    return state


CASES = {
    "maskdino": (new_maskdino, maskdino_names, maskdino_name, "sem_seg_head.predictor.bbox_embed.1.layers.0.bias"),
    "idol": (new_idol, idol_names, idol_name, "detr.detr.transformer.decoder.bbox_embed.0.layers.0.bias"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_release_loads_exactly(case: str) -> None:
    new, names, name_of, _ = CASES[case]
    source, target = new(1), new(2)
    load_strictly(target, convert(released(source, names()), name_of), Path("weights"))
    for (name, expected), found in zip(source.state_dict().items(), target.state_dict().values(), strict=True):
        assert torch.equal(found, expected), name


@pytest.mark.parametrize("case", CASES)
def test_copies_must_be_equal(case: str) -> None:
    new, names, name_of, copy = CASES[case]
    state = released(new(1), names())
    state[copy] = state[copy] + 1
    with pytest.raises(UserError, match="should be the same tensor as another entry"):
        convert(state, name_of)


def test_settings_are_dropped_and_strangers_refused() -> None:
    assert maskdino_name("criterion.empty_weight") is None
    for name in ("sem_seg_head.predictor.query_feat.weight", "sem_seg_head.predictor.decoder.query_scale.weight", "x"):
        with pytest.raises(UserError, match="MaskDINO release"):
            maskdino_name(name)
    for name in ("detr.detr.transformer.enc_output.weight", "detr.unknown.weight", "x"):
        with pytest.raises(UserError, match="IDOL release"):
            idol_name(name)


@pytest.mark.parametrize(
    ("release", "preset", "name_of", "unread"),
    [("maskdino-r50-3s_dowsample1_2048", maskdino, maskdino_name, (81,)), ("idol-r50", idol, idol_name, None)],
)
def test_released_names_shapes_and_counts_cover_the_paper_model_exactly(
    release: str, preset: Callable, name_of: Callable, unread: tuple[int] | None, real_data: Path
) -> None:
    """As the released code builds it; entries that we have once have one shape."""
    path = real_data.parent / "reference" / "state-dicts" / f"{release}.json"
    if not path.is_file():
        pytest.skip(f"list of released names not found at {path}")
    manifest = json.loads(path.read_text())
    with torch.device("meta"):
        model = preset().build()
    found = {(name_of(name), tuple(shape)) for name, shape, _ in manifest["state"]}
    own = {(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()}
    assert found == own | ({(None, unread)} if unread else set())
    buffers = {name_of(name) for name, _, kind in manifest["state"] if kind == "buffer"}
    assert buffers - {None} == {name for name, _ in model.named_buffers()}
    counts, expected = parameter_counts(model), manifest["count"]
    assert (counts["unique"], counts["released"]) == (expected["unique_params"], expected["state_dict_numel"])
    assert counts["trainable"] == expected["trainable"]
