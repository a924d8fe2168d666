"""Peak memory of inference frame by frame: python stream_memory.py fake|refinevis HEIGHT WIDTH FRAMES [FRAMES ...]

refinevis: with the shipped weights of the tiny scale. For each number of frames, prints a line of JSON: peak_bytes
above what was resident before the first frame of the first video, tensors that exist at the last frame, milliseconds
per frame, frames with instances (seen), and frames that TAR refined.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

import torch
from clip_memory import resident_bytes
from torch import Tensor, nn

from vislab.blocks.temporal_attention_refinement import TARConfig
from vislab.data import DatasetConfig, load_dataset
from vislab.engine.device import peak_memory_bytes, reset_peak_memory
from vislab.engine.saved_model import model_of_weights
from vislab.engine.stream_inference import stream_video
from vislab.losses.frame_predictions import FramePredictions
from vislab.models.refinevis_presets import refinevis

WEIGHTS = Path(__file__).parents[2] / "experiments" / "weights" / "refinevis-tiny.safetensors"
CHANNELS = 32
GENERATION = 20  # frames after which half of the discs are other objects


class Discs:
    """Masks of ten discs in a row. An embedding has eight class logits, then ten channels that say which disc it is."""

    def __init__(self, size: tuple[int, int]) -> None:
        y, x = torch.arange(size[0])[:, None], torch.arange(size[1])
        centres = torch.linspace(0, size[1], 10)
        self.logits = torch.stack([10 - (y - size[0] / 2).abs() - (x - centre).abs() for centre in centres])

    def classify(self, embeddings: Tensor) -> Tensor:
        return embeddings[..., :8]

    def masks(self, frame: int, embeddings: Tensor, references: Tensor) -> Tensor:
        return self.logits[embeddings[:, 8:18].argmax(1)]


class TenDiscs(nn.Module):
    """Ten queries that always see the same discs, in an order that changes; five keep their tracks, those of the others
    end and new ones begin."""

    mask_stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.tar = TARConfig(feed_forward_channels=16).build(CHANNELS)
        self.num_frames = 0

    def frames(self, images: Tensor, padding_mask: Tensor) -> FramePredictions:
        assert len(images) == 1
        order, generation = torch.randperm(10), self.num_frames // GENERATION % 3
        look = order + torch.where(order < 5, 0, 5 * generation)
        self.num_frames += 1
        embeddings = torch.zeros(1, 10, CHANNELS)
        embeddings[..., :8] = -9.0
        embeddings[:, torch.arange(10), order % 8] = 2.0
        embeddings[:, torch.arange(10), 8 + order] = 1.0
        boxes = torch.full((1, 10, 4), 0.05)
        boxes[..., 0] = order / 10
        association = 6.0 * nn.functional.one_hot(look, 20).float()[None]
        heads = Discs((images.shape[2] // 4, images.shape[3] // 4))
        return FramePredictions(heads.classify(embeddings), boxes, embeddings, boxes[..., :2], heads, association)


def build(name: str) -> nn.Module:
    if name == "fake":
        return TenDiscs()
    assert name == "refinevis", name
    return model_of_weights(refinevis("tiny"), WEIGHTS)[1]


def main(name: str, height: int, width: int, *lengths: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, refined = build(name), list[None]()
    model.tar.feed_forward.register_forward_hook(lambda *_: refined.append(None))
    before, cpu = resident_bytes(), torch.device("cpu")
    for length in lengths:
        data = DatasetConfig("synthetic-ovis", 1, height=height, width=width, length=length, num_categories=8)
        dataset, seen, tensors = load_dataset(data, "valid"), 0, 0
        refined.clear()
        reset_peak_memory(cpu)
        frames = (dataset.frames(0, [number])[0] for number in range(length))
        started = time.perf_counter()
        for result in stream_video(model, frames):
            seen += bool(result.instances)
            if result.frame == length - 1:
                tensors = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
        milliseconds = round(1000 * (time.perf_counter() - started) / length, 1)
        found = {"peak_bytes": peak_memory_bytes(cpu) - before, "tensors": tensors, "ms_per_frame": milliseconds}
        print(json.dumps(found | {"seen": seen, "refined": len(refined)}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
