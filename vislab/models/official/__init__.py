"""Released checkpoints into our models: names mapped, aliases checked, unused tensors skipped. One file per release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from vislab.errors import UserError
from vislab.models.devis import Devis
from vislab.models.mask2former_vis import Mask2FormerVIS
from vislab.models.maskdino import MaskDINO
from vislab.models.official.checkpoint import convert, load_strictly, read_state
from vislab.models.official.devis import devis_name
from vislab.models.official.idol import idol_name
from vislab.models.official.mask2former import mask2former_vis_name
from vislab.models.official.maskdino import maskdino_name
from vislab.models.official.seqformer import seqformer_name
from vislab.models.official.tevit import tevit_name
from vislab.models.refinevis import RefineVIS
from vislab.models.seqformer import SeqFormer
from vislab.models.tevit import TeViT

# release -> the model that it fits, and our name of one of its entries
SOURCES: dict[str, tuple[type[nn.Module], Callable[[str], str | None]]] = {
    "seqformer": (SeqFormer, seqformer_name),
    "devis": (Devis, devis_name),
    "deformable-detr": (Devis, devis_name),
    "mask2former-vis": (Mask2FormerVIS, mask2former_vis_name),
    "tevit": (TeViT, tevit_name),
    "maskdino": (MaskDINO, maskdino_name),
    "idol": (RefineVIS, idol_name),
}


def load_official(model: nn.Module, path: str | Path, source: str = "seqformer") -> nn.Module:
    """Loads a released checkpoint's state dict into our model; nothing may be missing, left over or of another shape.

    Args:
        model: `build_model` of the source's name, of matching size; modified in place.
        path: .safetensors, a .pth file (opened with weights_only, so no code of it runs), or detectron2's .pkl, of
            which only arrays are read.
        source: which release; "seqformer" (wjf5203/SeqFormer), "devis" (acaelles97/DeVIS), "deformable-detr"
            (fundamentalvision/Deformable-DETR with iterative box refinement, or DeVIS' COCO model with its mask head),
            "mask2former-vis" (facebookresearch/Mask2Former, the video models), "tevit" (hustvl/TeViT; "tevit" and
            "tevit-r50" of `build_model`), "maskdino" (IDEA-Research/MaskDINO, into the frame-level model), or "idol"
            (wjf5203/VNext, into a RefineVIS without TAR on Deformable DETR).

    Returns:
        model. Raises UserError naming the first entry that does not fit.
    """
    if source not in SOURCES:
        raise UserError(f"unknown source {source!r}: expected one of {', '.join(SOURCES)}")
    expected, name_of = SOURCES[source]
    if not isinstance(model, expected):
        raise UserError(f"source {source!r} fits a {expected.__name__} model, got {type(model).__name__}")
    path = Path(path)
    released = read_state(path)
    try:
        state = convert(released, name_of)
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from None
    load_strictly(model, state, path)
    return model
