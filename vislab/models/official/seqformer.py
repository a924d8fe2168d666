"""Names of the SeqFormer release (wjf5203/SeqFormer models/)."""

from __future__ import annotations

import re

from vislab.errors import UserError
from vislab.models.official.checkpoint import Rule, rename
from vislab.models.official.deformable import UNUSED, shared_rules

_DECODER = r"detr\.transformer\.decoder\.layers\.(\d+)\."
_RULES: list[Rule] = [
    *shared_rules(r"detr\."),
    (_DECODER + r"cross_attn\.output_proj_box\.", r"decoder.layers.\1.box_output_proj."),
    (_DECODER + r"cross_attn\.", r"decoder.layers.\1.cross_attention."),
    (_DECODER + r"norm1_box\.", r"decoder.layers.\1.box_norm."),
    (_DECODER + r"norm1\.", r"decoder.layers.\1.instance_norm."),
    (_DECODER + r"norm2_box\.", r"decoder.layers.\1.box_attention.norm."),
    (_DECODER + r"norm2\.", r"decoder.layers.\1.instance_attention.norm."),
    (_DECODER + r"norm3_box\.", r"decoder.layers.\1.box_feed_forward.norm."),
    (_DECODER + r"norm3\.", r"decoder.layers.\1.instance_feed_forward.norm."),
    (_DECODER + r"self_attn_box\.", r"decoder.layers.\1.box_attention."),
    (_DECODER + r"self_attn\.", r"decoder.layers.\1.instance_attention."),
    (_DECODER + r"linear(\d)_box\.", r"decoder.layers.\1.box_feed_forward.linear\2."),
    (_DECODER + r"linear(\d)\.", r"decoder.layers.\1.instance_feed_forward.linear\2."),
    (_DECODER + r"time_attention_weights\.", r"decoder.layers.\1.frame_weight."),
    (r"controller\.", "controller."),
    (r"mask_head\.lay1\.", "mask_features.reduce."),
    (r"mask_head\.lay2\.", "mask_features.project."),
    (r"mask_head\.lay3\.", "mask_features.top_down.0."),
    (r"mask_head\.lay4\.", "mask_features.top_down.1."),
    (r"mask_head\.dcn\.", "mask_features.top_down.2."),
]
# stored by the release, read by no forward pass (models/ops/modules/ms_deform_attn.py:61)
_UNUSED = re.compile(r"detr\.transformer\.encoder\.layers\.\d+\.self_attn\.output_proj_box\.|" + UNUSED)


def seqformer_name(released: str) -> str | None:
    """Our name of an entry of a released SeqFormer state dict; None if no forward pass reads it."""
    if _UNUSED.match(released):
        return None
    ours = rename(released, _RULES)
    if ours is None:
        raise UserError(f"state dict entry {released!r} is not part of a SeqFormer release")
    return ours
