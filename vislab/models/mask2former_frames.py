"""Mask2Former, frame by frame, for RefineVIS (its Table 7). Boxes are those around the masks.

Shape letters: F frames, Q queries, K classes, C channels, H W image size, h w mask size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vislab.blocks.mask_boxes import mask_boxes
from vislab.errors import UserError
from vislab.losses.denoising import DenoisingQueries
from vislab.losses.frame_predictions import FramePredictions
from vislab.models.frame_model import KernelHeads
from vislab.models.mask2former_vis import Mask2FormerVISConfig
from vislab.models.masked_decoder import Prediction
from vislab.models.trunk import unpadded_size


@dataclass(frozen=True)
class Mask2FormerFramesConfig:
    """model: Mask2Former with clips of one frame; sigmoid classes, as RefineVIS trains with focal loss."""

    model: Mask2FormerVISConfig = replace(Mask2FormerVISConfig(), classification="sigmoid")

    def build(self) -> Mask2FormerFrames:
        if self.model.classification != "sigmoid":
            raise UserError(f"frame_model.model.classification is {self.model.classification!r}, expected 'sigmoid'")
        return Mask2FormerFrames(self)

    @property
    def num_classes(self) -> int:
        return self.model.num_classes


class Mask2FormerFrames(nn.Module):
    """Frame-level model. Boxes have no gradient: give their losses no weight."""

    mask_stride = 4
    takes_denoising = False

    def __init__(self, config: Mask2FormerFramesConfig) -> None:
        super().__init__()
        self.config, self.channels = config, config.model.hidden_dim
        self.model = config.model.build()

    def forward(
        self, images: Tensor, padding_mask: Tensor, denoising: DenoisingQueries | None = None
    ) -> FramePredictions:
        """images: (F, 3, H, W), H and W multiples of 32; padding_mask: (F, H, W). denoising: always None."""
        assert denoising is None, "this decoder takes no denoising queries"
        features = self.model.pixel_decoder(self.model.backbone(images), len(images))
        share = unpadded_size(padding_mask) / torch.tensor(images.shape[:1:-1], device=images.device)
        maps = features.masks[:, 0]
        outputs = [self._output(prediction, maps, share) for prediction in self.model.decoder(features)]
        outputs[-1].aux_outputs = outputs[:-1]
        return outputs[-1]

    def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a Mask2Former, of images or of clips, or of what that can start from."""
        return {f"model.{name}": value for name, value in self.model.adapt_weights(state).items()}

    def _output(self, prediction: Prediction, maps: Tensor, share: Tensor) -> FramePredictions:
        """maps: (F, C, h, w), pixel features. share: (F, 2), unpadded part of width and height."""
        decoder = self.model.decoder
        heads = KernelHeads(decoder.norm, decoder.class_head, decoder.mask_head, maps)
        with torch.no_grad():
            logits = torch.einsum("fqc,fchw->fqhw", prediction.masks.kernels[:, 0], maps)
            boxes = mask_boxes(logits) / share.repeat(1, 2)[:, None]
        return FramePredictions(prediction.logits, boxes, prediction.frames[:, 0], boxes[..., :2], heads)
