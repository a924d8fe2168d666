"""The criterion of models with one query per frame and instance: DeVIS, VisTR, TeViT, and Deformable DETR on images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from vislab.config import added_later
from vislab.errors import UserError
from vislab.losses.boxes import BoxComparisonConfig, frame_box_losses
from vislab.losses.classification import classification_loss
from vislab.losses.masks import frame_mask_losses
from vislab.losses.region_masks import region_mask_losses
from vislab.losses.trajectory_matching import TrajectoryMatcherConfig, match_trajectories
from vislab.shared_batch import normaliser
from vislab.structures import MaskPredictor, ModelOutput, RegionMaskPredictor, Targets


@dataclass(frozen=True)
class TrajectoryCriterionConfig:
    """Weights and conventions. Defaults: the final DeVIS (appendix A; acaelles97/DeVIS src/config.py, configs/devis).

    class_weight: 2.0 in the released training, 1.0 in the paper's text. dice_weight, focal_weight: of the masks; 8 and
    8 when the mask head is trained end to end on COCO. layer_weights: of the class, box and GIoU losses of the decoder
    layers, see `layer_weights`; mask losses keep weight 1. invalid_frames: what boxes and masks learn in the frames
    where their instance is absent: nothing ("ignore", the paper), or the zero box and empty mask ("regress", which the
    released code does wherever a clip has any instance). normaliser: what sums are divided by: instances times frames,
    or the pairs of instance and frame that are present. masks_on: masks learn on the "image" (`frame_mask_losses`,
    whose options dice and mask_resolution are), or on the "regions" that they were predicted on (`region_mask_losses`).
    TeViT: see `tevit_losses`.
    """

    class_weight: float = 2.0
    box_weight: float = 5.0
    giou_weight: float = 2.0
    dice_weight: float = 1.0
    focal_weight: float = 1.0
    layer_weights: Literal["rising", "equal", "falling"] = "rising"
    invalid_frames: Literal["ignore", "regress"] = "ignore"
    normaliser: Literal["instance_frames", "present_frames"] = "instance_frames"
    dice: Literal["smooth", "squared"] = "smooth"
    mask_resolution: Literal["stride", "input"] = "stride"
    boxes: BoxComparisonConfig = BoxComparisonConfig()
    matcher: TrajectoryMatcherConfig = TrajectoryMatcherConfig()
    masks_on: Literal["image", "regions"] = field(default="image", metadata=added_later())

    def build(self) -> TrajectoryCriterion:
        return TrajectoryCriterion(self)


def tevit_losses() -> TrajectoryCriterionConfig:
    """TeViT's and QueryInst's losses (hustvl/TeViT configs/tevit/tevit_r50.py): the same for all heads, of boxes by
    their corners and masks on their regions, in the frames where the instance is present; elsewhere it is background
    (mmdet/core/bbox/assigners/tevit_hungarian_assigner.py:125-170)."""
    return TrajectoryCriterionConfig(
        dice_weight=8.0, focal_weight=0.0, layer_weights="equal", normaliser="present_frames", dice="squared",
        boxes=BoxComparisonConfig(l1_format="xyxy"),
        matcher=TrajectoryMatcherConfig(class_cost=2.0, l1_cost="sum", frames="present"),
        masks_on="regions",
    )  # fmt: skip


def layer_weights(mode: Literal["rising", "equal", "falling"], num_layers: int) -> list[float]:
    """Weights of the decoder layers' losses, first layer first.

    "equal": 1 each. "rising": 1/2 for the last layer, the rest in the proportions 1, 2, ..., all adding up to 1: for
    six layers 1/30, 2/30, 3/30, 4/30, 5/30, 15/30 (DeVIS src/models/criterion.py:14-21, 263-275). "falling": these
    from the last layer to the first, as the paper's appendix A prints them against the purpose it states. A single
    layer has weight 1.
    """
    if mode == "equal" or num_layers == 1:
        return [1.0] * num_layers
    rising = [(layer + 1) / (num_layers * (num_layers - 1)) for layer in range(num_layers - 1)] + [0.5]
    return rising if mode == "rising" else rising[::-1]


class TrajectoryCriterion(nn.Module):
    """Focal class loss of every query in every frame, box and mask losses of the matched ones."""

    def __init__(self, config: TrajectoryCriterionConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, output: ModelOutput, targets: list[Targets], mask_stride: int) -> dict[str, Tensor]:
        """Weighted scalar losses by name ("class", "box", "giou", "dice", "focal"); those of an earlier decoder layer i
        carry the suffix "/aux<i>". A layer that predicts no masks has neither dice nor focal loss. Their sum is the
        total loss."""
        config = self.config
        *early_weights, last_weight = layer_weights(config.layer_weights, len(output.aux_outputs) + 1)
        losses = self._layer_losses(output, targets, mask_stride, last_weight)
        for index, (auxiliary, weight) in enumerate(zip(output.aux_outputs, early_weights, strict=True)):
            layer = self._layer_losses(auxiliary, targets, mask_stride, weight)
            losses.update({f"{name}/aux{index}": loss for name, loss in layer.items()})
        return losses

    def _layer_losses(
        self, output: ModelOutput, targets: list[Targets], mask_stride: int, weight: float
    ) -> dict[str, Tensor]:
        """weight: of everything but the mask losses."""
        config = self.config
        matches = match_trajectories(output, targets, config.matcher, config.boxes)
        divisor = self._normaliser(targets)
        l1, giou = frame_box_losses(
            output.pred_boxes, targets, matches, divisor, absent=config.invalid_frames, comparison=config.boxes
        )
        classes = classification_loss(output.pred_logits, targets, matches, divisor)
        losses = {
            "class": weight * config.class_weight * classes,
            "box": weight * config.box_weight * l1,
            "giou": weight * config.giou_weight * giou,
        }
        if output.pred_masks is not None:
            dice, focal = self._mask_losses(output.pred_masks, targets, matches, mask_stride, divisor)
            losses |= {"dice": config.dice_weight * dice, "focal": config.focal_weight * focal}
        return losses

    def _mask_losses(
        self,
        pred_masks: MaskPredictor,
        targets: list[Targets],
        matches: list[tuple[Tensor, Tensor]],
        mask_stride: int,
        divisor: float,
    ) -> tuple[Tensor, Tensor]:
        """Dice and focal, unweighted. Raises UserError where regions are asked for and the model knows none."""
        config = self.config
        if config.masks_on == "image":
            return frame_mask_losses(
                pred_masks, targets, matches, mask_stride, divisor, absent=config.invalid_frames, dice=config.dice,
                resolution=config.mask_resolution,
            )  # fmt: skip
        if not isinstance(pred_masks, RegionMaskPredictor):
            raise UserError("criterion.masks_on is 'regions', expected 'image' for a model without mask regions")
        return region_mask_losses(pred_masks, targets, matches, divisor, absent=config.invalid_frames, dice=config.dice)

    def _normaliser(self, targets: list[Targets]) -> float:
        if self.config.normaliser == "instance_frames":
            count = sum(target.present.numel() for target in targets)
        else:
            count = sum(int(target.present.sum()) for target in targets)
        return normaliser(count)
