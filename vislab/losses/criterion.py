"""The criterion of query-based video models: matching per decoder layer, then a dictionary of weighted losses."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vislab.losses.boxes import box_losses
from vislab.losses.classification import classification_loss
from vislab.losses.contrastive import ContrastiveConfig, ContrastiveLoss
from vislab.losses.masks import mask_losses
from vislab.losses.matching import MatcherConfig, match_sequences
from vislab.shared_batch import normaliser
from vislab.structures import ModelOutput, Targets


@dataclass(frozen=True)
class CriterionConfig:
    """Weights of TAFormer Eq. 9: lambda_cls, lambda_L1, lambda_giou, lambda_dice, lambda_focal. contrastive None
    leaves L_cl out. auxiliary: losses after every decoder layer, not only the last."""

    class_weight: float = 2.0
    box_weight: float = 5.0
    giou_weight: float = 2.0
    dice_weight: float = 5.0
    focal_weight: float = 2.0
    auxiliary: bool = True
    matcher: MatcherConfig = MatcherConfig()
    contrastive: ContrastiveConfig | None = None

    def build(self) -> Criterion:
        return Criterion(self)


class Criterion(nn.Module):
    """Total loss of TAFormer Eq. 9 (SeqFormer's without the contrastive term)."""

    def __init__(self, config: CriterionConfig) -> None:
        super().__init__()
        self.config = config
        self.contrastive = None if config.contrastive is None else ContrastiveLoss(config.contrastive)

    def forward(self, output: ModelOutput, targets: list[Targets], mask_stride: int) -> dict[str, Tensor]:
        """Weighted scalar losses by name ("class", "box", "giou", "dice", "focal", "contrastive"); those of an
        earlier decoder layer i carry the suffix "/aux<i>". Their sum is the total loss."""
        losses = self._layer_losses(output, targets, mask_stride, last=True)
        if self.config.auxiliary:
            for index, auxiliary in enumerate(output.aux_outputs):
                layer = self._layer_losses(auxiliary, targets, mask_stride, last=False)
                losses.update({f"{name}/aux{index}": loss for name, loss in layer.items()})
        return losses

    def _layer_losses(
        self, output: ModelOutput, targets: list[Targets], mask_stride: int, last: bool
    ) -> dict[str, Tensor]:
        config = self.config
        matches = match_sequences(output, targets, config.matcher)
        num_instances = normaliser(sum(len(target.labels) for target in targets))
        l1, giou = box_losses(output.pred_boxes, targets, matches, num_instances)
        dice, focal = mask_losses(output, targets, matches, mask_stride, num_instances)
        losses = {
            "class": config.class_weight * classification_loss(output.pred_logits, targets, matches, num_instances),
            "box": config.box_weight * l1,
            "giou": config.giou_weight * giou,
            "dice": config.dice_weight * dice,
            "focal": config.focal_weight * focal,
        }
        if self.contrastive is not None and (last or self.contrastive.config.auxiliary):
            assert output.frame_queries is not None, "the contrastive loss needs frame-level queries"
            losses["contrastive"] = self.contrastive.config.weight * self.contrastive(output.frame_queries, matches)
        return losses
