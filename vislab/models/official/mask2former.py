"""Names of the Mask2Former-VIS release (facebookresearch/Mask2Former mask2former_video/, on detectron2's ResNet)."""

from __future__ import annotations

import re

from vislab.errors import UserError
from vislab.models.official.checkpoint import Rule, rename


def _resnet_block(match: re.Match[str]) -> str:
    kind = "normalization" if match[4] else "convolution"
    return f"backbone.body.encoder.stages.{int(match[1]) - 2}.layers.{match[2]}.layer.{int(match[3]) - 1}.{kind}."


def _resnet_shortcut(match: re.Match[str]) -> str:
    kind = "normalization" if match[3] else "convolution"
    return f"backbone.body.encoder.stages.{int(match[1]) - 2}.layers.{match[2]}.shortcut.{kind}."


_STAGE = r"backbone\.res(\d)\.(\d+)\."
_PIXEL = r"sem_seg_head\.pixel_decoder\."
_ENCODER = _PIXEL + r"transformer\.encoder\.layers\.(\d+)\."
_DECODER = r"sem_seg_head\.predictor\."
_RULES: list[Rule] = [
    (r"backbone\.stem\.conv1\.norm\.", "backbone.body.embedder.embedder.normalization."),
    (r"backbone\.stem\.conv1\.", "backbone.body.embedder.embedder.convolution."),
    (_STAGE + r"conv(\d)\.(norm\.)?", _resnet_block),
    (_STAGE + r"shortcut\.(norm\.)?", _resnet_shortcut),
    (_ENCODER + r"self_attn\.", r"pixel_decoder.encoder.layers.\1.attention.spatial."),
    (_ENCODER + r"norm1\.", r"pixel_decoder.encoder.layers.\1.norm."),
    (_ENCODER + r"norm2\.", r"pixel_decoder.encoder.layers.\1.feed_forward.norm."),
    (_ENCODER + r"linear", r"pixel_decoder.encoder.layers.\1.feed_forward.linear"),
    (_PIXEL + r"transformer\.level_embed$", "pixel_decoder.level_embed"),
    (_PIXEL + r"adapter_1\.norm\.", "pixel_decoder.lateral.1."),
    (_PIXEL + r"adapter_1\.", "pixel_decoder.lateral.0."),
    (_PIXEL + r"layer_1\.norm\.", "pixel_decoder.smooth.1."),
    (_PIXEL + r"layer_1\.", "pixel_decoder.smooth.0."),
    (_PIXEL + r"(input_proj|mask_features)\.", r"pixel_decoder.\1."),
    (
        _DECODER + r"transformer_cross_attention_layers\.(\d+)\.(?:multihead_attn\.)?",
        r"decoder.layers.\1.cross_attention.",
    ),
    (_DECODER + r"transformer_self_attention_layers\.(\d+)\.(?:self_attn\.)?", r"decoder.layers.\1.self_attention."),
    (_DECODER + r"transformer_ffn_layers\.(\d+)\.", r"decoder.layers.\1.feed_forward."),
    # static_query is query_feat in files of the first version (video_mask2former_transformer_decoder.py:192-203)
    (_DECODER + r"(?:query_feat|static_query)\.", "decoder.query_features."),
    (_DECODER + r"query_embed\.", "decoder.query_position."),
    (_DECODER + r"level_embed\.", "decoder.level_embed."),
    (_DECODER + r"decoder_norm\.", "decoder.norm."),
    (_DECODER + r"class_embed\.", "decoder.class_head."),
    (_DECODER + r"mask_embed\.", "decoder.mask_head."),
]
# weights of the class loss: a setting, which the criterion has
_UNUSED = re.compile(r"criterion\.empty_weight$")


def mask2former_vis_name(released: str) -> str | None:
    """Our name of an entry of a released Mask2Former-VIS state dict; None if no forward pass reads it."""
    if _UNUSED.match(released):
        return None
    ours = rename(released, _RULES)
    if ours is None:
        raise UserError(f"state dict entry {released!r} is not part of a Mask2Former-VIS release")
    return ours
