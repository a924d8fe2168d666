"""Containers move to a device as a whole."""

from __future__ import annotations

import math
from dataclasses import fields

import torch

from vislab.structures import Batch, ModelOutput, Targets


def targets(instances: int = 2, frames: int = 3) -> Targets:
    return Targets(
        labels=torch.zeros(instances, dtype=torch.int64),
        boxes=torch.zeros(instances, frames, 4),
        masks=torch.zeros(instances, frames, 8, 8, dtype=torch.bool),
        present=torch.ones(instances, frames, dtype=torch.bool),
        track_ids=torch.arange(instances),
    )


def batch() -> Batch:
    padding = torch.zeros(2, 8, 8, dtype=torch.bool)
    sizes = torch.full((2, 2), 8)
    numbers = torch.arange(3).repeat(2, 1)
    return Batch(torch.zeros(2, 3, 3, 8, 8), padding, sizes, [targets(), targets(0)], ["a", "b"], numbers)


def test_targets_move_with_every_field() -> None:
    moved = targets().to("meta")
    for field in fields(Targets):
        before, after = getattr(targets(), field.name), getattr(moved, field.name)
        assert after.is_meta and after.shape == before.shape and after.dtype == before.dtype


def test_a_batch_moves_with_its_targets_and_keeps_its_names() -> None:
    original = batch()
    moved = original.to("meta")
    assert moved.images.is_meta and moved.padding_mask.is_meta and moved.image_sizes.is_meta
    assert all(target.masks.is_meta and target.present.is_meta for target in moved.targets)
    assert moved.video_names == ["a", "b"] and len(moved.targets) == 2
    assert moved.frame_numbers is not None and moved.frame_numbers.is_meta
    assert not original.images.is_meta, "the original stays where it is"


def test_a_batch_without_targets() -> None:
    plain = Batch(torch.zeros(1, 1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool), torch.tensor([[4, 4]]))
    assert plain.to("meta").targets == [] and plain.video_names == [] and plain.to("meta").frame_numbers is None


def test_auxiliary_outputs_are_not_shared_between_outputs() -> None:
    def output() -> ModelOutput:
        return ModelOutput(torch.zeros(1, 2, 3), torch.zeros(1, 2, 1, 4), lambda b, q: torch.zeros(len(q), 1, 2, 2))

    first, second = output(), output()
    first.aux_outputs.append(second)
    assert second.aux_outputs == [] and second.frame_queries is None


def test_class_scores_are_the_mean_over_frames_of_the_sigmoid() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = ModelOutput(logits, torch.zeros(2, 3, 4, 4), None).class_scores()
    assert scores.shape == (2, 3, 5) and scores.dtype == torch.float32
    for b, q, k in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(5)).tolist():
        expected = sum(1 / (1 + math.exp(-logits[b, q, t, k].item())) for t in range(4)) / 4
        assert abs(scores[b, q, k].item() - expected) < 1e-6


def test_class_scores_of_clip_logits_are_their_sigmoid() -> None:
    logits = torch.tensor([[[0.0, 3.0, -200.0]]], dtype=torch.bfloat16)
    scores = ModelOutput(logits, torch.zeros(1, 1, 4, 4), None).class_scores()
    torch.testing.assert_close(scores, torch.tensor([[[0.5, 1 / (1 + math.exp(-3)), 0.0]]]))
