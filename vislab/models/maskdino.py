"""MaskDINO, the frame-level model that RefineVIS stands on (Li et al., "Mask DINO"; IDEA-Research/MaskDINO).

Shape letters: F frames, Q queries, D denoising queries, L levels, K classes, C channels, H W image size, h w mask size.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from vislab.blocks.feed_forward import MLP
from vislab.blocks.mask_boxes import mask_boxes
from vislab.errors import UserError
from vislab.losses.denoising import DenoisingQueries, attention_mask
from vislab.losses.frame_predictions import FramePredictions
from vislab.models.adapt import from_query_decomposition
from vislab.models.backbones import RESNET50, STRIDES, BackboneConfig
from vislab.models.encoder import Encoder, EncoderConfig
from vislab.models.frame_model import KernelHeads
from vislab.models.maskdino_decoder import DecoderOutput, MaskDINODecoder, MaskDINODecoderConfig, frame_memory
from vislab.models.pixel_decoder import PixelDecoder, reset_feed_forwards
from vislab.models.query_selection import QuerySelection
from vislab.models.trunk import check_widths, input_projections, unpadded_size


@dataclass(frozen=True)
class MaskDINOConfig:
    """MaskDINO; the defaults are the release for COCO with ResNet-50 and one extra level (3s_dowsample1_2048).

    num_levels: 4 adds a map of stride 64 to C3..C5; 5 with Swin-L in RefineVIS. initial_boxes: where the decoder
    starts: boxes around the masks of the selected queries (`mask_boxes`), or None: the boxes that they propose.
    """

    backbone: BackboneConfig = replace(RESNET50, frozen_stages=0)
    num_classes: int = 80
    num_queries: int = 300
    hidden_dim: int = 256
    num_heads: int = 8
    num_levels: int = 4
    dropout: float = 0.0
    encoder: EncoderConfig = EncoderConfig(feed_forward_channels=2048)
    decoder: MaskDINODecoderConfig = MaskDINODecoderConfig()
    initial_boxes: Literal["mask2box", "bitmask"] | None = "mask2box"

    def build(self) -> MaskDINO:
        check_widths(self.hidden_dim, self.num_heads, self.num_levels)
        if self.num_levels < len(STRIDES):
            raise UserError(f"num_levels is {self.num_levels}, expected at least {len(STRIDES)} (C3, C4, C5)")
        if self.encoder.temporal is not None:
            raise UserError("encoder.temporal is set, expected None: this model sees single frames")
        return MaskDINO(self)


class MaskDINOPixelDecoder(PixelDecoder):
    """Mask2Former's pixel decoder with further, coarser levels, and the finest first instead of last.

    Source: maskdino/modeling/pixel_decoder/maskdino_encoder.py:335-400 ("low2high").
    """

    def __init__(
        self, widths: tuple[int, ...], channels: int, num_heads: int, num_levels: int, encoder: EncoderConfig,
        dropout: float,
    ) -> None:  # fmt: skip
        super().__init__(widths, channels, num_heads, replace(encoder, num_layers=0), dropout)
        self.input_proj = input_projections(widths[1:], channels, num_levels)
        self.level_embed = nn.Parameter(torch.randn(num_levels, channels))
        self.encoder = Encoder(channels, num_heads, num_levels, encoder, dropout)
        reset_feed_forwards(self.encoder)

    def frames(self, features: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """features: C2 to C5, (F, width, H_l, W_l). Returns L levels (F, C, H_l, W_l), finest first, and the features
        that kernels multiply, (F, C, H / 4, W / 4)."""
        finest, *deeper = features
        maps = [project(feature) for project, feature in zip(self.input_proj, deeper, strict=False)]
        for index in range(len(deeper), len(self.input_proj)):
            maps.append(self.input_proj[index](deeper[-1] if index == len(deeper) else maps[-1]))
        levels = self._encode(maps, len(finest))
        lateral = self.lateral(finest)
        size = lateral.shape[-2:]
        upsampled = nn.functional.interpolate(levels[0], size=size, mode="bilinear", align_corners=False)
        return levels, self.mask_features(self.smooth(lateral + upsampled))


class MaskDINO(nn.Module):
    """Frame-level model: pixel decoder, two-stage query selection, boxes from masks, decoder, kernel masks.

    Padding is treated as image, as in the release; boxes are those of the unpadded image all the same.
    """

    mask_stride = 4
    takes_denoising = True

    def __init__(self, config: MaskDINOConfig) -> None:
        super().__init__()
        channels, heads, levels = config.hidden_dim, config.num_heads, config.num_levels
        self.config, self.channels = config, channels
        self.backbone = config.backbone.build(stride4=True)
        widths = self.backbone.channels
        self.pixel_decoder = MaskDINOPixelDecoder(widths, channels, heads, levels, config.encoder, config.dropout)
        self.selection = QuerySelection(channels)
        self.decoder = MaskDINODecoder(channels, heads, levels, config.decoder, config.dropout)
        self.class_head = nn.Linear(channels, config.num_classes)
        self.mask_head = MLP(channels, channels, channels, 3)
        self.label_embed = nn.Embedding(config.num_classes, channels)  # of denoising queries, in training only
        # the release leaves the bias at random; from scratch focal loss needs its prior
        nn.init.constant_(self.class_head.bias, -math.log(99))

    def forward(
        self, images: Tensor, padding_mask: Tensor, denoising: DenoisingQueries | None = None
    ) -> FramePredictions:
        """images: (F, 3, H, W), H and W multiples of 32; padding_mask: (F, H, W).

        aux_outputs: the selected tokens, the queries before the first layer, and after each layer but the last. Those
        of denoising queries, likewise, do without the first. Fewer than Q tokens give fewer queries.
        """
        levels, features = self.pixel_decoder.frames(self.backbone(images))
        heads = KernelHeads(self.decoder.norm, self.class_head, self.mask_head, features)
        memory, shapes = frame_memory(levels[::-1])
        # the tokens' scores come from the class head without the decoder's norm (maskdino_decoder.py:398-401)
        select = self.config.num_queries, self.class_head, self.decoder.box_head
        selected = self.selection(memory.tokens[:, 0], shapes, *select)
        share = (unpadded_size(padding_mask) / torch.tensor(images.shape[:1:-1], device=images.device)).repeat(1, 2)
        first = _predictions(DecoderOutput(selected.queries, selected.boxes), heads, share)
        start = DecoderOutput(selected.queries.detach(), self._first_boxes(first, selected.boxes))
        mask = None
        if denoising is not None:
            mask = attention_mask(denoising, start.queries.shape[1])
            noised = self.label_embed(denoising.labels), (denoising.boxes * share[:, None]).to(images.dtype)
            start = DecoderOutput(*(torch.cat(parts, dim=1) for parts in zip(noised, start, strict=True)))
        layers = [start, *self.decoder(*start, memory, mask)]
        count = 0 if denoising is None else len(denoising)
        outputs = [first, *(_predictions(layer, heads, share, slice(count, None)) for layer in layers)]
        outputs[-1].aux_outputs = outputs[:-1]
        if denoising is not None:
            noised_outputs = [_predictions(layer, heads, share, slice(count)) for layer in layers]
            noised_outputs[-1].aux_outputs = noised_outputs[:-1]
            outputs[-1].denoising, outputs[-1].denoising_queries = noised_outputs[-1], denoising
        return outputs[-1]

    @torch.no_grad()
    def _first_boxes(self, selected: FramePredictions, proposed: Tensor) -> Tensor:
        """(F, Q, 4) of the padded image, without gradient."""
        kind = self.config.initial_boxes
        if kind is None:
            return proposed.detach()
        every = torch.arange(proposed.shape[1], device=proposed.device)
        return torch.stack([mask_boxes(selected.masks(frame, every), kind) for frame in range(len(proposed))])

    def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a deformable model of clips, such as SeqFormer: its encoder serves the pixel decoder, the layers
        of its box queries those of the decoder, which counts levels from the coarsest on. Others pass unchanged."""
        adapted, levels = {}, (self.config.num_heads, self.config.num_levels, -1)
        for name, value in from_query_decomposition(state).items():
            layer = re.fullmatch(r"(decoder\.layers\.\d+\.cross_attention\.)spatial\.(.+)", name)
            if name.startswith(("encoder.", "input_proj.", "level_embed")):
                name = f"pixel_decoder.{name}"
            elif layer is not None:
                name = layer[1] + layer[2]
                if layer[2].startswith(("sampling_offsets", "attention_weights")):
                    value = value.unflatten(0, levels).flip(1).flatten(0, 2)
            adapted[name] = value
        return adapted

    def released_extras(self) -> dict[str, int]:
        """Numbers that the released state dict holds on top of this model: the box head for every layer, twice, the
        decoder's norm twice, and the criterion's weights of the classes and of none."""
        box_head = sum(parameter.numel() for parameter in self.decoder.box_head.parameters())
        copies = 2 * len(self.decoder.layers)
        weights = self.class_head.out_features + 1
        return {
            "aliased box heads": copies * box_head,
            "aliased norm": 2 * self.channels,
            "class weights of the loss": weights,
        }


def _predictions(
    layer: DecoderOutput, heads: KernelHeads, share: Tensor, part: slice | None = None
) -> FramePredictions:
    """The queries of a part. share: (F, 4), unpadded part of width and height, twice."""
    queries, boxes = (values if part is None else values[:, part] for values in layer)
    boxes = boxes / share[:, None]
    return FramePredictions(heads.classify(queries), boxes, queries, boxes[..., :2], heads)
