"""Names of the DeVIS and Deformable DETR releases (acaelles97/DeVIS src/models/, fundamentalvision/Deformable-DETR).

DeVIS wraps a Deformable DETR under "def_detr."; its COCO model does so as well, and then has a mask head.
"""

from __future__ import annotations

import re

from vislab.errors import UserError
from vislab.models.official.checkpoint import Rule, rename
from vislab.models.official.deformable import UNUSED, shared_rules

_PREFIX = r"(?:def_detr\.)?"
_DECODER = _PREFIX + r"transformer\.decoder\.layers\.(\d+)\."
_UPSAMPLING = "mask_head.upsampling."


def _attention(match: re.Match[str]) -> str:
    kind = "query" if match[1] == "q" else "key"
    return f"mask_head.attention.{kind}_projections.{match[2] or 0}."


def _numbered(kind: str) -> Rule:
    """Layers of the mask head, numbered from 1 in the release."""
    name = {"lay": "convolutions", "gn": "norms", "adapter": "adapters"}[kind]
    return rf"mask_head\.{kind}(\d)\.", lambda match: f"{_UPSAMPLING}{name}.{int(match[1]) - 1}."


_RULES: list[Rule] = [
    *shared_rules(_PREFIX),
    (_DECODER + r"cross_attn\.temporal_", r"decoder.layers.\1.cross_attention.temporal."),
    (_DECODER + r"cross_attn\.", r"decoder.layers.\1.cross_attention.spatial."),
    (_DECODER + r"self_attn\.", r"decoder.layers.\1.self_attention."),
    (_DECODER + r"norm1\.", r"decoder.layers.\1.norm."),
    (_DECODER + r"norm2\.", r"decoder.layers.\1.self_attention.norm."),
    (_DECODER + r"norm3\.", r"decoder.layers.\1.feed_forward.norm."),
    (_DECODER + r"linear", r"decoder.layers.\1.feed_forward.linear"),
    (_PREFIX + r"backbone\.1\.temporal_embed", "temporal_encoding.weight"),
    (r"bbox_attention\.([qk])_linear(?:_(\d))?\.", _attention),
    *map(_numbered, ("lay", "gn", "adapter")),
    (r"mask_head\.out_lay\.", "mask_head.output."),
]
_UNUSED = re.compile(UNUSED)


def devis_name(released: str) -> str | None:
    """Our name of an entry of a released DeVIS or Deformable DETR state dict; None if no forward pass reads it."""
    if _UNUSED.match(released):
        return None
    ours = rename(released, _RULES)
    if ours is None:
        raise UserError(f"state dict entry {released!r} is not part of a DeVIS or Deformable DETR release")
    return ours
