"""Whole-video inference: where mask logits lie, which instances are kept, how they are written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from engine_fakes import FakeVideos
from torch import Tensor, nn

import vislab.engine.infer as infer
from vislab.data import DatasetConfig
from vislab.engine.config import EvalConfig
from vislab.engine.infer import MaskSampling, encode_masks, predict_dataset, predict_video, resize_masks
from vislab.engine.progress import Silent
from vislab.rle import decode
from vislab.structures import ModelOutput

CPU = torch.device("cpu")


def config(**more) -> EvalConfig:  # type: ignore[no-untyped-def]
    return EvalConfig(DatasetConfig("fake"), **more)


@pytest.mark.parametrize("size", [(64, 96), (37, 51), (128, 200), (1, 3)])
@pytest.mark.parametrize("stride", [1, 4, 8])
def test_interpolate_alignment_equals_torch(size: tuple[int, int], stride: int) -> None:
    logits = torch.randn(3, 8, 12)
    sampling = MaskSampling(stride, (8 * stride, 12 * stride), "interpolate")
    expected = nn.functional.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(resize_masks(logits, sampling, size), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(48, 80), (31, 77), (96, 160)])
def test_target_alignment_recovers_a_linear_function_of_the_pixel(stride: int, size: tuple[int, int]) -> None:
    """Logit (i, j) lies at pixel stride*i + stride//2: a function that is linear there is so in the resized mask."""

    def plane(y: Tensor, x: Tensor) -> Tensor:
        return 0.3 * y[:, None] - 0.2 * x + 1

    height, width = 64, 96
    centres = [torch.arange(side // stride) * stride + stride // 2 for side in (height, width)]
    resized = resize_masks(plane(*centres)[None], MaskSampling(stride, (height, width)), size)[0]
    y, x = ((torch.arange(out) + 0.5) * side / out - 0.5 for out, side in zip(size, (height, width), strict=True))
    inside = [(v >= c[0]) & (v <= c[-1]) for v, c in ((y, centres[0]), (x, centres[1]))]
    expected = plane(y, x)[inside[0]][:, inside[1]]
    torch.testing.assert_close(resized[inside[0]][:, inside[1]], expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("alignment", ["target", "interpolate"])
@pytest.mark.parametrize("inside", [(33, 50), (36, 52), (2, 1), (64, 64)])
def test_logits_in_the_padding_are_never_read(alignment: str, inside: tuple[int, int]) -> None:
    logits = torch.full((1, 16, 16), 1e9)
    rows, columns = (max(1, math.ceil(side / 4)) for side in inside)
    logits[:, :rows, :columns] = 1.0
    resized = resize_masks(logits, MaskSampling(4, inside, alignment), (45, 45))  # type: ignore[arg-type]
    assert resized.max() == 1.0


def test_masks_are_cut_above_the_threshold_and_empty_ones_are_none() -> None:
    logits = torch.full((2, 3, 4, 4), -5.0)
    logits[0, 0] = 0.5
    logits[1, 2, :2] = 2.0
    sampling = MaskSampling(1, (4, 4))
    low = encode_masks(logits, sampling, (4, 4), 0.5)
    assert [[code is not None for code in codes] for codes in low] == [[True, False, False], [False, False, True]]
    assert np.array_equal(decode(low[1][2], 4, 4), (logits[1, 2] > 0).numpy())
    high = encode_masks(logits, sampling, (4, 4), 1 / (1 + math.exp(-1.0)))
    assert high[0] == [None, None, None] and high[1][2] is not None
    everything = encode_masks(logits, sampling, (4, 4), 0.0)
    assert all(decode(code, 4, 4).all() for codes in everything for code in codes)


def test_few_masks_at_a_time_give_the_same_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, sampling = torch.randn(3, 5, 6, 7), MaskSampling(4, (21, 26))
    whole = encode_masks(logits, sampling, (33, 29), 0.5)
    assert [len(codes) for codes in whole] == [5, 5, 5]
    largest: list[int] = []
    resize: Callable[..., Tensor] = infer.resize_masks

    def watched(part: Tensor, *arguments) -> Tensor:  # type: ignore[no-untyped-def]
        resized = resize(part, *arguments)
        largest.append(resized.numel())
        return resized

    monkeypatch.setattr(infer, "resize_masks", watched)
    monkeypatch.setattr(infer, "PIXELS_AT_ONCE", 2 * 33 * 29)
    assert encode_masks(logits, sampling, (33, 29), 0.5) == whole
    assert max(largest) == 2 * 33 * 29


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
    results = predict_dataset(model, videos, config(top_k=2), CPU, Silent())
    assert json.loads(json.dumps(results)) == results
    assert [(r["video_id"], r["category_id"]) for r in results] == [(10, 3), (10, 7), (11, 3), (11, 7)]
    truth = {(a["video_id"], a["category_id"]): a["segmentations"] for a in videos.ground_truth()["annotations"]}
    assert all(r["segmentations"] == truth[r["video_id"], r["category_id"]] for r in results)
