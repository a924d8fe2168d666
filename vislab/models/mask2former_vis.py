"""Mask2Former-VIS and, with IFR's layer in its decoder slot, IFR.

Mask2Former-VIS: Cheng et al., "Mask2Former for Video Instance Segmentation" (arXiv 2112.10764), the baseline of IFR.

Shape letters: B batch, T frames, Q queries, K classes, C channels, H W image size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from vislab.errors import UserError
from vislab.models.adapt import to_pixel_decoder, to_sigmoids
from vislab.models.backbones import RESNET50, BackboneConfig
from vislab.models.encoder import EncoderConfig
from vislab.models.masked_decoder import MaskedDecoder, MaskedDecoderConfig, Prediction
from vislab.models.pixel_decoder import PixelDecoder
from vislab.structures import ModelOutput

PRIOR = 0.01  # of a class at the start under focal loss (Lin et al., Focal Loss, section 4.1)


@dataclass(frozen=True)
class Mask2FormerVISConfig:
    """Mask2Former-VIS; IFR with decoder.layer = InterFrameRecurrentConfig() and classification = "sigmoid".

    num_classes: K, without the one for no object. classification: "softmax" over K + 1 logits, the last one for no
    object (Mask2Former), or K "sigmoid" logits (IFR, which trains with focal loss). encoder: of the pixel decoder.
    clip_length: set where a block is made for clips of one length; these models themselves take any.
    """

    backbone: BackboneConfig = replace(RESNET50, frozen_stages=0)
    num_classes: int = 40
    num_queries: int = 100
    hidden_dim: int = 256
    num_heads: int = 8
    dropout: float = 0.0
    classification: Literal["softmax", "sigmoid"] = "softmax"
    encoder: EncoderConfig = EncoderConfig()
    decoder: MaskedDecoderConfig = MaskedDecoderConfig()
    clip_length: int | None = None

    def build(self) -> Mask2FormerVIS:
        if self.hidden_dim % self.num_heads or self.hidden_dim % 4:
            expected = f"a multiple of 4 and of num_heads, {self.num_heads}"
            raise UserError(f"hidden_dim is {self.hidden_dim}, expected {expected}")
        return Mask2FormerVIS(self)


@dataclass
class NoObjectOutput(ModelOutput):
    """Output whose last logit stands for no object: scores are a softmax without it, (B, Q, K) of (B, Q, K + 1).

    Source: facebookresearch/Mask2Former mask2former_video/video_maskformer_model.py:258.
    """

    def class_scores(self) -> Tensor:
        return self.pred_logits.float().softmax(-1)[..., :-1]


class Mask2FormerVIS(nn.Module):
    """Clip-level model: backbone, deformable pixel decoder, masked-attention decoder; masks are kernel products.

    Mask logits lie at the centres of their cells of 4 x 4 pixels ("interpolate" in EvalConfig.mask_alignment).
    """

    mask_stride = 4

    def __init__(self, config: Mask2FormerVISConfig) -> None:
        super().__init__()
        self.config, self.clip_length = config, config.clip_length
        self.backbone = config.backbone.build(stride4=True)
        widths, channels, heads = self.backbone.channels, config.hidden_dim, config.num_heads
        softmax = config.classification == "softmax"
        self.pixel_decoder = PixelDecoder(widths, channels, heads, config.encoder, config.dropout, config.clip_length)
        self.decoder = MaskedDecoder(
            channels, heads, config.num_queries, len(widths) - 1, config.num_classes + softmax, config.decoder,
            config.dropout, prior=None if softmax else PRIOR,
        )  # fmt: skip

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        """images: (B, T, 3, H, W), normalised, H and W multiples of 32; padding_mask: (B, H, W), not read: padding is
        image to the released model. aux_outputs: one before the first decoder layer and one after each but the last.
        pred_boxes are NaN: the model predicts none. Raises UserError if a block needs another number of frames."""
        batch, num_frames = images.shape[:2]
        if self.clip_length not in (None, num_frames):
            raise UserError(f"clip of {num_frames} frames, expected the model's clip_length of {self.clip_length}")
        features = self.pixel_decoder(self.backbone(images.flatten(0, 1)), batch)
        outputs = [self._output(prediction, num_frames) for prediction in self.decoder(features)]
        outputs[-1].aux_outputs = outputs[:-1]
        return outputs[-1]

    def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Backbone and encoder of a deformable detector; of a Mask2Former all, its softmax for no object as sigmoids
        where the model has these."""
        adapted = to_pixel_decoder(state, self.config.num_heads)
        if self.config.classification == "softmax":
            return adapted
        return to_sigmoids(adapted, "decoder.class_head", self.config.num_classes)

    def _output(self, prediction: Prediction, num_frames: int) -> ModelOutput:
        logits = prediction.logits
        kind = NoObjectOutput if self.config.classification == "softmax" else ModelOutput
        return kind(
            pred_logits=logits,
            pred_boxes=logits.new_full((), math.nan).expand(*logits.shape[:2], num_frames, 4),
            pred_masks=prediction.masks,
            frame_queries=prediction.frames.expand(-1, num_frames, -1, -1),
        )


def parameter_parts(model: Mask2FormerVIS) -> dict[str, int]:
    """Number of parameters of each block; the sum is the model's count.

    The decoder's layers are split into their blocks, so that what IFR adds to its baseline can be read off:
    "temporal_attention" and "clip_attention". Also on the meta device.
    """
    parts = {"backbone": _count(model.backbone), "pixel_decoder": _count(model.pixel_decoder)}
    for layer in model.decoder.layers:
        for name, block in layer.named_children():
            parts[name] = parts.get(name, 0) + _count(block)
    parts["queries_and_heads"] = _count(model.decoder) - _count(model.decoder.layers)
    return parts


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
