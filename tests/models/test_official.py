"""Released SeqFormer state dicts: names, aliases, unused entries, and everything that may be wrong with a file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import SEQFORMER, TAFORMER, build, clips
from torch import Tensor, nn

from vislab.errors import UserError
from vislab.models.backbones import RESNET50, ResNetConfig
from vislab.models.official import load_official
from vislab.models.official.checkpoint import convert
from vislab.models.official.seqformer import seqformer_name
from vislab.models.presets import build_model
from vislab.models.seqformer import SeqFormer

CONFIG = replace(
    SEQFORMER,
    backbone=replace(RESNET50, depths=(1, 2, 1, 1), widths=(8, 16, 16, 32), stem_width=4),
    num_levels=4,
)
State = dict[str, Tensor]


def new_model(seed: int) -> SeqFormer:
    model = build(CONFIG, seed).float()
    for index, buffer in enumerate(model.buffers()):
        buffer.copy_(torch.rand(buffer.shape, generator=torch.Generator().manual_seed(100 * seed + index)) + 0.5)
    return model


def resnet_names(config: ResNetConfig) -> dict[str, str]:
    """Our prefix -> torchvision's prefix."""
    ours, theirs = "backbone.body.", "detr.backbone.0.body."
    stem = ours + "embedder.embedder."
    names = {stem + "convolution": theirs + "conv1", stem + "normalization": theirs + "bn1"}
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            here, there = f"{ours}encoder.stages.{stage}.layers.{block}.", f"{theirs}layer{stage + 1}.{block}."
            names[here + "shortcut.convolution"] = there + "downsample.0"
            names[here + "shortcut.normalization"] = there + "downsample.1"
            for layer in range(3):
                names[f"{here}layer.{layer}.convolution"] = f"{there}conv{layer + 1}"
                names[f"{here}layer.{layer}.normalization"] = f"{there}bn{layer + 1}"
    return names


def transformer_names(num_encoder_layers: int, num_decoder_layers: int) -> dict[str, str]:
    """Our prefix -> the release's prefix."""
    names = {"level_embed": "detr.transformer.level_embed", "reference_points": "detr.transformer.reference_points"}
    encoder = {"attention.spatial": "self_attn", "norm": "norm1", "feed_forward.norm": "norm2"}
    encoder |= {f"feed_forward.linear{i}": f"linear{i}" for i in (1, 2)}
    decoder = {"cross_attention": "cross_attn", "box_output_proj": "cross_attn.output_proj_box"}
    decoder["frame_weight"] = "time_attention_weights"
    for kind, suffix in (("instance", ""), ("box", "_box")):
        for part in ("in_proj_weight", "in_proj_bias", "out_proj"):
            decoder[f"{kind}_attention.{part}"] = f"self_attn{suffix}.{part}"
        decoder |= {f"{kind}_norm": f"norm1{suffix}", f"{kind}_attention.norm": f"norm2{suffix}"}
        decoder[f"{kind}_feed_forward.norm"] = f"norm3{suffix}"
        decoder |= {f"{kind}_feed_forward.linear{i}": f"linear{i}{suffix}" for i in (1, 2)}
    for room, layers, parts in (("encoder", num_encoder_layers, encoder), ("decoder", num_decoder_layers, decoder)):
        for layer in range(layers):
            prefix = f"{room}.layers.{layer}."
            names |= {prefix + ours: f"detr.transformer.{prefix}{theirs}" for ours, theirs in parts.items()}
    return names


def head_names() -> dict[str, str]:
    same = {name: f"detr.{name}" for name in ("query_embed", "input_proj")}
    masks = {"reduce": "lay1", "project": "lay2", "top_down.0": "lay3", "top_down.1": "lay4", "top_down.2": "dcn"}
    masks = {f"mask_features.{ours}": f"mask_head.{theirs}" for ours, theirs in masks.items()}
    return same | masks | {"class_heads": "detr.class_embed", "controller": "controller"}


def released_state(model: SeqFormer) -> State:
    """The state dict that the released code would have written for the weights of this model."""
    config = model.config
    names = transformer_names(config.encoder.num_layers, config.decoder.num_layers) | head_names()
    names |= resnet_names(config.backbone)
    state: State = {}
    for ours, tensor in model.state_dict().items():
        if ours.startswith("decoder.box_heads."):
            rest = ours.removeprefix("decoder.box_heads.")
            for prefix in ("detr.transformer.decoder.bbox_embed.", "detr.bbox_embed."):
                state[prefix + rest] = tensor.clone()
        else:
            prefix = max((p for p in names if ours == p or ours.startswith(p + ".")), key=len)
            state[names[prefix] + ours.removeprefix(prefix)] = tensor.clone()
    channels = config.hidden_dim
    for layer in range(config.encoder.num_layers):
        prefix = f"detr.transformer.encoder.layers.{layer}.self_attn.output_proj_box."
        state |= {prefix + "weight": torch.ones(channels, channels), prefix + "bias": torch.ones(channels)}
    return state


def write(path: Path, state: State, container: str | None = "model") -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state if container is None else {container: state}, path)
    return path


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_release_loads_exactly(name: str, tmp_path: Path) -> None:
    source, target = new_model(seed=1), new_model(seed=2)
    path = write(tmp_path / name, released_state(source))
    images, padding = clips()
    assert not torch.allclose(source(images.float(), padding).pred_logits, target(images.float(), padding).pred_logits)
    assert load_official(target, path) is target
    wanted = source.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in target.state_dict().items())
    torch.testing.assert_close(
        target(images.float(), padding).pred_boxes, source(images.float(), padding).pred_boxes, atol=0, rtol=0
    )


@pytest.mark.parametrize("container", [None, "model", "state_dict"])
def test_containers_are_unwrapped(container: str | None, tmp_path: Path) -> None:
    path = write(tmp_path / "weights.pth", released_state(new_model(seed=1)), container)
    load_official(new_model(seed=2), path)


def test_what_the_training_script_stores_beside_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    arguments = argparse.Namespace(lr=2e-4, backbone="resnet50", lr_drop=[4, 10])
    torch.save({"model": released_state(new_model(seed=1)), "epoch": 11, "args": arguments}, path)
    load_official(new_model(seed=2), path)


def test_batches_tracked_are_skipped() -> None:
    released = released_state(new_model(seed=1)) | {"detr.backbone.0.body.bn1.num_batches_tracked": torch.tensor(3)}
    assert convert(released, seqformer_name).keys() == new_model(seed=2).state_dict().keys()


def drop(name: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def put(name: str, *shape: int) -> Callable[[State], State]:
    return lambda state: state | {name: torch.full(shape, 7.0)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop("detr.query_embed.weight"), "has no entry for 'query_embed.weight'"),
        (drop("detr.backbone.0.body.layer2.1.bn3.running_var"), "has no entry for 'backbone.body.encoder.stages.1"),
        (put("detr.unheard_of.weight", 3), "'detr.unheard_of.weight' is not part of a SeqFormer release"),
        (put("detr.class_embed.3.bias", 3), "has an entry for 'class_heads.3.bias', which the model does not have"),
        (put("detr.class_embed.0.bias", 42), r"'class_heads.0.bias' has shape \(42,\), expected \(3,\)"),
        (put("detr.bbox_embed.1.layers.2.bias", 4), "'detr.bbox_embed.1.layers.2.bias' should be the same"),
        (put("detr.bbox_embed.1.layers.2.bias", 5), "'detr.bbox_embed.1.layers.2.bias' should be the same"),
    ],
)
def test_a_release_that_does_not_fit_is_refused(spoil: Callable[[State], State], message: str, tmp_path: Path) -> None:
    target = new_model(seed=2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    path = write(tmp_path / "weights.pth", spoil(released_state(new_model(seed=1))))
    with pytest.raises(UserError, match=message) as error:
        load_official(target, path)
    assert "weights.pth" in str(error.value) and "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items()), "half loaded"


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    model = new_model(seed=1)
    with pytest.raises(UserError, match="nowhere.pth does not exist"):
        load_official(model, tmp_path / "nowhere.pth")
    for name in ("noise.pth", "noise.safetensors"):
        (tmp_path / name).write_bytes(b"\x00not a checkpoint" * 10)
        with pytest.raises(UserError, match=f"{name} cannot be read"):
            load_official(model, tmp_path / name)
    for index, content in enumerate(([1, 2], torch.ones(3), {"model": {"epoch": 3}}, {"model": [1]})):
        torch.save(content, tmp_path / f"{index}.pth")
        with pytest.raises(UserError, match=f"{index}.pth holds no state dict"):
            load_official(model, tmp_path / f"{index}.pth")


class RunsCode:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def test_no_code_of_a_checkpoint_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": released_state(new_model(seed=1)), "args": RunsCode()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="cannot be read without running code"):
        load_official(new_model(seed=2), tmp_path / "weights.pth")
    assert not (tmp_path / "executed").exists()


def test_wrong_source_or_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown source 'detr': expected one of seqformer, devis, deformable-detr"):
        load_official(new_model(seed=1), tmp_path, source="detr")
    with pytest.raises(UserError, match="source 'devis' fits a Devis model, got SeqFormer"):
        load_official(new_model(seed=1), tmp_path, source="devis")
    with pytest.raises(UserError, match="fits a SeqFormer model, got Linear"):
        load_official(nn.Linear(1, 1), tmp_path)
    path = write(tmp_path / "weights.pth", released_state(new_model(seed=1)))
    with pytest.raises(UserError, match="has no entry for 'encoder.layers.0.attention.temporal"):
        load_official(build(replace(TAFORMER, backbone=CONFIG.backbone, num_levels=4)).float(), path)


@pytest.fixture(scope="module")
def manifest(real_data: Path) -> dict:
    """Names and shapes of the state dict that the released code builds."""
    path = real_data.parent / "reference" / "state-dicts" / "seqformer-r50.json"
    if not path.is_file():
        pytest.skip(f"list of released names not found at {path}")
    return json.loads(path.read_text())


def test_released_names_and_shapes_cover_the_paper_model_exactly(manifest: dict) -> None:
    own = {name: tensor.shape for name, tensor in build_model("seqformer", device="meta").state_dict().items()}
    shapes = {seqformer_name(name): torch.Size(shape) for name, shape, _ in manifest["state"]}
    unused = {name for name, _, _ in manifest["state"] if seqformer_name(name) is None}
    assert unused == set(manifest["unused"])
    assert shapes.pop(None) is not None and shapes == own


def test_released_aliases_are_the_names_that_meet(manifest: dict) -> None:
    names: dict[str | None, list[str]] = {}
    for name, _, _ in manifest["state"]:
        names.setdefault(seqformer_name(name), []).append(name)
    doubled = {tuple(sorted(group)) for ours, group in names.items() if ours is not None and len(group) > 1}
    assert doubled == {tuple(sorted(pair)) for pair in manifest["aliased"]}


def test_released_parameters_and_buffers(manifest: dict) -> None:
    """What is a parameter in the release is one here, and the other way round."""
    model = build_model("seqformer", device="meta")
    buffers = {name for name, _ in model.named_buffers()}
    released = {seqformer_name(name) for name, _, kind in manifest["state"] if kind == "buffer"}
    assert released == buffers
