"""Masks of region heads: on their boxes for the losses, pasted on the image for everybody else.

Shape letters: B batch, T frames, Q queries, K classes, C channels, n chosen regions or queries, h w size of a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vislab.blocks.region_mask_head import RegionMaskHead
from vislab.ops.region_masks import paste_masks
from vislab.ops.roi_align import Pyramid, level_of_boxes, roi_align
from vislab.structures import ModelOutput


@dataclass(frozen=True)
class RegionMasks:
    """Mask predictor of one stage of a region head.

    head: its mask branch. pyramid: features of all frames, frame t of clip b at b * T + t. queries: (B, T, Q, C), what
    made the dynamic convolutions of the box branch. boxes: (B, T, Q, 4) xyxy, pixels, detached. scores: (B, Q, K), of
    which the best class is the one whose mask is predicted if none is asked for. size: (h, w) of the canvas, of the
    given stride. finest_scale: see level_of_boxes.
    """

    head: RegionMaskHead
    pyramid: Pyramid
    queries: Tensor
    boxes: Tensor
    scores: Tensor
    size: tuple[int, int]
    stride: int
    finest_scale: float

    def on_regions(
        self, batch_index: Tensor, query_index: Tensor, frame_index: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Masks of single regions of any clips, in one pass: what the released mask loss is taken on.

        All arguments: (n,) int64; labels: the class whose channel is read. Returns logits (n, h, w) and the boxes
        (n, 4), xyxy in pixels, that these masks span; the boxes carry no gradient.
        """
        boxes = self.boxes[batch_index, frame_index, query_index]
        levels = level_of_boxes(boxes, len(self.pyramid.strides), self.finest_scale)
        image_index = batch_index * self.boxes.shape[1] + frame_index
        regions = roi_align(self.pyramid, boxes, image_index, levels, self.head.config.region_size)
        return self.head(self.queries[batch_index, frame_index, query_index], regions, labels), boxes

    def __call__(self, batch_index: int, query_index: Tensor, labels: Tensor | None = None) -> Tensor:
        """query_index: (n,) int64; labels: (n,) int64, the class of each (a query may come with several), by default
        its best. Returns logits (n, T, h, w) on the canvas, of the probabilities that paste_masks interpolates."""
        if labels is None:
            labels = self.scores[batch_index, query_index].argmax(-1)
        num_frames = self.boxes.shape[1]
        frames = torch.arange(num_frames, device=query_index.device).repeat(len(query_index))
        queries, labels = query_index.repeat_interleave(num_frames), labels.repeat_interleave(num_frames)
        logits, boxes = self.on_regions(torch.full_like(queries, batch_index), queries, frames, labels)
        canvas = paste_masks(logits, boxes, self.size, self.stride)
        return canvas.view(len(query_index), num_frames, *self.size)


def predict_every_mask(output: ModelOutput) -> None:
    """Masks of all queries and frames by the last stage, on their regions: what counts of operations include."""
    masks = output.pred_masks
    assert isinstance(masks, RegionMasks)
    axes = (torch.arange(count, device=masks.boxes.device) for count in masks.boxes.shape[:3])
    batch, frames, queries = (index.flatten() for index in torch.meshgrid(*axes, indexing="ij"))
    masks.on_regions(batch, queries, frames, torch.zeros_like(batch))
