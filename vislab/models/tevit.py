"""TeViT, and QueryInst, the image-level model that it grows out of.

TeViT: Yang et al., "Temporally Efficient Vision Transformer for Video Instance Segmentation"; QueryInst: Fang et al.
(arXiv 2105.01928). Conventions of hustvl/TeViT are named where they are used.

Shape letters: B batch, T frames, Q queries, K classes, C channels, H W image size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vislab.blocks.dynamic_conv import DynamicConvolution
from vislab.blocks.feature_pyramid import FeaturePyramid
from vislab.blocks.feed_forward import FeedForward
from vislab.blocks.query_interaction import InteractionMode, QueryInteraction
from vislab.blocks.region_mask_head import RegionMaskHead, RegionMaskHeadConfig
from vislab.errors import UserError
from vislab.models.msgshift import MsgShiftConfig
from vislab.models.pyramid_resnet import PyramidResNetConfig
from vislab.models.queries import grid_points
from vislab.models.region_masks import RegionMasks
from vislab.ops.boxes import box_cxcywh_to_xyxy
from vislab.ops.roi_align import Pyramid, level_of_boxes, roi_align
from vislab.structures import ModelOutput

# scale of the predicted deltas, and the largest change of a side (configs/tevit/tevit_r50.py, bbox_coder)
DELTA_SCALE = (0.5, 0.5, 1.0, 1.0)
LARGEST_LOG_RATIO = abs(math.log(16 / 1000))


@dataclass(frozen=True)
class TeViTConfig:
    """TeViT; QueryInst where query_interaction is "spatial" and the backbone has no messenger tokens.

    num_stages: cascaded heads. query_interaction: "spatiotemporal" (STQI, Eq. 3-4), or its rivals of Table 5, "spatial"
    (Eq. 3 alone) and "fused" (one attention over all frames' queries). region_size: bins of the box branch's RoIAlign.
    dynamic_channels: inner width of its dynamic convolution. finest_scale: side in pixels from which, doubled, boxes
    leave the finest level. proposal_init: boxes that the first stage starts from, the whole image ("image", released)
    or half-sided boxes on a grid ("grid", which breaks the symmetry between queries early in short training).
    mask_stride: pixels between the points of the canvas that masks are pasted on.
    """

    clip_length: ClassVar[None] = None  # any
    backbone: MsgShiftConfig | PyramidResNetConfig = MsgShiftConfig()
    num_classes: int = 40
    num_queries: int = 100
    hidden_dim: int = 256
    num_heads: int = 8
    num_stages: int = 6
    feed_forward_channels: int = 2048
    dropout: float = 0.0
    query_interaction: InteractionMode = "spatiotemporal"
    region_size: int = 7
    dynamic_channels: int = 64
    finest_scale: float = 56.0
    mask_head: RegionMaskHeadConfig = RegionMaskHeadConfig()
    proposal_init: Literal["image", "grid"] = "image"
    mask_stride: int = 1

    def build(self) -> TeViT:
        if self.hidden_dim % self.num_heads:
            raise UserError(f"hidden_dim is {self.hidden_dim}, expected a multiple of num_heads, {self.num_heads}")
        if self.num_stages < 1 or self.mask_stride < 1:
            found = f"num_stages is {self.num_stages} and mask_stride {self.mask_stride}"
            raise UserError(f"{found}, expected at least 1")
        return TeViT(self)


def apply_deltas(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Moves boxes by deltas of their own size, Girshick et al., R-CNN (arXiv 1311.2524) appendix C.

    A delta of 1 moves a centre by half a side and scales a side by e; sides change at most 62.5-fold at once
    (TeViT mmdet/core/bbox/coder/delta_xywh_bbox_coder.py). The result is not clipped to the image.
    boxes, deltas: (..., 4), cxcywh in any unit. Returns (..., 4), cxcywh.
    """
    scaled = deltas.to(boxes.dtype) * torch.tensor(DELTA_SCALE, dtype=boxes.dtype, device=boxes.device)
    centre, side = boxes[..., :2], boxes[..., 2:]
    ratio = scaled[..., 2:].clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()
    return torch.cat((centre + scaled[..., :2] * side, side * ratio), dim=-1)


class Branch(nn.Sequential):
    """Linear layers without bias, each with layer norm and ReLU, and a linear output."""

    def __init__(self, channels: int, num_layers: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(num_layers):
            layers += [nn.Linear(channels, channels, bias=False), nn.LayerNorm(channels), nn.ReLU()]
        super().__init__(*layers, nn.Linear(channels, out_channels))


class StageOutput(NamedTuple):
    """What a stage makes of boxes and queries: logits (B, T, Q, K), deltas of the boxes (B, T, Q, 4), the next stage's
    queries (B, T, Q, C), and its own after they met (B, T, Q, C), which make the masks."""

    logits: Tensor
    deltas: Tensor
    queries: Tensor
    attended: Tensor


class InstanceStage(nn.Module):
    """One cascaded head: query interaction, dynamic convolution, FFN, class and box branch, mask branch.

    TeViT section 3.3 and mmdet/models/roi_heads/bbox_heads/stqi_head.py.
    """

    def __init__(self, config: TeViTConfig) -> None:
        super().__init__()
        channels = config.hidden_dim
        self.region_size, self.finest_scale = config.region_size, config.finest_scale
        self.interaction = QueryInteraction(channels, config.num_heads, config.query_interaction, config.dropout)
        self.dynamic = DynamicConvolution(channels, config.dynamic_channels, config.region_size**2)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, config.feed_forward_channels, config.dropout)
        self.class_branch = Branch(channels, 1, config.num_classes)
        self.box_branch = Branch(channels, 3, 4)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        class_bias = self.class_branch[-1].bias
        assert isinstance(class_bias, Tensor)
        nn.init.constant_(class_bias, -math.log(99))
        self.mask_head = RegionMaskHead(channels, config.num_classes, config.mask_head)

    def forward(self, pyramid: Pyramid, boxes: Tensor, queries: Tensor) -> StageOutput:
        """pyramid: frame t of clip b is image b * T + t. boxes: (B, T, Q, 4) xyxy, pixels. queries: (B, T, Q, C)."""
        attended = self.interaction(queries)
        regions = boxes.flatten(0, 2).detach()  # pooling passes no gradient to boxes in the release
        levels = level_of_boxes(regions, len(pyramid.strides), self.finest_scale)
        images = torch.arange(boxes.shape[0] * boxes.shape[1], device=boxes.device).repeat_interleave(boxes.shape[2])
        features = roi_align(pyramid, regions, images, levels, self.region_size)
        update = self.dynamic(attended.flatten(0, 2), features).view_as(attended)
        objects = self.feed_forward(self.norm(attended + self.dropout(update)))
        return StageOutput(self.class_branch(objects), self.box_branch(objects), objects, attended)


class TeViT(nn.Module):
    """Clip-level model: backbone, feature pyramid, learned proposals, cascaded heads.

    Works on clips of any length: nothing in it depends on the number of frames.
    """

    clip_length: int | None = None

    def __init__(self, config: TeViTConfig) -> None:
        super().__init__()
        self.config, self.mask_stride = config, config.mask_stride
        self.backbone = config.backbone.build()
        self.neck = FeaturePyramid(self.backbone.channels, config.hidden_dim)
        self.proposal_boxes = nn.Parameter(_initial_boxes(config))
        self.proposal_queries = nn.Parameter(torch.randn(config.num_queries, config.hidden_dim))
        self.stages = nn.ModuleList(InstanceStage(config) for _ in range(config.num_stages))

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        """images: (B, T, 3, H, W), normalised, H and W multiples of 32; padding_mask: (B, H, W) bool, True = padded.

        Boxes of the output are relative to the unpadded image, not clipped, and each stage's carry gradient to that
        stage alone. pred_masks is a RegionMasks.
        """
        batch, frames = images.shape[:2]
        pyramid = Pyramid.from_levels(self.neck(self.backbone(images)), self.backbone.strides)
        width, height = (~padding_mask[:, 0, :]).sum(-1), (~padding_mask[:, :, 0]).sum(-1)
        pixels = torch.stack((width, height, width, height), dim=-1).to(images.dtype)[:, None, None]
        canvas = tuple(-(-side // self.mask_stride) for side in images.shape[-2:])
        boxes = self.proposal_boxes.expand(batch, frames, -1, -1)
        queries = self.proposal_queries.expand(batch, frames, -1, -1)
        outputs = []
        for stage in self.stages:
            assert isinstance(stage, InstanceStage)
            logits, deltas, queries, attended = stage(pyramid, box_cxcywh_to_xyxy(boxes) * pixels, queries)
            refined = apply_deltas(boxes, deltas)
            boxes = refined.detach()
            masks = RegionMasks(
                stage.mask_head, pyramid, attended, box_cxcywh_to_xyxy(boxes) * pixels,
                logits.detach().float().sigmoid().mean(1), (canvas[0], canvas[1]), self.mask_stride,
                self.config.finest_scale,
            )  # fmt: skip
            outputs.append(ModelOutput(logits.transpose(1, 2), refined.transpose(1, 2), masks, frame_queries=queries))
        outputs[-1].aux_outputs = outputs[:-1]
        return outputs[-1]


def _initial_boxes(config: TeViTConfig) -> Tensor:
    """(Q, 4) cxcywh relative to the image."""
    boxes = torch.tensor([0.5, 0.5, 1.0, 1.0]).repeat(config.num_queries, 1)
    if config.proposal_init == "grid":
        boxes = torch.cat((grid_points(config.num_queries), boxes[:, 2:] / 2), dim=-1)
    return boxes
