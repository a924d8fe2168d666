"""A data set, a model and a criterion that are small enough to see through, for the tests of the engine.

Shape letters: B batch, T frames, Q queries, K classes, N instances, H W image size, h w mask size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vislab.data import Category, FrameAnnotations, VideoDataset, VideoInfo
from vislab.engine.config import EvalConfig
from vislab.engine.infer import predict_dataset
from vislab.engine.progress import Watcher
from vislab.rle import area, encode
from vislab.structures import ModelOutput, Targets


class FakeVideos:
    """Videos of two bright rectangles on noise, of odd sizes; the second one is absent from every third frame."""

    name = "fake"
    categories = (Category(3, "left"), Category(7, "right"))

    def __init__(self, num_videos: int = 3, size: tuple[int, int] = (37, 51)) -> None:
        self.num_videos, self.size = num_videos, size

    def __len__(self) -> int:
        return self.num_videos

    def info(self, index: int) -> VideoInfo:
        return VideoInfo(10 + index, f"video{index}", *self.size, 4 + index)

    def masks(self, index: int) -> np.ndarray:
        """(2, T, H, W) bool."""
        length, (height, width) = self.info(index).length, self.size
        masks = np.zeros((2, length, height, width), bool)
        for frame in range(length):
            masks[0, frame, 4 + frame : 20 + frame, 3:18] = True
            if frame % 3 != 2:
                masks[1, frame, 6:25, 22 + index + frame : 40 + index] = True
        return masks

    def frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        noise = np.random.default_rng(index).integers(0, 40, (self.info(index).length, *self.size, 3))
        bright = self.masks(index)[..., None] * np.array([[[[[200, 60, 30]]]], [[[[30, 60, 200]]]]])
        return (noise + bright.sum(0)).astype(np.uint8)[list(frame_indices)]

    def annotations(self, index: int, frame_indices: Sequence[int]) -> FrameAnnotations:
        masks = self.masks(index)[:, list(frame_indices)]
        present = masks.any(axis=(2, 3))
        boxes = np.zeros((*present.shape, 4), np.float32)
        for instance, frame in zip(*np.nonzero(present), strict=True):
            rows, columns = np.nonzero(masks[instance, frame])
            boxes[instance, frame] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        count = np.arange(2)
        visible = present.astype(np.float32)
        return FrameAnnotations(count, count + 1, np.zeros(2, bool), masks, boxes, present, visible)

    def ground_truth(self) -> dict[str, Any]:
        infos = [self.info(index) for index in range(len(self))]
        annotations = []
        for index, info in enumerate(infos):
            for label, masks in enumerate(self.masks(index)):
                codes = [encode(mask) if mask.any() else None for mask in masks]
                annotations.append(
                    {
                        "id": len(annotations) + 1, "video_id": info.id, "category_id": self.categories[label].id,
                        "iscrowd": 0, "segmentations": codes,
                        "areas": [None if code is None else area(code) for code in codes],
                    }
                )  # fmt: skip
        videos = [{"id": i.id, "name": i.name, "height": i.height, "width": i.width, "length": i.length} for i in infos]
        return {"videos": videos, "categories": [c._asdict() for c in self.categories], "annotations": annotations}

    def fingerprint(self) -> str:
        return f"fake{self.num_videos}"


class FakeModel(nn.Module):
    """Queries that see the pooled image; masks are products with a feature map. Has dropout, slow parts, a backbone."""

    mask_stride = 4

    def __init__(self, num_queries: int = 3, num_classes: int = 2, width: int = 8) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, width, 4, stride=4)
        self.dropout = nn.Dropout(0.2)
        self.query_embed = nn.Embedding(num_queries, width)
        self.sampling_offsets = nn.Linear(width, width)
        self.class_head = nn.Linear(width, num_classes)
        self.box_head = nn.Linear(width, 4)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        features = self.dropout(self.backbone(images.flatten(0, 1)).relu()).unflatten(0, images.shape[:2])
        pooled = self.sampling_offsets(features.mean(dim=(3, 4)))
        frame_queries = pooled[:, :, None] + self.query_embed.weight
        queries = frame_queries.mean(dim=1)
        masks = torch.einsum("bqc,btchw->bqthw", queries, features) * self.scale
        boxes = self.box_head(frame_queries).sigmoid().transpose(1, 2)
        return ModelOutput(self.class_head(queries), boxes, lambda b, q: masks[b, q], frame_queries)


class FakeCriterion(nn.Module):
    """Query i is to predict instance i; with a projection of its own, as contrastive losses have."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.head = nn.Linear(width, width)

    def forward(self, output: ModelOutput, targets: list[Targets], mask_stride: int) -> dict[str, Tensor]:
        assert output.frame_queries is not None
        class_loss, box, mask = (output.pred_logits.new_zeros(()) for _ in range(3))
        for clip, target in enumerate(targets):
            query = torch.arange(len(target.labels))
            wanted = nn.functional.one_hot(target.labels, output.pred_logits.shape[-1]).float()
            class_loss = class_loss + (output.pred_logits[clip, query] - wanted).square().mean()
            box = box + (output.pred_boxes[clip, query] - target.boxes).abs().mean()
            half = mask_stride // 2
            sampled = target.masks[..., half::mask_stride, half::mask_stride].float()
            logits = output.pred_masks(clip, query)
            mask = mask + nn.functional.binary_cross_entropy_with_logits(logits, sampled)
        contrastive = self.head(output.frame_queries).square().mean()
        losses = {"class": class_loss, "box": box, "mask": mask}
        return {name: loss / len(targets) for name, loss in losses.items()} | {"contrastive": 0.1 * contrastive}


def predict_all(model: nn.Module, dataset: VideoDataset, config: EvalConfig, watcher: Watcher) -> list[dict[str, Any]]:
    """The predictions of all videos, on the CPU."""
    videos = predict_dataset(model, dataset, config, torch.device("cpu"), watcher, range(len(dataset)))
    return [result for _, results in videos for result in results]
