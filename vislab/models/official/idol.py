"""Names of the IDOL release (wjf5203/VNext projects/IDOL/idol/models, on detectron2's ResNet).

It is a Deformable DETR with SeqFormer's mask head, whose parts have the names of these releases.
"""

from __future__ import annotations

from vislab.errors import UserError
from vislab.models.official.devis import devis_name
from vislab.models.official.mask2former import mask2former_vis_name
from vislab.models.official.seqformer import seqformer_name

_BACKBONE, _DETR, _HEAD = "detr.detr.backbone.0.", "detr.detr.", "detr."


def idol_name(released: str) -> str | None:
    """Our name, in a RefineVIS without TAR, of an entry of a released IDOL state dict; None if it is not read."""
    try:
        name = _name(released)
    except UserError:
        raise UserError(f"state dict entry {released!r} is not part of an IDOL release") from None
    if name is None or name.startswith("association_head."):
        return name
    return f"frame_model.{name}"


def _name(released: str) -> str | None:
    if released.startswith(_BACKBONE):
        return mask2former_vis_name(released.removeprefix(_BACKBONE))
    if released.startswith(_DETR):
        return devis_name(released.removeprefix(_DETR))
    reid = _HEAD + "reid_embed_head."
    if released.startswith(reid):
        return "association_head.mlp." + released.removeprefix(reid)
    return seqformer_name(released.removeprefix(_HEAD))
