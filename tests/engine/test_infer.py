"""Whole-video inference: which instances are kept, how they are written."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from engine_fakes import FakeVideos, predict_all
from torch import Tensor, nn

from vislab.data import DatasetConfig
from vislab.engine.config import EvalConfig
from vislab.engine.infer import predict_video
from vislab.engine.mask_encoding import MaskSampling, resize_masks
from vislab.engine.progress import Silent
from vislab.rle import decode
from vislab.structures import ModelOutput

CPU = torch.device("cpu")


def config(**more) -> EvalConfig:  # type: ignore[no-untyped-def]
    return EvalConfig(DatasetConfig("fake"), **more)


class Fixed(nn.Module):
    """Predicts what it was given."""

    def __init__(self, logits: Tensor, masks: Tensor, stride: int) -> None:
        super().__init__()
        self.logits, self.masks, self.mask_stride = logits, masks, stride
        self.asked: list[list[int]] = []

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        assert not self.training and not torch.is_grad_enabled()
        self.input_shape = tuple(images.shape)

        def masks(batch_index: int, query_index: Tensor) -> Tensor:
            assert batch_index == 0
            self.asked.append(query_index.tolist())
            return self.masks[query_index]

        boxes = torch.zeros(1, len(self.logits), images.shape[1], 4)
        return ModelOutput(self.logits[None], boxes, masks)


def test_the_best_pairs_of_query_and_class_are_kept_best_first() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(7, 5), torch.randn(7, 3, 8, 8)
    masks[3] = -1.0  # nothing to see in any frame
    model = Fixed(logits, masks, 4)
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    found = predict_video(model, frames, config(top_k=12), 4, CPU)
    pairs = sorted(((logits[q, k].item(), q, k) for q in range(7) for k in range(4)), reverse=True)[:12]
    expected = [(k, pytest.approx(1 / (1 + math.exp(-logit)))) for logit, q, k in pairs if q != 3]
    assert [(instance.label, instance.score) for instance in found] == expected
    assert model.asked == [sorted({q for _, q, _ in pairs})]
    for instance, (_, query, _) in zip(found, [pair for pair in pairs if pair[1] != 3], strict=True):
        wanted = resize_masks(masks[query], MaskSampling(4, (32, 32)), (32, 32)) > 0
        for frame in range(3):
            code = instance.segmentations[frame]
            mask = np.zeros((32, 32), bool) if code is None else decode(code, 32, 32)
            assert np.array_equal(mask, wanted[frame].numpy())


def test_fewer_pairs_than_asked_for_and_a_score_threshold() -> None:
    model = Fixed(torch.tensor([[0.0, 2.0], [-2.0, -9.0]]), torch.ones(2, 1, 8, 8), 4)
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    assert len(predict_video(model, frames, config(top_k=10), 2, CPU)) == 4
    assert len(predict_video(model, frames, config(top_k=10, score_threshold=0.5), 2, CPU)) == 1  # 0.5 itself is not
    assert predict_video(model, frames, config(score_threshold=0.99), 2, CPU) == []


def test_scores_are_short_and_exact() -> None:
    model = Fixed(torch.tensor([[0.3]]), torch.ones(1, 1, 8, 8), 4)
    (instance,) = predict_video(model, np.zeros((1, 32, 32, 3), np.uint8), config(), 1, CPU)
    exact = torch.tensor(0.3).sigmoid().numpy()
    assert np.float32(instance.score) == exact and len(repr(instance.score)) <= 11


def test_frames_are_resized_and_padded_and_masks_come_back_at_image_size() -> None:
    model = Fixed(torch.ones(1, 1), torch.ones(1, 2, 8, 16), 4)
    frames = np.zeros((2, 50, 75, 3), np.uint8)
    (instance,) = predict_video(model, frames, config(short_side=20), 1, CPU)
    assert model.input_shape == (1, 2, 3, 32, 32)
    assert all(decode(code, 50, 75).all() for code in instance.segmentations)


def test_a_data_set_gives_results_with_its_own_ids() -> None:
    videos = FakeVideos(2)

    class Oracle(Fixed):
        index = -1

        def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
            self.index += 1
            padded = np.pad(videos.masks(self.index), ((0, 0), (0, 0), (0, 27), (0, 13)))
            self.masks = torch.from_numpy(padded).float() * 2 - 1
            return super().forward(images, padding_mask)

    model = Oracle(torch.tensor([[5.0, -5.0], [-5.0, 4.0]]), torch.empty(0), 1)
    results = predict_all(model, videos, config(top_k=2), Silent())
    assert json.loads(json.dumps(results)) == results
    assert [(r["video_id"], r["category_id"]) for r in results] == [(10, 3), (10, 7), (11, 3), (11, 7)]
    truth = {(a["video_id"], a["category_id"]): a["segmentations"] for a in videos.ground_truth()["annotations"]}
    assert all(r["segmentations"] == truth[r["video_id"], r["category_id"]] for r in results)
