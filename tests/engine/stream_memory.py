"""Peak memory of inference frame by frame: python stream_memory.py fake|MODEL HEIGHT WIDTH FRAMES [FRAMES ...]

MODEL: a preset of a frame-level model, at tiny scale. For each number of frames, prints a line of JSON: peak_bytes
above what was resident before the first frame of the first video, milliseconds per frame, frames with instances.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from clip_memory import resident_bytes
from torch import Tensor, nn

from vislab.data import DatasetConfig, load_dataset
from vislab.engine.device import peak_memory_bytes, reset_peak_memory
from vislab.engine.stream_inference import stream_video
from vislab.losses.frame_predictions import FramePredictions
from vislab.models.presets import build_model


class Discs:
    """Masks of ten discs in a row, which of them stands first in the embedding."""

    def __init__(self, size: tuple[int, int]) -> None:
        y, x = torch.arange(size[0])[:, None], torch.arange(size[1])
        centres = torch.linspace(0, size[1], 10)
        self.logits = torch.stack([10 - (y - size[0] / 2).abs() - (x - centre).abs() for centre in centres])

    def classify(self, embeddings: Tensor) -> Tensor:
        return embeddings[..., 1:]

    def masks(self, frame: int, embeddings: Tensor, references: Tensor) -> Tensor:
        return self.logits[embeddings[:, 0].long()]


class TenDiscs(nn.Module):
    """Ten queries that always see the same discs, in an order that changes."""

    mask_stride = 4
    tar = None

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(()))

    def frames(self, images: Tensor, padding_mask: Tensor) -> FramePredictions:
        order = torch.randperm(10)
        embeddings = torch.full((len(images), 10, 9), -9.0)
        embeddings[:, torch.arange(10), 0] = order.float()
        embeddings[:, torch.arange(10), 1 + order % 8] = 2.0
        boxes = torch.full((len(images), 10, 4), 0.05)
        boxes[..., 0] = order / 10
        association = 6.0 * nn.functional.one_hot(order, 10).float().expand(len(images), -1, -1)
        heads = Discs((images.shape[2] // 4, images.shape[3] // 4))
        return FramePredictions(embeddings[..., 1:], boxes, embeddings, boxes[..., :2], heads, association)


def main(name: str, height: int, width: int, *lengths: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = TenDiscs() if name == "fake" else build_model(name, "tiny")
    before = resident_bytes()
    for length in lengths:
        data = DatasetConfig("synthetic-ovis", 1, height=height, width=width, length=length, num_categories=8)
        dataset, seconds, seen = load_dataset(data, "valid"), 0.0, 0
        reset_peak_memory(torch.device("cpu"))
        frames = (dataset.frames(0, [number])[0] for number in range(length))
        started = time.perf_counter()
        for result in stream_video(model, frames):
            seen += bool(result.instances)
        seconds = time.perf_counter() - started
        peak = peak_memory_bytes(torch.device("cpu")) - before
        print(json.dumps({"peak_bytes": peak, "ms_per_frame": round(1000 * seconds / length, 1), "seen": seen}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
