"""Peak memory of inference by clips: python clip_memory.py fake|tracked|MODEL HEIGHT WIDTH FRAMES [FRAMES ...]

tracked: the fake model, its clips linked by clip tracking, not stitched. MODEL: a preset at tiny scale. For each number
of frames, prints a line of JSON: peak_bytes above what was resident before the first frame of the first video, seconds,
instances.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from vislab.data import DatasetConfig, load_dataset
from vislab.engine.config import EvalConfig
from vislab.engine.device import peak_memory_bytes, reset_peak_memory
from vislab.engine.infer import predict_dataset
from vislab.engine.progress import Silent
from vislab.models.presets import build_model
from vislab.stitching import ClipInferenceConfig, ClipTrackingConfig, StitchingConfig
from vislab.structures import ModelOutput


class TenBlobs(nn.Module):
    """Ten queries, as DeVIS has them, that always see the same ten discs, in an order that changes."""

    mask_stride = 4

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        length, height, width = images.shape[1], images.shape[3] // 4, images.shape[4] // 4
        order = torch.randperm(10)
        y, x = torch.arange(height)[:, None], torch.arange(width)
        centres = torch.stack([torch.linspace(0, height, 10), torch.linspace(0, width, 10)], dim=1)[order]
        masks = torch.stack([10 - (y - cy).abs() - (x - cx).abs() for cy, cx in centres])
        logits = torch.full((1, 10, length, 8), -9.0)
        logits[0, torch.arange(10), :, order % 8] = 2.0
        masks = masks[:, None].expand(-1, length, -1, -1)
        return ModelOutput(logits, torch.zeros(1, 10, length, 4), lambda b, q: masks[q])


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def main(name: str, height: int, width: int, *lengths: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = TenBlobs() if name in ("fake", "tracked") else build_model(name, "tiny")
    clips = ClipInferenceConfig(stitching=ClipTrackingConfig() if name == "tracked" else StitchingConfig())
    device = torch.device("cpu")
    before = resident_bytes()
    for length in lengths:
        data = DatasetConfig("synthetic-ovis", 1, height=height, width=width, length=length, num_categories=8)
        reset_peak_memory(device)
        started = time.perf_counter()
        config = EvalConfig(data, clips=clips)
        ((_, results),) = predict_dataset(model, load_dataset(data, "valid"), config, device, Silent(), [0])
        peak, seconds = peak_memory_bytes(device) - before, round(time.perf_counter() - started, 1)
        print(json.dumps({"peak_bytes": peak, "seconds": seconds, "instances": len(results)}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
