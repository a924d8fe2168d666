"""Test-time augmentation through the engine: one size is none, equal results stay, better pivots do not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_fakes import predict_all
from torch import Tensor, nn

from vislab.data import DatasetConfig, load_dataset
from vislab.engine import augmented
from vislab.engine.augmented import scaled_max_side
from vislab.engine.config import EvalConfig
from vislab.engine.infer import predict_video
from vislab.engine.progress import Silent
from vislab.models.presets import build_model
from vislab.rle import decode
from vislab.stitching import VideoInstance
from vislab.stitching.augmentation import TestTimeAugmentationConfig
from vislab.structures import ModelOutput

CPU = torch.device("cpu")
VIDEO = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)


def config(*short_sides: int, **more) -> EvalConfig:  # type: ignore[no-untyped-def]
    augmentation = TestTimeAugmentationConfig(short_sides) if short_sides else None
    return EvalConfig(DatasetConfig("fake"), augmentation=augmentation, **more)


def masks_of(instance: VideoInstance) -> np.ndarray:
    return np.stack([np.zeros((48, 64), bool) if c is None else decode(c, 48, 64) for c in instance.segmentations])


@pytest.mark.parametrize("name", ["seqformer", "mask2former-vis", "ifr", "tevit"])
def test_one_size_is_plain_inference(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, "smoke")
    alignment = "target" if name in ("seqformer", "tevit") else "interpolate"
    plain = predict_video(model, VIDEO, config(short_side=64, mask_alignment=alignment), 5, CPU)
    again = predict_video(model, VIDEO, config(64, mask_alignment=alignment), 5, CPU)
    assert [(one.label, one.score) for one in again] == [(one.label, one.score) for one in plain]
    assert len(plain) > 5
    for one, other in zip(plain, again, strict=True):
        assert (masks_of(one) != masks_of(other)).mean() < 1e-3  # probabilities of a half


class BySize(nn.Module):
    """Instances as bars, one for each query, in an order and with scores that depend on the size of the input."""

    mask_stride = 4

    def __init__(self, scores: dict[int, list[float]], orders: dict[int, list[int]], levels: dict[int, float]) -> None:
        super().__init__()
        self.scores, self.orders, self.levels = scores, orders, levels

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        height, width = (int(side) for side in images.shape[-2:])
        order = torch.tensor(self.orders[height])
        bar = torch.arange(width // 4) * 4 // (width // 4)
        masks = torch.where(bar == torch.arange(4)[:, None], self.levels[height], -9.0)
        masks = masks[:, None, None].expand(4, images.shape[1], height // 4, width // 4)[order]
        logits = torch.full((4, 4), -9.0).diagonal_scatter(torch.tensor(self.scores[height]).logit())[order]
        boxes = torch.full((1, 4, images.shape[1], 4), torch.nan)
        return ModelOutput(logits[None], boxes, lambda b, q: masks[q])


def bars(levels: dict[int, float]) -> BySize:
    scores = {32: [0.9, 0.8, 0.7, 0.6], 64: [0.7, 0.8, 0.9, 0.4]}
    return BySize(scores, {32: [0, 1, 2, 3], 64: [2, 0, 3, 1]}, levels)


@pytest.mark.parametrize("seed", range(4))
def test_results_are_matched_and_averaged_whatever_the_pivot(seed: int) -> None:
    """Logits 5 and -1 inside the bars: the mean probability, 0.63, is above a half, that of -1 alone is not."""
    video = np.zeros((3, 32, 32, 3), np.uint8)
    sizes = replace(config(32, 64, top_k=4), augmentation=TestTimeAugmentationConfig((32, 64), seed))
    found = predict_video(bars({32: 5.0, 64: -1.0}), video, sizes, 4, CPU)
    assert {one.label: one.score for one in found} == pytest.approx({0: 0.8, 1: 0.8, 2: 0.8, 3: 0.5})
    for one in found:
        mask = np.stack([decode(code, 32, 32) for code in one.segmentations])
        inside = np.arange(32) // 8 == one.label
        assert mask[..., inside].mean() > 0.7 and not mask[..., ~inside].any()
    alone = predict_video(bars({32: 5.0, 64: -1.0}), video, config(64, top_k=4), 4, CPU)
    assert alone == []


def test_pivots_differ_between_videos_and_not_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    original = augmented.random_pivot

    def remember(count: int, generator: torch.Generator) -> int:
        drawn.append(original(count, generator))
        return drawn[-1]

    monkeypatch.setattr(augmented, "random_pivot", remember)
    dataset = load_dataset(DatasetConfig("synthetic-ytvis19", 8, 32, 32, 2, 4), "valid")
    model = bars({32: 5.0, 64: 5.0})
    for _ in range(2):
        predict_all(model, dataset, config(32, 64), Silent())
    assert drawn[:8] == drawn[8:] and set(drawn) == {0, 1}


def test_the_longer_side_is_bounded_in_proportion() -> None:
    assert scaled_max_side(config(short_side=360, max_side=640), 480) == 853
    assert scaled_max_side(config(short_side=360), 480) is None
    assert scaled_max_side(config(max_side=640), 480) == 640
