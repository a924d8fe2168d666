"""Released TeViT state dicts: names written out by hand, the whole list where it is at hand, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_models import clips
from tiny_tevit import TEVIT, TEVIT_RESNET, build
from torch import Tensor

from vislab.errors import UserError
from vislab.models.official.checkpoint import convert, load_strictly
from vislab.models.official.tevit import tevit_name
from vislab.models.tevit import TeViTConfig
from vislab.models.tevit_presets import tevit, tevit_r50


def head_names(num_stages: int, num_convolutions: int) -> dict[str, str]:
    """Our prefix -> the release's prefix, of everything behind the backbone."""
    names = {"proposal_boxes": "rpn_head.init_proposal_bboxes.weight"}
    names["proposal_queries"] = "rpn_head.init_proposal_features.weight"
    for level in range(4):
        names[f"neck.lateral.{level}"] = f"neck.lateral_convs.{level}.conv"
        names[f"neck.smooth.{level}"] = f"neck.fpn_convs.{level}.conv"
    dynamic = {"parameter_layer": "dynamic_layer", "inner_norm": "norm_in", "outer_norm": "norm_out"}
    dynamic |= {"projection": "fc_layer", "projection_norm": "fc_norm"}
    for stage in range(num_stages):
        ours, box, mask = f"stages.{stage}.", f"roi_head.bbox_head.{stage}.", f"roi_head.mask_head.{stage}."
        names[ours + "interaction.attention"] = box + "attention.attn"
        names[ours + "interaction.attention.norm"] = box + "attention_norm"
        names[ours + "norm"] = box + "instance_interactive_conv_norm"
        names[ours + "feed_forward.linear1"] = box + "ffn.layers.0.0"
        names[ours + "feed_forward.linear2"] = box + "ffn.layers.1"
        names[ours + "feed_forward.norm"] = box + "ffn_norm"
        names |= {ours + f"class_branch.{i}": box + f"cls_fcs.{i}" for i in (0, 1)}
        names |= {ours + f"box_branch.{i}": box + f"reg_fcs.{i}" for i in (0, 1, 3, 4, 6, 7)}
        names |= {ours + "class_branch.3": box + "fc_cls", ours + "box_branch.9": box + "fc_reg"}
        names |= {f"{ours}dynamic.{n}": f"{box}instance_interactive_conv.{theirs}" for n, theirs in dynamic.items()}
        ours += "mask_head."
        names |= {f"{ours}dynamic.{n}": f"{mask}instance_interactive_conv.{theirs}" for n, theirs in dynamic.items()}
        for layer in range(num_convolutions):
            names[f"{ours}convolutions.{3 * layer}"] = f"{mask}convs.{layer}.conv"
            names[f"{ours}convolutions.{3 * layer + 1}"] = f"{mask}convs.{layer}.bn"
        names |= {ours + "upsample": mask + "upsample", ours + "class_logits": mask + "conv_logits"}
    return names


def msgshift_names() -> dict[str, str]:
    names = {"backbone.messengers": "backbone.msg_tokens"}
    inside = {"attention_norm": "norm1", "feed_forward_norm": "norm2", "attention": "attn.attn"}
    inside |= {"attention.reduce": "attn.sr", "attention.reduce_norm": "attn.norm"}
    inside |= {f"feed_forward.{n}": f"ffn.layers.{i}" for n, i in (("expand", 0), ("depthwise", 1), ("contract", 4))}
    for stage in range(4):
        ours, theirs = f"backbone.stages.{stage}.", f"backbone.layers.{stage}."
        names |= {f"{ours}embedding.{part}": f"{theirs}0.{part}" for part in ("projection", "norm")}
        names[ours + "norm"] = theirs + "2"
        for layer in range(2):
            names |= {f"{ours}layers.{layer}.{n}": f"{theirs}1.{layer}.{t}" for n, t in inside.items()}
    return names


def resnet_names(depths: tuple[int, ...]) -> dict[str, str]:
    stem = "backbone.body.embedder.embedder."
    names = {stem + "convolution": "backbone.conv1", stem + "normalization": "backbone.bn1"}
    for stage, depth in enumerate(depths):
        for block in range(depth):
            theirs = f"backbone.layer{stage + 1}.{block}."
            ours = f"backbone.body.encoder.stages.{stage}.layers.{block}."
            names |= {ours + "shortcut.convolution": theirs + "downsample.0"}
            names |= {ours + "shortcut.normalization": theirs + "downsample.1"}
            for layer in range(3):
                names[f"{ours}layer.{layer}.convolution"] = f"{theirs}conv{layer + 1}"
                names[f"{ours}layer.{layer}.normalization"] = f"{theirs}bn{layer + 1}"
    return names


def released_state(own: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """The same tensors under the names that the release gives them: by the longest prefix that ends at a dot."""
    state = {}
    for name, tensor in own.items():
        prefix = name
        while prefix not in names:
            prefix = prefix.rpartition(".")[0]
        # only attention has parameters of its own beside modules: `in_proj_weight` and `in_proj_bias`
        state[names[prefix] + name[len(prefix) :]] = tensor
    return state


@pytest.mark.parametrize("config", [TEVIT, TEVIT_RESNET], ids=["msgshift", "resnet"])
def test_a_release_loads_and_computes_the_same(config: TeViTConfig, tmp_path: Path) -> None:
    source, target = build(config, 1), build(config, 2)
    for index, buffer in enumerate(source.buffers()):
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape, generator=torch.Generator().manual_seed(index)) + 0.5)
    backbone = msgshift_names() if config is TEVIT else resnet_names((1, 2, 1, 1))
    released = released_state(source.state_dict(), backbone | head_names(3, 1))
    assert not set(released) & set(source.state_dict())
    load_strictly(target, convert(released, tevit_name), tmp_path)
    images, padding = clips(2)
    one, other = source(images, padding), target(images, padding)
    assert torch.equal(one.pred_logits, other.pred_logits) and torch.equal(one.pred_boxes, other.pred_boxes)
    chosen = torch.tensor([0, 4])
    assert torch.equal(one.pred_masks(1, chosen), other.pred_masks(1, chosen))


@pytest.mark.parametrize("name", ["backbone.pos_embed", "roi_head.bbox_head.0.fc_reg_var.weight", "module.neck.bias"])
def test_names_of_other_releases_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' is not part of a TeViT release"):
        tevit_name(name)


@pytest.mark.parametrize(("release", "preset"), [("tevit-msgshift", tevit), ("tevit-r50", tevit_r50)])
def test_released_names_and_shapes_cover_the_model_exactly(release: str, preset, real_data: Path) -> None:
    path = real_data.parent / "reference" / "state-dicts" / f"{release}.json"
    if not path.is_file():
        pytest.skip(f"list of released names not found at {path}")
    manifest = json.loads(path.read_text())
    with torch.device("meta"):
        model = preset().build()
    shapes = {tevit_name(name): torch.Size(shape) for name, shape, _ in manifest["state"]}
    assert len(shapes) == len(manifest["state"])
    assert shapes == {name: tensor.shape for name, tensor in model.state_dict().items()}
    released = {tevit_name(name) for name, _, kind in manifest["state"] if kind == "buffer"}
    assert released == {name for name, _ in model.named_buffers()}
