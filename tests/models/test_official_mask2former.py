"""Released Mask2Former-VIS state dicts: names and shapes."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mask_models import IFR, MASK2FORMER
from torch import Tensor

from vislab.errors import UserError
from vislab.models.backbones import ResNetConfig
from vislab.models.mask2former_presets import mask2former_vis
from vislab.models.mask2former_vis import Mask2FormerVIS
from vislab.models.official import load_official
from vislab.models.official.mask2former import mask2former_vis_name

BACKBONE = ResNetConfig(depths=(1, 2, 1, 1), widths=(8, 16, 16, 32), stem_width=4, frozen_stages=0)
CONFIG = replace(MASK2FORMER, backbone=BACKBONE)


def new_model(seed: int) -> Mask2FormerVIS:
    torch.manual_seed(seed)
    model = CONFIG.build().eval()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return model


def backbone_names() -> dict[str, str]:
    """Our prefix -> detectron2's; its norms lie below their convolution."""
    ours, stem = "backbone.body.encoder.stages.", "backbone.body.embedder.embedder."
    names = {stem + "convolution": "backbone.stem.conv1", stem + "normalization": "backbone.stem.conv1.norm"}
    for stage, depth in enumerate(BACKBONE.depths):
        for block in range(depth):
            here, there = f"{ours}{stage}.layers.{block}.", f"backbone.res{stage + 2}.{block}."
            parts = {"shortcut": "shortcut"} | {f"layer.{layer}": f"conv{layer + 1}" for layer in range(3)}
            for part, name in parts.items():
                names[f"{here}{part}.convolution"] = there + name
                names[f"{here}{part}.normalization"] = f"{there}{name}.norm"
    return names


def head_names() -> dict[str, str]:
    pixel, predictor = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
    names = {f"pixel_decoder.{name}": pixel + name for name in ("input_proj", "mask_features")}
    names |= {"pixel_decoder.level_embed": pixel + "transformer.level_embed"}
    for ours, theirs in (("lateral", "adapter_1"), ("smooth", "layer_1")):
        names |= {f"pixel_decoder.{ours}.0": pixel + theirs, f"pixel_decoder.{ours}.1": f"{pixel}{theirs}.norm"}
    for layer in range(2):
        here, there = f"pixel_decoder.encoder.layers.{layer}.", f"{pixel}transformer.encoder.layers.{layer}."
        parts = {"attention.spatial": "self_attn", "norm": "norm1", "feed_forward.norm": "norm2"}
        parts |= {f"feed_forward.linear{i}": f"linear{i}" for i in (1, 2)}
        names |= {here + ours: there + theirs for ours, theirs in parts.items()}
    for layer in range(3):
        here = f"decoder.layers.{layer}."
        for ours, theirs, inner in (("cross", "cross", "multihead_attn"), ("self", "self", "self_attn")):
            there = f"{predictor}transformer_{theirs}_attention_layers.{layer}."
            names |= {f"{here}{ours}_attention": there + inner, f"{here}{ours}_attention.norm": there + "norm"}
        names[here + "feed_forward"] = f"{predictor}transformer_ffn_layers.{layer}"
    heads = {"query_features": "query_feat", "query_position": "query_embed", "level_embed": "level_embed"}
    heads |= {"norm": "decoder_norm", "class_head": "class_embed", "mask_head": "mask_embed"}
    return names | {f"decoder.{ours}": predictor + theirs for ours, theirs in heads.items()}


def released_state(model: Mask2FormerVIS) -> dict[str, Tensor]:
    """The state dict that the released code would have written for the weights of this model."""
    names = backbone_names() | head_names()
    state = {"criterion.empty_weight": torch.ones(4)}
    for ours, tensor in model.state_dict().items():
        prefix = max((p for p in names if ours == p or ours.startswith(p + ".")), key=len)
        state[names[prefix] + ours.removeprefix(prefix)] = tensor.clone()
    return state


@pytest.mark.parametrize("name", ["weights.pkl", "weights.pth"])
def test_a_release_loads_exactly(name: str, tmp_path: Path) -> None:
    source, target = new_model(seed=1), new_model(seed=2)
    state, path = released_state(source), tmp_path / name
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps({"model": {key: tensor.numpy() for key, tensor in state.items()}}))
    else:
        torch.save({"model": state}, path)
    assert load_official(target, path, source="mask2former-vis") is target
    wanted = source.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in target.state_dict().items())


def test_a_model_of_another_size_is_refused(tmp_path: Path) -> None:
    torch.save(released_state(new_model(seed=1)), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"'decoder.query_features.weight' has shape \(5, 16\), expected \(6, 16\)"):
        load_official(replace(CONFIG, num_queries=6).build(), tmp_path / "weights.pth", source="mask2former-vis")
    with pytest.raises(UserError, match="has no entry for 'decoder.layers.0.temporal_attention"):
        load_official(replace(IFR, backbone=BACKBONE).build(), tmp_path / "weights.pth", source="mask2former-vis")


def test_queries_of_files_of_the_first_version() -> None:
    name = "sem_seg_head.predictor.static_query.weight"
    assert mask2former_vis_name(name) == "decoder.query_features.weight"


def test_what_is_no_part_of_the_release() -> None:
    for name in ("sem_seg_head.predictor.unheard_of.weight", "detr.query_embed.weight", "backbone.res2.0.conv9"):
        with pytest.raises(UserError, match=f"'{name}' is not part of a Mask2Former-VIS release"):
            mask2former_vis_name(name)


@pytest.fixture(scope="module")
def manifest(real_data: Path) -> dict:
    """Names and shapes of the state dict that the released code builds."""
    path = real_data.parent / "reference" / "state-dicts" / "mask2former-video-r50.json"
    if not path.is_file():
        pytest.skip(f"list of released names not found at {path}")
    return json.loads(path.read_text())


def test_released_names_shapes_and_kinds_cover_the_paper_model_exactly(manifest: dict) -> None:
    with torch.device("meta"):
        model = mask2former_vis().build()
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    shapes = {mask2former_vis_name(name): torch.Size(shape) for name, shape, _ in manifest["state"]}
    assert shapes.pop(None) == (41,) and shapes == own
    released_buffers = {mask2former_vis_name(name) for name, _, kind in manifest["state"] if kind == "buffer"}
    assert released_buffers - {None} == {name for name, _ in model.named_buffers()}


def test_released_count(manifest: dict) -> None:
    with torch.device("meta"):
        model = mask2former_vis().build()
    assert sum(parameter.numel() for parameter in model.parameters()) == manifest["count"]["unique_params"]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == manifest["count"]["trainable"]
