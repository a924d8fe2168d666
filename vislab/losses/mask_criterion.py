"""The criterion of models that are matched by masks: Mask2Former-VIS and IFR (Eq. 5-7).

Shape letters: B batch, Q queries, T frames, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vislab.errors import require
from vislab.losses.classification import classification_loss
from vislab.losses.cross_frame import CrossFrameMaskPredictor, cross_frame_losses, point_losses
from vislab.losses.mask_matching import MaskMatcherConfig, match_masks
from vislab.losses.point_sampling import PointSamplingConfig, at_least_float, seeded_generator
from vislab.shared_batch import common_seed, new_seeds, normaliser, part_weight
from vislab.structures import ModelOutput, Targets

Matches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class MaskCriterionConfig:
    """Weights of IFR Eq. 5-7, which are also Mask2Former-VIS': lambda_c, lambda_m, lambda_D, lambda_e.

    cross_frame_weight: lambda_e, 0.3 in IFR; 0 computes nothing for it. The class loss goes by the model: cross-entropy
    with no_object_weight for the last logit where that stands for no object (Mask2Former), otherwise focal (IFR).
    mask_loss_norm: masks of all frames, empty where the instance is absent, are summed and divided by the "instances",
    as released, which makes the mask losses grow with the clip, or by "instance_frames". auxiliary: losses after every
    decoder layer, and before the first. points, matcher: which points of the masks are compared.
    """

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    cross_frame_weight: float = 0.0
    no_object_weight: float = 0.1
    mask_loss_norm: Literal["instances", "instance_frames"] = "instances"
    auxiliary: bool = True
    points: PointSamplingConfig = PointSamplingConfig()
    matcher: MaskMatcherConfig = MaskMatcherConfig()

    def __post_init__(self) -> None:
        for name in ("class_weight", "mask_weight", "dice_weight", "cross_frame_weight", "no_object_weight"):
            require(0 <= getattr(self, name) < math.inf, f"criterion.{name}", getattr(self, name), "0 or more")
        require(self.matcher.num_points >= 1, "criterion.matcher.num_points", self.matcher.num_points, "1 or more")

    def build(self) -> MaskCriterion:
        return MaskCriterion(self)


class MaskCriterion(nn.Module):
    """Class loss of all queries; cross-entropy and dice of the matched ones at points of their masks.

    Points come from seeds that torch's generator gives, one for the matching of a layer and one for each clip's masks;
    every distance between frames has a stream of its own: what one part draws does not depend on the others.
    """

    def __init__(self, config: MaskCriterionConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, output: ModelOutput, targets: list[Targets], mask_stride: int) -> dict[str, Tensor]:
        """Weighted scalar losses by name ("class", "mask", "dice", and with lambda_e > 0 "cross_mask", "cross_dice");
        those of an earlier decoder layer i carry the suffix "/aux<i>". Their sum is the total loss.

        Raises UserError if lambda_e > 0 and the model has no frame-level queries to predict other frames with. That
        goes by its last layer: what IFR predicts before its first, "/aux0", comes from the learned queries, the same in
        all frames, and gets cross-frame terms too, which are its plain ones at other points, T - 1 times.
        """
        if self.config.cross_frame_weight > 0:
            masks, expected = output.pred_masks, "0 for a model without frame-level queries"
            frame_level = isinstance(masks, CrossFrameMaskPredictor) and masks.has_frame_queries
            require(frame_level, "criterion.cross_frame_weight", self.config.cross_frame_weight, expected)
        losses = self._layer_losses(output, targets, mask_stride)
        if self.config.auxiliary:
            for index, auxiliary in enumerate(output.aux_outputs):
                layer = self._layer_losses(auxiliary, targets, mask_stride)
                losses.update({f"{name}/aux{index}": loss for name, loss in layer.items()})
        return losses

    def _layer_losses(self, output: ModelOutput, targets: list[Targets], mask_stride: int) -> dict[str, Tensor]:
        config = self.config
        generator = seeded_generator(common_seed(), 0, output.pred_logits.device)
        clip_seeds = new_seeds(len(targets))
        matches = match_masks(output, targets, config.matcher, generator)
        num_instances = normaliser(sum(len(target.labels) for target in targets))
        classes = class_loss(output, targets, matches, config.no_object_weight, num_instances)
        frames = targets[0].masks.shape[1] if config.mask_loss_norm == "instance_frames" else 1
        terms = self._mask_terms(output, targets, matches, mask_stride, clip_seeds)
        weights = {"mask": config.mask_weight, "dice": config.dice_weight}
        weights |= {f"cross_{name}": config.cross_frame_weight * weight for name, weight in weights.items()}
        losses = {name: weights[name] * term / (num_instances * frames) for name, term in terms.items()}
        return {"class": config.class_weight * classes} | losses

    def _mask_terms(
        self, output: ModelOutput, targets: list[Targets], matches: Matches, mask_stride: int, seeds: list[int]
    ) -> dict[str, Tensor]:
        """Sums over clips, instances and frames, unweighted. Masks are predicted for clips with matches only."""
        assert output.pred_masks is not None, "this layer predicts no masks"
        cross = self.config.cross_frame_weight > 0
        names = ("mask", "dice", "cross_mask", "cross_dice") if cross else ("mask", "dice")
        terms = {name: output.pred_logits.sum() * 0.0 for name in names}
        for index, (target, (queries, instances), seed) in enumerate(zip(targets, matches, seeds, strict=True)):
            if not len(queries):
                continue
            logits = at_least_float(output.pred_masks(index, queries))
            masks = target.masks[instances]
            assert masks.shape[-1] == mask_stride * logits.shape[-1], "masks and targets cover different parts"
            parts = [*point_losses(logits, masks, self.config.points, seeded_generator(seed, 0, logits.device))]
            if cross:
                assert isinstance(output.pred_masks, CrossFrameMaskPredictor)
                parts += cross_frame_losses(output.pred_masks, index, queries, masks, self.config.points, seed)
            terms = {name: term + part for (name, term), part in zip(terms.items(), parts, strict=True)}
        return terms


def class_loss(
    output: ModelOutput, targets: list[Targets], matches: Matches, no_object_weight: float, num_instances: float
) -> Tensor:
    """Cross-entropy where the output has a logit for no object, which its scores leave out; otherwise focal loss.

    The cross-entropy is a weighted mean over the queries (facebookresearch/Mask2Former mask2former_video/modeling/
    criterion.py:117-135), the focal loss a sum over queries and classes divided by the instances.
    """
    logits = output.pred_logits.float() if output.pred_logits.dtype != torch.float64 else output.pred_logits
    num_classes = output.class_scores().shape[-1]
    if num_classes == logits.shape[-1]:
        return classification_loss(logits, targets, matches, num_instances)
    labels = torch.full(logits.shape[:2], num_classes, dtype=torch.int64, device=logits.device)
    for clip, target, (queries, instances) in zip(labels, targets, matches, strict=True):
        clip[queries] = target.labels[instances]
    weight = torch.ones(logits.shape[-1], device=logits.device, dtype=logits.dtype)
    weight[-1] = no_object_weight
    matched = sum(len(queries) for queries, _ in matches)
    mean = functional.cross_entropy(logits.transpose(1, 2), labels, weight)
    return mean * part_weight(matched + no_object_weight * (labels.numel() - matched))
