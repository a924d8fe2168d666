"""Functional kernels: one public function each, its pure-torch definition, and the dispatch to faster paths."""

from __future__ import annotations

from vislab.ops.attention import attention
from vislab.ops.boxes import (
    box_cxcywh_to_xyxy,
    box_xyxy_to_cxcywh,
    generalized_box_iou,
    generalized_box_iou_pairwise,
)
from vislab.ops.deformable import deform_attn, deform_attn_fused

__all__ = [
    "attention",
    "box_cxcywh_to_xyxy",
    "box_xyxy_to_cxcywh",
    "deform_attn",
    "deform_attn_fused",
    "generalized_box_iou",
    "generalized_box_iou_pairwise",
]
