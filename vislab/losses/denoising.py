"""Denoising queries: ground truth with noise, which the decoder has to undo, in training only.

DN: Li et al., DN-DETR, as MaskDINO has it. CDN: Zhang et al., DINO; RefineVIS section 3.5 extends it to association and
to tracklets.

Shape letters: B clips, T frames, F = B * T frames, D denoising queries, Q matching queries, N instances of the clip
with most of them, E channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vislab.errors import require
from vislab.losses.association import association_terms
from vislab.ops.boxes import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from vislab.shared_batch import draw_rows, largest
from vislab.structures import Targets


@dataclass(frozen=True)
class DenoisingConfig:
    """Denoising queries.

    kind: "dn" has positives only, moved and resized (IDEA-Research/MaskDINO maskdino_decoder.py:191-258); "cdn" has
    pairs of a positive and a negative, whose corners move by up to, and by more than, box_noise half widths
    (IDEA-Research/DINO models/dino/dn_components.py). num_queries: about how many per frame, positives and negatives
    together; as many groups as fit, at least one. box_noise: relative to the size of the box. label_noise: how often a
    query gets a random label.

    RefineVIS has "100 CDN queries" (500 with Swin-L), which is read as 100 in all, 50 pairs; with DINO's dn_number of
    100 they would be 100 pairs, which is num_queries=200. It gives no noise; MaskDINO's is taken.
    """

    kind: Literal["dn", "cdn"] = "cdn"
    num_queries: int = 100
    box_noise: float = 0.4
    label_noise: float = 0.2

    def __post_init__(self) -> None:
        require(self.num_queries >= 1, "denoising.num_queries", self.num_queries, "at least 1")
        for name in ("box_noise", "label_noise"):
            require(0 <= getattr(self, name) <= 1, f"denoising.{name}", getattr(self, name), "0 to 1")


@dataclass(frozen=True)
class DenoisingQueries:
    """Denoising queries of F frames. In all frames of a clip the same place stands for the same instance.

    labels: (F, D) int64, with noise. boxes: (F, D, 4) cxcywh in [0, 1] of the unpadded image, with noise. instance:
    (D,), place of the instance in its clip's targets. positive: (D,) bool. group: (D,) int64. valid: (F, D) bool, False
    where the clip has less instances or the frame is without this one.
    """

    labels: Tensor
    boxes: Tensor
    instance: Tensor
    positive: Tensor
    group: Tensor
    valid: Tensor

    def __len__(self) -> int:
        """D."""
        return len(self.group)


def make_denoising_queries(
    targets: list[Targets], num_classes: int, config: DenoisingConfig
) -> DenoisingQueries | None:
    """Queries for every frame of every clip; None if there is no instance at all. Noise is torch's own, on the CPU."""
    most = largest(max(len(target.labels) for target in targets))
    kinds = 1 if config.kind == "dn" else 2
    if most == 0:
        return None
    groups = max(1, config.num_queries // (kinds * most))
    device = targets[0].boxes.device
    labels, boxes, present = (torch.cat([_padded(part, most) for part in parts]) for parts in _by_frame(targets))
    layout = torch.arange(groups * kinds * most, device=device)
    instance, positive = layout % most, layout // most % kinds == 0
    noised = _noised_boxes(boxes[:, instance], positive, config)
    return DenoisingQueries(
        labels=_noised_labels(labels[:, instance], num_classes, config.label_noise),
        boxes=noised,
        instance=instance,
        positive=positive,
        group=layout // (kinds * most),
        valid=present[:, instance],
    )


def _by_frame(targets: list[Targets]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """labels (T, N), boxes (T, N, 4), present (T, N) of each clip."""
    labels = [target.labels.expand(target.present.shape[1], -1) for target in targets]
    boxes = [target.boxes.transpose(0, 1) for target in targets]
    return labels, boxes, [target.present.T for target in targets]


def _padded(values: Tensor, count: int) -> Tensor:
    """(T, n, ...) to (T, count, ...), zero (or False) where there was nothing."""
    filled = values.new_zeros(len(values), count, *values.shape[2:])
    filled[:, : values.shape[1]] = values
    return filled


def _uniform(*shape: int, like: Tensor) -> Tensor:
    return draw_rows(lambda rows, generator: torch.rand(rows, *shape[1:], generator=generator), shape[0]).to(like)


def _noised_labels(labels: Tensor, num_classes: int, share: float) -> Tensor:
    """Random labels, perhaps the true one, at a share of the places."""
    count, width = labels.shape
    others = draw_rows(lambda rows, generator: torch.randint(num_classes, (rows, width), generator=generator), count)
    replaced = draw_rows(lambda rows, generator: torch.rand(rows, width, generator=generator), count) < share
    return torch.where(replaced.to(labels.device), others.to(labels), labels)


def _noised_boxes(boxes: Tensor, positive: Tensor, config: DenoisingConfig) -> Tensor:
    """boxes: (F, D, 4) cxcywh; positive: (D,). Clamped to the image, of the same format."""
    amount = _uniform(*boxes.shape, like=boxes)
    if config.kind == "dn":
        reach = torch.cat((boxes[..., 2:] / 2, boxes[..., 2:]), dim=-1)
        return (boxes + (2 * amount - 1) * reach * config.box_noise).clamp(0, 1)
    sign = torch.where(_uniform(*boxes.shape, like=boxes) < 0.5, -1.0, 1.0)
    amount = amount + (~positive)[:, None].to(amount)
    reach = (boxes[..., 2:] / 2).repeat(1, 1, 2)
    corners = box_cxcywh_to_xyxy(boxes) + sign * amount * reach * config.box_noise
    return box_xyxy_to_cxcywh(corners.clamp(0, 1))


def attention_mask(queries: DenoisingQueries, num_matching: int) -> Tensor:
    """Who may attend to whom in the decoder's self-attention: (F, D + Q, D + Q) bool, True = may.

    Matching queries see each other only, so that nothing of the ground truth reaches them. A denoising query sees
    matching queries and the valid ones of its own group. A place without an instance sees itself and matching queries,
    and nobody sees it.
    """
    count, device = len(queries), queries.valid.device
    mask = torch.zeros(len(queries.valid), *[count + num_matching] * 2, dtype=torch.bool, device=device)
    mask[:, :, count:] = True
    same_group = queries.group[:, None] == queries.group
    own = torch.eye(count, dtype=torch.bool, device=device)
    mask[:, :count, :count] = same_group & queries.valid[:, None] & queries.valid[:, :, None] | own
    return mask


def frame_matches(queries: DenoisingQueries, frame: int) -> tuple[Tensor, Tensor]:
    """(query_index, instance_index) of the positives in a frame: what they have to reconstruct."""
    index = (queries.valid[frame] & queries.positive).nonzero()[:, 0]
    return index, queries.instance[index]


class DenoisingTracklets(NamedTuple):
    """query_index: (n, T) int64, -1 where the instance is absent. instance: (n,). positive: (n,) bool."""

    query_index: Tensor
    instance: Tensor
    positive: Tensor


def denoising_tracklets(queries: DenoisingQueries, clip: int, num_frames: int) -> DenoisingTracklets:
    """Temporal CDN (section 3.5): the queries of one instance in all frames of a clip, of one group and kind, are a
    tracklet, positive or negative."""
    valid = queries.valid[clip * num_frames : (clip + 1) * num_frames].T
    index = torch.arange(len(queries), device=valid.device)[:, None].expand_as(valid).masked_fill(~valid, -1)
    some = valid.any(1)
    return DenoisingTracklets(index[some], queries.instance[some], queries.positive[some])


def association_denoising(
    queries: DenoisingQueries, key_frame: int, reference_frame: int, key: Tensor, reference: Tensor
) -> tuple[Tensor, int]:
    """Association CDN (section 3.5): Eq. 3 for every positive query of the key frame.

    Its positives are the positive queries of its instance in the reference frame, in all groups; its negatives are the
    positive and negative queries of the other instances. Negative queries of its own instance are left out: they may
    still look alike. key, reference: (D, E) embeddings of the two frames. Returns the sum and the number of queries.
    """
    there = queries.valid[reference_frame]
    chosen = queries.valid[key_frame] & queries.positive & there
    same = queries.instance[chosen][:, None] == queries.instance
    terms = association_terms(key[chosen], reference, same & queries.positive & there, ~same & there, None)
    return terms["association"], int(chosen.sum())
