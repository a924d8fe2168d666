"""Pairs of query and class: which are kept, and who is asked for which mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vislab.data import DatasetConfig
from vislab.engine.config import EvalConfig
from vislab.engine.infer import predict_video
from vislab.engine.pairs import best_pairs, category_scores, pair_masks
from vislab.models.mask2former_vis import NoObjectOutput
from vislab.rle import decode
from vislab.stitching import ClipInferenceConfig, ClipTrackingConfig, StitchingConfig
from vislab.structures import ModelOutput, RegionMaskPredictor


class ClassMasks:
    """Query q as class k covers row q and column k of the 32 x 32 image; remembers what it was asked."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self.asked: list[tuple[list[int], list[int]]] = []

    def __call__(self, batch_index: int, query_index: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        self.asked.append((query_index.tolist(), labels.tolist()))
        masks = torch.full((len(query_index), self.num_frames, 32, 32), -9.0)
        for mask, query, label in zip(masks, query_index.tolist(), labels.tolist(), strict=True):
            mask[:, query] = 9.0
            mask[:, :, label] = 9.0
        return masks

    def on_regions(
        self, batch_index: Tensor, query_index: Tensor, frame_index: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        raise AssertionError("inference asks for masks on the image")


class ByClass(nn.Module):
    mask_stride = 1

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        logits = torch.tensor([[2.0, 1.0, -5.0], [-6.0, 1.5, -7.0]])
        frames = images.shape[1]
        self.masks = ClassMasks(frames)
        return ModelOutput(logits[None, :, None].expand(-1, -1, frames, -1), torch.zeros(1, 2, frames, 4), self.masks)


@pytest.mark.parametrize("clips", [None, ClipInferenceConfig(2, 2, StitchingConfig(class_weight=5.0))])
def test_a_query_with_two_classes_has_two_masks(clips: ClipInferenceConfig | None) -> None:
    model = ByClass()
    config = EvalConfig(DatasetConfig("fake"), top_k=3, clips=clips)
    found = predict_video(model, np.zeros((4, 32, 32, 3), np.uint8), config, 3, torch.device("cpu"))
    assert [instance.label for instance in found] == [0, 1, 1]
    assert model.masks.asked == [([0, 1, 0], [0, 1, 1])]
    for instance, query in zip(found, (0, 1, 0), strict=True):
        for code in instance.segmentations:
            mask = decode(code, 32, 32)
            assert mask[query].all() and mask[:, instance.label].all() and mask.sum() == 63


def test_clip_tracking_takes_the_mask_of_the_best_class() -> None:
    model = ByClass()
    clips = ClipInferenceConfig(2, 1, ClipTrackingConfig())
    config = EvalConfig(DatasetConfig("fake"), top_k=3, clips=clips)
    predict_video(model, np.zeros((2, 32, 32, 3), np.uint8), config, 3, torch.device("cpu"))
    assert model.masks.asked == [([0, 1], [0, 1])]


def test_other_models_are_asked_once_for_each_query() -> None:
    asked = []

    def masks(batch_index: int, query_index: Tensor) -> Tensor:
        asked.append(query_index.tolist())
        return query_index.float().view(-1, 1, 1, 1)

    queries = torch.tensor([4, 1, 4, 0])
    found, index = pair_masks(masks, queries, torch.tensor([0, 1, 1, 2]))
    assert asked == [[0, 1, 4]]
    assert torch.equal(found[index].flatten(), queries.float())
    assert isinstance(ClassMasks(1), RegionMaskPredictor) and not isinstance(masks, RegionMaskPredictor)


def test_best_pairs_come_best_first() -> None:
    scores = torch.tensor([[0.1, 0.7], [0.9, 0.3]])
    best, queries, labels = best_pairs(scores, 3)
    assert best.tolist() == pytest.approx([0.9, 0.7, 0.3])
    assert queries.tolist() == [1, 0, 1] and labels.tolist() == [0, 1, 1]
    assert len(best_pairs(scores, 10)[0]) == 4


def test_classes_that_the_data_lack_take_part_in_a_softmax() -> None:
    """Cutting logits first would hand their share to the others, no object's to begin with."""
    logits = torch.tensor([[[1.0, 0.0, 2.0, 3.0]]])
    output = NoObjectOutput(logits, torch.zeros(1, 1, 1, 4), None)
    assert torch.equal(category_scores(output, 2), logits[0].softmax(-1)[:, :2])
    plain = ModelOutput(logits, torch.zeros(1, 1, 1, 4), None)
    assert torch.equal(category_scores(plain, 2), logits[0].sigmoid()[:, :2])
