"""Rules that the releases of the Deformable DETR family share: ResNet, encoder, queries, heads."""

from __future__ import annotations

import re

from vislab.models.official.checkpoint import Rule

# statistics of batch norms that are frozen; no forward pass reads them
UNUSED = r".*\.num_batches_tracked$"


def shared_rules(prefix: str) -> list[Rule]:
    """Everything but decoder layers and mask heads. prefix: pattern that all these entries begin with."""
    body, encoder = prefix + r"backbone\.0\.body\.", prefix + r"transformer\.encoder\.layers\.(\d+)\."
    return [
        (body + r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.", _resnet_block),
        (body + r"layer(\d)\.(\d+)\.downsample\.(\d)\.", _resnet_shortcut),
        (body + r"conv1\.", "backbone.body.embedder.embedder.convolution."),
        (body + r"bn1\.", "backbone.body.embedder.embedder.normalization."),
        (encoder + r"self_attn\.temporal_", r"encoder.layers.\1.attention.temporal."),
        (encoder + r"self_attn\.", r"encoder.layers.\1.attention.spatial."),
        (encoder + r"norm1\.", r"encoder.layers.\1.norm."),
        (encoder + r"norm2\.", r"encoder.layers.\1.feed_forward.norm."),
        (encoder + r"linear", r"encoder.layers.\1.feed_forward.linear"),
        (prefix + r"transformer\.level_embed", "level_embed"),
        (prefix + r"transformer\.reference_points\.", "reference_points."),
        (prefix + r"(?:transformer\.decoder\.)?bbox_embed\.", "decoder.box_heads."),
        (prefix + r"class_embed\.", "class_heads."),
        (prefix + r"query_embed\.", "query_embed."),
        (prefix + r"input_proj\.", "input_proj."),
    ]


def _resnet_block(match: re.Match[str]) -> str:
    stage, layer = int(match[1]) - 1, match[2]
    kind = "convolution" if match[3] == "conv" else "normalization"
    return f"backbone.body.encoder.stages.{stage}.layers.{layer}.layer.{int(match[4]) - 1}.{kind}."


def _resnet_shortcut(match: re.Match[str]) -> str:
    kind = "convolution" if match[3] == "0" else "normalization"
    return f"backbone.body.encoder.stages.{int(match[1]) - 1}.layers.{match[2]}.shortcut.{kind}."
