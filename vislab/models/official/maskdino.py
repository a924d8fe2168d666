"""Names of the MaskDINO release (IDEA-Research/MaskDINO maskdino/modeling, on detectron2's ResNet).

Its box head is stored 19 times and the decoder's norm twice; backbone and pixel decoder have Mask2Former's names.
"""

from __future__ import annotations

from vislab.errors import UserError
from vislab.models.official.checkpoint import Rule, rename
from vislab.models.official.mask2former import mask2former_vis_name

_PREDICTOR = r"sem_seg_head\.predictor\."
_LAYER = _PREDICTOR + r"decoder\.layers\.(\d+)\."
_RULES: list[Rule] = [
    (_LAYER + r"cross_attn\.", r"decoder.layers.\1.cross_attention."),
    (_LAYER + r"self_attn\.", r"decoder.layers.\1.self_attention."),
    (_LAYER + r"norm1\.", r"decoder.layers.\1.norm."),
    (_LAYER + r"norm2\.", r"decoder.layers.\1.self_attention.norm."),
    (_LAYER + r"norm3\.", r"decoder.layers.\1.feed_forward.norm."),
    (_LAYER + r"linear", r"decoder.layers.\1.feed_forward.linear"),
    (_PREDICTOR + r"(?:_bbox_embed|(?:decoder\.)?bbox_embed\.\d+)\.", "decoder.box_head."),
    (_PREDICTOR + r"(?:decoder_norm|decoder\.norm)\.", "decoder.norm."),
    (_PREDICTOR + r"decoder\.ref_point_head\.", "decoder.position_head."),
    (_PREDICTOR + r"enc_output_norm\.", "selection.norm."),
    (_PREDICTOR + r"enc_output\.", "selection.project."),
    (_PREDICTOR + r"class_embed\.", "class_head."),
    (_PREDICTOR + r"mask_embed\.", "mask_head."),
    (_PREDICTOR + r"label_enc\.", "label_embed."),
]


def maskdino_name(released: str) -> str | None:
    """Our name of an entry of a released MaskDINO state dict; None if no forward pass reads it."""
    ours = rename(released, _RULES)
    if ours is not None:
        return ours
    try:
        ours = mask2former_vis_name(released)
    except UserError:
        ours = "decoder."  # anything that is not part of it
    if ours is not None and ours.startswith("decoder."):
        raise UserError(f"state dict entry {released!r} is not part of a MaskDINO release")
    return ours
