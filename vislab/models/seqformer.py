"""SeqFormer and, with its temporal slots filled, TAFormer.

SeqFormer: Wu et al., "SeqFormer: Sequential Transformer for Video Instance Segmentation", the baseline of TAFormer.

Shape letters: B batch, T frames, Q queries, L levels, K classes, C channels, H W image size, S sum of H*W over levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from vislab.blocks.dynamic_mask_head import MaskFeatures, dynamic_masks, num_dynamic_parameters
from vislab.blocks.feed_forward import MLP
from vislab.blocks.position_encoding import temporal_sine_encoding
from vislab.config import added_later
from vislab.errors import UserError
from vislab.models.adapt import adapt_weights
from vislab.models.backbones import RESNET50, STRIDES, BackboneConfig
from vislab.models.encoder import EncoderConfig
from vislab.models.queries import class_heads, initial_references, reference_points
from vislab.models.query_decoder import DecoderConfig, LayerOutput, QueryDecoder
from vislab.models.trunk import DeformableTrunk, check_widths, unpadded_size
from vislab.structures import ModelOutput


@dataclass(frozen=True)
class MaskHeadConfig:
    """Dynamic mask head. feature_channels: 8 = 256 / 32 in the release. coordinate_scale: pixels per unit of the
    relative coordinates that the dynamic layers see (1 in the release)."""

    feature_channels: int = 8
    coordinate_scale: float = 1.0


@dataclass(frozen=True)
class SeqFormerConfig:
    """SeqFormer; TAFormer when encoder.temporal, temporal_position and decoder.temporal_attention are set.

    num_classes: 42 logits in the released YouTube-VIS weights. num_levels: 4 adds a stride-64 map to C3..C5.
    temporal_position: e^t of TAFormer Eq. 6, None leaves it out. reference_init: "linear" reads the first reference
    points from the query embedding (released); "grid" starts from learned points on a regular grid. clip_length: None
    takes clips of any length; ClipMSDA in encoder.temporal needs a fixed one.
    """

    backbone: BackboneConfig = RESNET50
    num_classes: int = 42
    num_queries: int = 300
    hidden_dim: int = 256
    num_heads: int = 8
    num_levels: int = 4
    dropout: float = 0.1
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()
    mask_head: MaskHeadConfig = MaskHeadConfig()
    temporal_position: Literal["index", "normalised"] | None = None
    reference_init: Literal["linear", "grid"] = "linear"
    clip_length: int | None = field(default=None, metadata=added_later())

    def build(self) -> SeqFormer:
        if self.num_levels < len(STRIDES):
            raise UserError(f"num_levels is {self.num_levels}, expected at least {len(STRIDES)} (C3, C4, C5)")
        check_widths(self.hidden_dim, self.num_heads, self.num_levels)
        if self.clip_length is not None and self.clip_length < 1:
            raise UserError(f"clip_length is {self.clip_length}, expected None or at least 1")
        return SeqFormer(self)


class SeqFormer(DeformableTrunk):
    """Clip-level model: backbone, deformable encoder, query-decomposed decoder, dynamic mask head."""

    mask_stride = 4

    def __init__(self, config: SeqFormerConfig) -> None:
        channels, levels = config.hidden_dim, config.num_levels
        super().__init__(
            config.backbone.build(), channels, config.num_heads, levels, config.encoder, config.dropout,
            config.clip_length,
        )  # fmt: skip
        self.config = config
        self.decoder = QueryDecoder(channels, config.num_heads, levels, config.decoder, config.dropout)
        self.query_embed = nn.Embedding(config.num_queries, 2 * channels)
        self.reference_points = reference_points(config.reference_init, channels, config.num_queries)
        self.class_heads = class_heads(channels, config.num_classes, config.decoder.num_layers)
        head_config = config.mask_head
        self.mask_features = MaskFeatures(channels, head_config.feature_channels)
        self.controller = MLP(channels, channels, num_dynamic_parameters(head_config.feature_channels), 3)
        for parameter in self.controller.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        """images: (B, T, 3, H, W), normalised, H and W multiples of 32; padding_mask: (B, H, W) bool, True = padded."""
        maps = self.extract(images).projected
        memory = self.encode(maps, padding_mask, self._temporal_position(images))
        position, content = self.query_embed.weight.chunk(2, dim=-1)
        reference = initial_references(self.reference_points, position)
        layers = self.decoder(content.expand(images.shape[0], -1, -1), position, reference, memory)
        features = self._mask_features(memory.tokens, maps)
        size = unpadded_size(padding_mask)
        outputs = [self._output(index, layer, features, size) for index, layer in enumerate(layers)]
        outputs[-1].aux_outputs = outputs[:-1]
        return outputs[-1]

    @torch.no_grad()
    def encoder_maps(self, images: Tensor, padding_mask: Tensor) -> list[Tensor]:
        """What the encoder makes of every level, finest first: (B, T, C, H_l, W_l) each (TAFormer Fig. 5); arguments as
        for `forward`, in evaluation mode."""
        maps = self.extract(images).projected
        return self.encoded_maps(self.encode(maps, padding_mask, self._temporal_position(images)).tokens, maps)

    def _temporal_position(self, images: Tensor) -> Tensor | None:
        mode, channels = self.config.temporal_position, self.config.hidden_dim
        return None if mode is None else temporal_sine_encoding(images.shape[1], channels, mode, images.device)

    def _mask_features(self, tokens: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, T, feature_channels, H / 8, W / 8) from the encoded levels of stride 8, 16 and 32."""
        levels = [level.flatten(0, 1) for level in self.encoded_maps(tokens, maps)[: len(STRIDES)]]
        return self.mask_features(levels).unflatten(0, tokens.shape[:2])

    def _output(self, index: int, layer: LayerOutput, features: Tensor, size: Tensor) -> ModelOutput:
        """The masks use the reference that the layer started from (SeqFormer models/segmentation.py:218)."""
        parameters = self.controller(layer.instance)
        points = layer.reference[..., :2].transpose(1, 2) * size[:, None, None]
        scale = self.config.mask_head.coordinate_scale

        def predict_masks(batch_index: int, query_index: Tensor) -> Tensor:
            chosen = parameters[batch_index, query_index], points[batch_index, query_index]
            return dynamic_masks(features[batch_index], *chosen, STRIDES[0], scale)

        return ModelOutput(
            pred_logits=self.class_heads[index](layer.instance),
            pred_boxes=layer.refined.transpose(1, 2),
            pred_masks=predict_masks,
            frame_queries=layer.boxes,
        )

    def released_extras(self) -> dict[str, int]:
        """Numbers that the released state dict holds on top of this model: the box heads twice, and the encoder's
        output_proj_box, which no forward pass reads (SeqFormer models/ops/modules/ms_deform_attn.py:61)."""
        channels = self.config.hidden_dim
        return {
            "aliased box heads": sum(parameter.numel() for parameter in self.decoder.box_heads.parameters()),
            "unused encoder output_proj_box": len(self.encoder.layers) * (channels + 1) * channels,
        }

    def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a model that samples all levels, for one that samples some: their slices are kept.

        TAFormer converts its pre-trained weights for the single-level rows of Table 5 in a way it does not describe;
        this is ours. ClipMSDA starts from the current frame's projections. Other entries pass unchanged.
        """
        return adapt_weights(self, state)
