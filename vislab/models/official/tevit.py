"""Names of the TeViT releases, MsgShifT and ResNet-50 (hustvl/TeViT mmdet/models/)."""

from __future__ import annotations

import re

from vislab.errors import UserError
from vislab.models.official.checkpoint import Rule, rename

_STAGE = r"backbone\.layers\.(\d)\."
_LAYER = _STAGE + r"1\.(\d+)\."
_HEAD, _MASK_HEAD = r"roi_head\.bbox_head\.(\d+)\.", r"roi_head\.mask_head\.(\d+)\."


def _resnet_block(match: re.Match[str]) -> str:
    kind = "convolution" if match[3] == "conv" else "normalization"
    layer = int(match[4]) - 1
    return f"backbone.body.encoder.stages.{int(match[1]) - 1}.layers.{match[2]}.layer.{layer}.{kind}."


def _resnet_shortcut(match: re.Match[str]) -> str:
    kind = "convolution" if match[3] == "0" else "normalization"
    return f"backbone.body.encoder.stages.{int(match[1]) - 1}.layers.{match[2]}.shortcut.{kind}."


def _mask_convolution(match: re.Match[str]) -> str:
    """Each convolution of ours is followed by its norm and a ReLU."""
    return f"stages.{match[1]}.mask_head.convolutions.{3 * int(match[2]) + (match[3] == 'bn')}."


def _dynamic(head: str, ours: str) -> list[Rule]:
    released = head + r"instance_interactive_conv\."
    names = {"dynamic_layer": "parameter_layer", "norm_in": "inner_norm", "norm_out": "outer_norm"}
    names |= {"fc_layer": "projection", "fc_norm": "projection_norm"}
    return [(released + theirs + r"\.", rf"stages.\1.{ours}.{name}.") for theirs, name in names.items()]


_RULES: list[Rule] = [
    (r"backbone\.msg_tokens$", "backbone.messengers"),
    (_STAGE + r"0\.", r"backbone.stages.\1.embedding."),
    (_STAGE + r"2\.", r"backbone.stages.\1.norm."),
    (_LAYER + r"norm1\.", r"backbone.stages.\1.layers.\2.attention_norm."),
    (_LAYER + r"norm2\.", r"backbone.stages.\1.layers.\2.feed_forward_norm."),
    (_LAYER + r"attn\.attn\.", r"backbone.stages.\1.layers.\2.attention."),
    (_LAYER + r"attn\.sr\.", r"backbone.stages.\1.layers.\2.attention.reduce."),
    (_LAYER + r"attn\.norm\.", r"backbone.stages.\1.layers.\2.attention.reduce_norm."),
    (_LAYER + r"ffn\.layers\.0\.", r"backbone.stages.\1.layers.\2.feed_forward.expand."),
    (_LAYER + r"ffn\.layers\.1\.", r"backbone.stages.\1.layers.\2.feed_forward.depthwise."),
    (_LAYER + r"ffn\.layers\.4\.", r"backbone.stages.\1.layers.\2.feed_forward.contract."),
    (r"backbone\.layer(\d)\.(\d+)\.(conv|bn)(\d)\.", _resnet_block),
    (r"backbone\.layer(\d)\.(\d+)\.downsample\.(\d)\.", _resnet_shortcut),
    (r"backbone\.conv1\.", "backbone.body.embedder.embedder.convolution."),
    (r"backbone\.bn1\.", "backbone.body.embedder.embedder.normalization."),
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"neck.lateral.\1."),
    (r"neck\.fpn_convs\.(\d)\.conv\.", r"neck.smooth.\1."),
    (r"rpn_head\.init_proposal_bboxes\.weight$", "proposal_boxes"),
    (r"rpn_head\.init_proposal_features\.weight$", "proposal_queries"),
    (_HEAD + r"attention\.attn\.", r"stages.\1.interaction.attention."),
    (_HEAD + r"attention_norm\.", r"stages.\1.interaction.attention.norm."),
    *_dynamic(_HEAD, "dynamic"),
    (_HEAD + r"instance_interactive_conv_norm\.", r"stages.\1.norm."),
    (_HEAD + r"ffn\.layers\.0\.0\.", r"stages.\1.feed_forward.linear1."),
    (_HEAD + r"ffn\.layers\.1\.", r"stages.\1.feed_forward.linear2."),
    (_HEAD + r"ffn_norm\.", r"stages.\1.feed_forward.norm."),
    (_HEAD + r"cls_fcs\.(\d)\.", r"stages.\1.class_branch.\2."),
    (_HEAD + r"reg_fcs\.(\d)\.", r"stages.\1.box_branch.\2."),
    # the last of a branch: after one block of three modules, and after three
    (_HEAD + r"fc_cls\.", r"stages.\1.class_branch.3."),
    (_HEAD + r"fc_reg\.", r"stages.\1.box_branch.9."),
    *_dynamic(_MASK_HEAD, "mask_head.dynamic"),
    (_MASK_HEAD + r"convs\.(\d)\.(conv|bn)\.", _mask_convolution),
    (_MASK_HEAD + r"upsample\.", r"stages.\1.mask_head.upsample."),
    (_MASK_HEAD + r"conv_logits\.", r"stages.\1.mask_head.class_logits."),
]


def tevit_name(released: str) -> str:
    """Our name of an entry of a released TeViT state dict, all of which are read."""
    ours = rename(released, _RULES)
    if ours is None:
        raise UserError(f"state dict entry {released!r} is not part of a TeViT release")
    return ours
