"""Masks of chosen regions, of chosen queries on the canvas, of everything."""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny_models import clips
from tiny_tevit import TEVIT, build

from vislab.models.region_masks import RegionMasks
from vislab.ops.region_masks import paste_masks
from vislab.structures import ModelOutput


def region_masks(output: ModelOutput) -> RegionMasks:
    assert isinstance(output.pred_masks, RegionMasks)
    return output.pred_masks


def test_masks_on_the_canvas_are_those_on_regions() -> None:
    model, (images, padding) = build(replace(TEVIT, mask_stride=2)), clips(3)
    masks = region_masks(model(images, padding))
    queries, labels = torch.tensor([3, 3, 1]), torch.tensor([0, 2, 2])
    canvas = masks(1, queries, labels)
    assert canvas.shape == (3, 3, 32, 48)
    ones = torch.ones(3, dtype=torch.int64)
    for frame in range(3):
        logits, boxes = masks.on_regions(ones, queries, frame * ones, labels)
        assert logits.shape == (3, 8, 8)
        torch.testing.assert_close(paste_masks(logits, boxes, (32, 48), 2), canvas[:, frame])


def test_masks_without_labels_are_of_the_best_class() -> None:
    output = build(TEVIT)(*clips(2))
    queries = torch.arange(5)
    best = output.pred_logits[0].sigmoid().mean(1).argmax(-1)
    torch.testing.assert_close(region_masks(output)(0, queries), region_masks(output)(0, queries, best))


def test_regions_of_all_clips_in_one_pass_are_those_of_each() -> None:
    output = build(TEVIT)(*clips(3))
    index = [torch.tensor(entries) for entries in ([0, 1, 1, 0], [4, 4, 0, 1], [2, 0, 1, 1], [0, 1, 2, 0])]
    logits, boxes = region_masks(output).on_regions(*index)
    for row, single in enumerate(zip(*index, strict=True)):
        one, box = region_masks(output).on_regions(*(entry[None] for entry in single))
        torch.testing.assert_close(logits[row : row + 1], one)
        assert torch.equal(boxes[row : row + 1], box)
        clip, query, frame, _ = (int(entry) for entry in single)
        assert torch.equal(box[0], region_masks(output).boxes[clip, frame, query])


def test_no_regions_and_no_queries() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    masks = region_masks(build(TEVIT)(*clips(3)))
    logits, boxes = masks.on_regions(nothing, nothing, nothing, nothing)
    assert logits.shape == (0, 8, 8) and boxes.shape == (0, 4)
    assert masks(1, nothing, nothing).shape == (0, 3, 64, 96)
