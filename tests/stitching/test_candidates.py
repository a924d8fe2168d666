"""Selection of detections, suppression against loops."""

from __future__ import annotations

import torch
from scenes import Seen, predictions

from vislab.stitching.association import AssociationConfig
from vislab.stitching.candidates import class_scores, mask_iou, select_candidates, suppress

CONFIG = AssociationConfig()


def test_suppression_is_greedy() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        iou = torch.rand(7, 7, generator=generator)
        kept: list[int] = []
        for index in range(7):
            if all(iou[better, index] <= 0.6 for better in kept):
                kept.append(index)
        assert suppress(iou, 0.6).nonzero()[:, 0].tolist() == kept
    assert suppress(torch.zeros(0, 0), 0.5).shape == (0,)


def test_mask_iou() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :2], masks[1, :3] = True, True
    found = mask_iou(masks.float() - 0.5)
    torch.testing.assert_close(found[0, 1], torch.tensor(8 / 12))
    torch.testing.assert_close(found.diagonal(), torch.ones(3))
    assert found[0, 2] < 1e-6
    torch.testing.assert_close(mask_iou(torch.full((2, 4, 4), -1.0)), torch.ones(2, 2))


def test_best_first_above_the_score() -> None:
    values = predictions([[Seen(3, 0.2, score=0.3), Seen(4, 0.5, score=0.05), Seen(5, 0.8, score=0.9, label=1)]])
    found = select_candidates(values, 0, CONFIG)
    assert found.query_index.tolist() == [2, 0]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.3]))
    torch.testing.assert_close(found.embeddings, values.association[0, [2, 0]])
    assert select_candidates(values, 0, AssociationConfig(min_score=0.5)).query_index.tolist() == [2]


def test_the_single_best_is_kept_if_none_scores_enough() -> None:
    values = predictions([[Seen(3, 0.2, score=0.02), Seen(4, 0.5, score=0.05)]])
    assert select_candidates(values, 0, CONFIG).query_index.tolist() == [1]


def test_boxes_are_suppressed_within_a_class_and_masks_over_all() -> None:
    twins = [Seen(3, 0.5, score=0.8), Seen(4, 0.5, score=0.7, label=1)]
    assert select_candidates(predictions([twins]), 0, CONFIG).query_index.tolist() == [0]
    keep_masks = AssociationConfig(mask_nms=1.0)
    assert select_candidates(predictions([twins]), 0, keep_masks).query_index.tolist() == [0, 1]
    same = [twins[0], Seen(4, 0.5, score=0.7)]
    assert select_candidates(predictions([same]), 0, keep_masks).query_index.tolist() == [0]


def test_classes_beyond_the_data_set_and_broken_logits_do_not_count() -> None:
    values = predictions([[Seen(3, 0.2, score=0.9, label=1), Seen(4, 0.6, score=0.5)]])
    assert select_candidates(values, 0, CONFIG, num_categories=1).query_index.tolist() == [1]
    assert class_scores(torch.tensor([torch.nan, 0.0])).tolist() == [0.0, 0.5]
