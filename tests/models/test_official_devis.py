"""Released DeVIS and Deformable DETR state dicts: every name, aliases, what may be wrong with a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_official import resnet_names
from tiny_models import DEVIS, IMAGE_MODE, build_devis, clips
from torch import Tensor, nn

from vislab.errors import UserError
from vislab.models.backbones import RESNET50
from vislab.models.devis import Devis, DevisConfig
from vislab.models.official import load_official
from vislab.models.official.devis import devis_name
from vislab.models.presets import build_model

BACKBONE = replace(RESNET50, depths=(1, 2, 1, 1), widths=(8, 16, 16, 32), stem_width=4)
VIDEO = replace(DEVIS, backbone=BACKBONE, num_levels=4)
IMAGE = replace(IMAGE_MODE, backbone=BACKBONE, num_levels=4, mask_head=None, mask_layers=())
State = dict[str, Tensor]


def new_model(config: DevisConfig, seed: int) -> Devis:
    model = build_devis(config, seed).float()
    for index, buffer in enumerate(model.buffers()):
        buffer.copy_(torch.rand(buffer.shape, generator=torch.Generator().manual_seed(100 * seed + index)) + 0.5)
    return model


def transformer_names(config: DevisConfig) -> dict[str, str]:
    """Our prefix -> the release's prefix, below the wrapped Deformable DETR."""
    names = {name: f"transformer.{name}" for name in ("level_embed", "reference_points")}
    names |= {"query_embed": "query_embed", "input_proj": "input_proj", "class_heads": "class_embed"}
    names["temporal_encoding.weight"] = "backbone.1.temporal_embed"
    common = {f"feed_forward.linear{i}": f"linear{i}" for i in (1, 2)}
    encoder = {"attention": "self_attn", "norm": "norm1", "feed_forward.norm": "norm2"} | common
    decoder = {"cross_attention": "cross_attn", "norm": "norm1", "self_attention.norm": "norm2"} | common
    decoder |= {
        f"self_attention.{part}": f"self_attn.{part}" for part in ("in_proj_weight", "in_proj_bias", "out_proj")
    }
    decoder["feed_forward.norm"] = "norm3"
    for room, parts in (("encoder", encoder), ("decoder", decoder)):
        for layer in range(getattr(config, room).num_layers):
            for ours, theirs in parts.items():
                if theirs in ("self_attn", "cross_attn"):
                    names[f"{room}.layers.{layer}.{ours}.spatial"] = f"transformer.{room}.layers.{layer}.{theirs}"
                    for projection in ("sampling_offsets", "attention_weights"):
                        place = f"{room}.layers.{layer}.{ours}.temporal.{projection}"
                        names[place] = f"transformer.{room}.layers.{layer}.{theirs}.temporal_{projection}"
                else:
                    names[f"{room}.layers.{layer}.{ours}"] = f"transformer.{room}.layers.{layer}.{theirs}"
    return names


def mask_head_names() -> dict[str, str]:
    names = {"mask_head.output": "mask_head.out_lay"}
    for scale, suffix in enumerate(("", "_1", "_2")):
        for ours, theirs in (("query", "q"), ("key", "k")):
            names[f"mask_head.attention.{ours}_projections.{scale}"] = f"bbox_attention.{theirs}_linear{suffix}"
    for ours, theirs, count in (("convolutions", "lay", 5), ("norms", "gn", 5), ("adapters", "adapter", 3)):
        names |= {f"mask_head.upsampling.{ours}.{i}": f"mask_head.{theirs}{i + 1}" for i in range(count)}
    return names


def released_state(model: Devis, prefix: str) -> State:
    """The state dict that the released code would have written for the weights of this model."""
    backbone = {ours: theirs.removeprefix("detr.") for ours, theirs in resnet_names(model.config.backbone).items()}
    names = {ours: prefix + theirs for ours, theirs in (transformer_names(model.config) | backbone).items()}
    names |= mask_head_names()
    state: State = {}
    for ours, tensor in model.state_dict().items():
        if ours.startswith("decoder.box_heads."):
            rest = ours.removeprefix("decoder.box_heads.")
            for place in ("transformer.decoder.bbox_embed.", "bbox_embed."):
                state[prefix + place + rest] = tensor.clone()
        else:
            known = max((p for p in names if ours == p or ours.startswith(p + ".")), key=len)
            state[names[known] + ours.removeprefix(known)] = tensor.clone()
    return state


def write(path: Path, state: State) -> Path:
    torch.save({"model": state}, path)
    return path


CASES = {
    "devis": (VIDEO, "def_detr.", "devis"),
    "deformable-detr": (IMAGE, "", "deformable-detr"),
    "DeVIS' image model": (replace(VIDEO, clip_length=1), "def_detr.", "deformable-detr"),
}


@pytest.mark.parametrize(("config", "prefix", "source"), CASES.values(), ids=CASES)
def test_a_release_loads_exactly(config: DevisConfig, prefix: str, source: str, tmp_path: Path) -> None:
    original, target = new_model(config, seed=1), new_model(config, seed=2)
    path = write(tmp_path / "weights.pth", released_state(original, prefix))
    assert load_official(target, path, source=source) is target
    wanted = original.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in target.state_dict().items())
    images, padding = clips(config.clip_length)
    outputs = [model(images.float(), padding) for model in (original, target)]
    torch.testing.assert_close(outputs[0].pred_boxes, outputs[1].pred_boxes, atol=0, rtol=0)


def drop(name: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def put(name: str, *shape: int) -> Callable[[State], State]:
    return lambda state: state | {name: torch.full(shape, 7.0)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop("def_detr.backbone.1.temporal_embed"), "has no entry for 'temporal_encoding.weight'"),
        (drop("mask_head.lay5.modulator_conv.bias"), "has no entry for 'mask_head.upsampling.convolutions.4.modulator"),
        (drop("bbox_attention.k_linear_2.bias"), "has no entry for 'mask_head.attention.key_projections.2.bias'"),
        (put("def_detr.unheard_of", 3), "'def_detr.unheard_of' is not part of a DeVIS or Deformable DETR release"),
        (put("def_detr.class_embed.3.bias", 3), "has an entry for 'class_heads.3.bias', which the model does not have"),
        (put("def_detr.query_embed.weight", 60, 32), r"has shape \(60, 32\), expected \(12, 32\)"),
        (put("def_detr.bbox_embed.1.layers.2.bias", 4), "'def_detr.bbox_embed.1.layers.2.bias' should be the same"),
    ],
)
def test_a_release_that_does_not_fit_is_refused(spoil: Callable[[State], State], message: str, tmp_path: Path) -> None:
    target = new_model(VIDEO, seed=2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    path = write(tmp_path / "weights.pth", spoil(released_state(new_model(VIDEO, seed=1), "def_detr.")))
    with pytest.raises(UserError, match=message) as error:
        load_official(target, path, source="devis")
    assert "weights.pth" in str(error.value) and "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items()), "half loaded"


def test_a_release_without_mask_head_does_not_fill_a_model_with_one(tmp_path: Path) -> None:
    path = write(tmp_path / "weights.pth", released_state(new_model(IMAGE, seed=1), ""))
    with pytest.raises(UserError, match="has no entry for 'mask_head.attention"):
        load_official(new_model(replace(VIDEO, clip_length=1), seed=2), path, source="deformable-detr")
    with pytest.raises(UserError, match="source 'deformable-detr' fits a Devis model, got Linear"):
        load_official(nn.Linear(1, 1), path, source="deformable-detr")


@pytest.fixture(scope="module", params=["devis", "deformable-detr"])
def release(request: pytest.FixtureRequest, real_data: Path) -> tuple[str, dict]:
    """Preset, and names and shapes of the state dict that the released code builds."""
    file = {"devis": "devis-r50-ytvis19.json", "deformable-detr": "deformable-detr-r50-refine.json"}[request.param]
    path = real_data.parent / "reference" / "state-dicts" / file
    if not path.is_file():
        pytest.skip(f"list of released names not found at {path}")
    return request.param, json.loads(path.read_text())


def test_released_names_and_shapes_cover_the_paper_model_exactly(release: tuple[str, dict]) -> None:
    name, manifest = release
    own = {name: tensor.shape for name, tensor in build_model(name, device="meta").state_dict().items()}
    shapes = {devis_name(entry): torch.Size(shape) for entry, shape, _ in manifest["state"]}
    assert shapes == own and not manifest["unused"]


def test_released_aliases_are_the_names_that_meet(release: tuple[str, dict]) -> None:
    _, manifest = release
    names: dict[str | None, list[str]] = {}
    for entry, _, _ in manifest["state"]:
        names.setdefault(devis_name(entry), []).append(entry)
    doubled = {tuple(sorted(group)) for group in names.values() if len(group) > 1}
    assert doubled == {tuple(sorted(pair)) for pair in manifest["aliased"]}


def test_released_parameters_buffers_and_counts(release: tuple[str, dict]) -> None:
    name, manifest = release
    model = build_model(name, device="meta")
    buffers = {name for name, _ in model.named_buffers()}
    assert {devis_name(entry) for entry, _, kind in manifest["state"] if kind == "buffer"} == buffers
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == manifest["count"]["unique_params"]


def test_a_released_state_dict_loads_with_nothing_missing_or_left_over(
    release: tuple[str, dict], tmp_path: Path
) -> None:
    """The file's names and shapes with made-up numbers, into the model of the paper."""
    name, manifest = release
    aliases = {second: first for first, second in manifest["aliased"]}
    state: State = {}
    for index, (entry, shape, _) in enumerate(manifest["state"]):
        state[entry] = torch.full(shape, float(index))
    for second, first in aliases.items():
        state[second] = state[first]
    model = build_model(name)
    load_official(model, write(tmp_path / "release.pth", state), source=name)
    own = model.state_dict()
    assert all(torch.equal(own[devis_name(entry)], state[entry]) for entry in state)
