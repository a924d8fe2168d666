"""Whole-video inference: one clip is the whole video (SeqFormer; wjf5203/SeqFormer inference.py).

Shape letters: T frames, Q queries, K classes, n instances kept, H W image size, h w size of mask logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vislab.data import VideoDataset
from vislab.data.collate import video_batch
from vislab.engine.config import EvalConfig
from vislab.engine.progress import Watcher
from vislab.rle import RLE, encode_many

PIXELS_AT_ONCE = 2**24  # of upsampled mask logits held in memory: 64 MiB


@dataclass(frozen=True)
class VideoInstance:
    """One predicted instance. label: 0..K-1. score: in (0, 1). segmentations: T run-length codes, None where empty."""

    label: int
    score: float
    segmentations: list[RLE | None]


def predict_dataset(
    model: nn.Module, dataset: VideoDataset, config: EvalConfig, device: torch.device, watcher: Watcher
) -> list[dict[str, Any]]:
    """Predictions for every video, as YouTube-VIS results: video_id, category_id, score, segmentations."""
    results = []
    for index in range(len(dataset)):
        info = dataset.info(index)
        frames = dataset.frames(index, range(info.length))
        instances = predict_video(model, frames, config, len(dataset.categories), device)
        results += [
            {
                "video_id": info.id,
                "category_id": dataset.categories[instance.label].id,
                "score": instance.score,
                "segmentations": instance.segmentations,
            }
            for instance in instances
        ]
        watcher.update("infer", index + 1, len(dataset))
    return results


@torch.inference_mode()
def predict_video(
    model: nn.Module, frames: np.ndarray, config: EvalConfig, num_categories: int, device: torch.device
) -> list[VideoInstance]:
    """The `config.top_k` best pairs of query and class, best first, less those whose mask is empty in all frames.

    frames: (T, H, W, 3) uint8, RGB. num_categories: classes of the data set; the model may have more logits, which are
    not read. A query may appear under several classes.
    """
    model.eval()
    batch = video_batch(frames, config.short_side, config.max_side).to(device)
    output = model(batch.images, batch.padding_mask)
    scores = output.pred_logits[0, :, :num_categories].float().sigmoid()
    best, position = scores.flatten().topk(min(config.top_k, scores.numel()))
    position = position[best > config.score_threshold]
    queries, instance_query = torch.unique(position // scores.shape[1], return_inverse=True)
    if not len(queries):
        return []
    stride = model.mask_stride
    assert isinstance(stride, int)
    input_size = (int(batch.image_sizes[0, 0]), int(batch.image_sizes[0, 1]))
    sampling = MaskSampling(stride, input_size, config.mask_alignment)
    size = (frames.shape[1], frames.shape[2])
    masks = encode_masks(output.pred_masks(0, queries), sampling, size, config.mask_threshold)
    instances = [
        VideoInstance(label, _shortest(score), masks[query])
        for label, score, query in zip(
            (position % scores.shape[1]).tolist(), best.cpu().numpy(), instance_query.tolist(), strict=False
        )
    ]
    return [instance for instance in instances if any(mask is not None for mask in instance.segmentations)]


@dataclass(frozen=True)
class MaskSampling:
    """Where mask logits lie in the model's input.

    stride: pixels between logits. input_size: (height, width) of the input without padding. alignment: logit i lies at
    pixel stride*i + stride//2 ("target", where training reads its targets), or at the centre of its cell
    ("interpolate", what torch's interpolate takes for granted).
    """

    stride: int
    input_size: tuple[int, int]
    alignment: Literal["target", "interpolate"] = "target"

    @property
    def first(self) -> float:
        """Pixel at which logit 0 lies."""
        return self.stride // 2 if self.alignment == "target" else (self.stride - 1) / 2

    def weights(self, axis: int, num_logits: int, length: int, device: torch.device) -> Tensor:
        """Linear interpolation along an axis as a matrix: (length, num_logits) float32, rows of output pixels.

        Logits that lie in the padding are not used: beyond the last one inside, its value holds.
        """
        inside = self.input_size[axis]
        last = min(max(math.floor((inside - 1 - self.first) / self.stride), 0), num_logits - 1)
        pixel = (torch.arange(length, dtype=torch.float64, device=device) + 0.5) * (inside / length) - 0.5
        position = ((pixel - self.first) / self.stride).clamp(0, last)
        distance = (position[:, None] - torch.arange(num_logits, device=device)).abs()
        return (1 - distance).clamp(min=0).float()


def resize_masks(logits: Tensor, sampling: MaskSampling, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation of (n, h, w) logits at the pixel centres of an image of `size`: (n, H, W) float32."""
    rows = sampling.weights(0, logits.shape[1], size[0], logits.device)
    columns = sampling.weights(1, logits.shape[2], size[1], logits.device)
    return rows @ logits.float() @ columns.T


def encode_masks(
    logits: Tensor, sampling: MaskSampling, size: tuple[int, int], threshold: float
) -> list[list[RLE | None]]:
    """Run-length codes at image size of (n, T, h, w) logits whose sigmoid is above `threshold`; None for empty masks.

    Upsamples a few masks at a time: memory does not grow with the length of the video or the number of instances.
    """
    least_logit = math.log(threshold / (1 - threshold)) if threshold > 0 else -math.inf
    flat = logits.flatten(0, 1)
    codes: list[RLE | None] = []
    for part in flat.split(max(1, PIXELS_AT_ONCE // (size[0] * size[1]))):
        masks = (resize_masks(part, sampling, size) > least_logit).cpu().numpy()
        codes += [code if mask.any() else None for code, mask in zip(encode_many(masks), masks, strict=True)]
    length = logits.shape[1]
    return [codes[start : start + length] for start in range(0, len(codes), length)]


def _shortest(score: np.float32) -> float:
    """The shortest decimal number that gives this float32 again: what a reader wants to see in a results file."""
    return float(str(score))
