"""SeqFormer and, with its temporal slots filled, TAFormer.

SeqFormer: Wu et al., "SeqFormer: Sequential Transformer for Video Instance Segmentation", the baseline of TAFormer.

Shape letters: B batch, T frames, Q queries, L levels, K classes, C channels, H W image size, S sum of H*W over levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vislab.blocks.dynamic_mask_head import MaskFeatures, dynamic_masks, num_dynamic_parameters
from vislab.blocks.feed_forward import MLP
from vislab.blocks.position_encoding import spatial_sine_encoding, temporal_sine_encoding
from vislab.blocks.spatial_msda import SpatialMSDA
from vislab.errors import UserError
from vislab.models.backbones import RESNET50, STRIDES, BackboneConfig
from vislab.models.encoder import Encoder, EncoderConfig, encoder_reference_points, valid_ratios
from vislab.models.query_decoder import DecoderConfig, LayerOutput, Memory, QueryDecoder
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
    points from the query embedding (released); "grid" starts from learned points on a regular grid.
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

    def build(self) -> SeqFormer:
        if self.num_levels < len(STRIDES):
            raise UserError(f"num_levels is {self.num_levels}, expected at least {len(STRIDES)} (C3, C4, C5)")
        if self.hidden_dim % self.num_heads or self.hidden_dim % 4:
            expected = f"a multiple of 4 and of num_heads, {self.num_heads}"
            raise UserError(f"hidden_dim is {self.hidden_dim}, expected {expected}")
        return SeqFormer(self)


def grid_points(count: int) -> Tensor:
    """count points on a regular grid of about 16:9, (count, 2), (x, y) in (0, 1)."""
    columns = max(1, round(math.sqrt(count * 16 / 9)))
    rows = math.ceil(count / columns)
    index = torch.arange(count)
    x = (index % columns + 0.5) / columns
    y = (torch.div(index, columns, rounding_mode="floor") + 0.5) / rows
    return torch.stack((x, y), dim=-1)


class SeqFormer(nn.Module):
    """Clip-level model: backbone, deformable encoder, query-decomposed decoder, dynamic mask head."""

    mask_stride = 4

    def __init__(self, config: SeqFormerConfig) -> None:
        super().__init__()
        self.config = config
        channels, levels = config.hidden_dim, config.num_levels
        self.backbone = config.backbone.build()
        self.input_proj = nn.ModuleList(self._input_projections(self.backbone.channels, channels, levels))
        self.level_embed = nn.Parameter(torch.randn(levels, channels))
        self.encoder = Encoder(channels, config.num_heads, levels, config.encoder, config.dropout)
        self.decoder = QueryDecoder(channels, config.num_heads, levels, config.decoder, config.dropout)
        self.query_embed = nn.Embedding(config.num_queries, 2 * channels)
        if config.reference_init == "grid":
            self.reference_points: nn.Embedding | nn.Linear = nn.Embedding(config.num_queries, 2)
            with torch.no_grad():
                self.reference_points.weight.copy_(torch.logit(grid_points(config.num_queries)))
        else:
            self.reference_points = nn.Linear(channels, 2)
            nn.init.xavier_uniform_(self.reference_points.weight)
            nn.init.zeros_(self.reference_points.bias)
        class_heads = [nn.Linear(channels, config.num_classes) for _ in range(config.decoder.num_layers)]
        for head in class_heads:
            nn.init.constant_(head.bias, -math.log(99))
        self.class_heads = nn.ModuleList(class_heads)
        head_config = config.mask_head
        self.mask_features = MaskFeatures(channels, head_config.feature_channels)
        self.controller = MLP(channels, channels, num_dynamic_parameters(head_config.feature_channels), 3)
        for parameter in self.controller.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    @staticmethod
    def _input_projections(widths: tuple[int, ...], channels: int, levels: int) -> list[nn.Module]:
        convolutions = [nn.Conv2d(width, channels, 1) for width in widths]
        for extra in range(levels - len(widths)):
            convolutions.append(nn.Conv2d(widths[-1] if extra == 0 else channels, channels, 3, stride=2, padding=1))
        for convolution in convolutions:
            assert convolution.bias is not None
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)
        groups = math.gcd(32, channels)
        return [nn.Sequential(convolution, nn.GroupNorm(groups, channels)) for convolution in convolutions]

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        """images: (B, T, 3, H, W), normalised, H and W multiples of 32; padding_mask: (B, H, W) bool, True = padded."""
        maps = self._project(images)
        memory = self._encode(maps, padding_mask)
        position, content = self.query_embed.weight.chunk(2, dim=-1)
        if self.config.reference_init == "grid":
            reference = self.reference_points.weight.sigmoid()
        else:
            # autocast must not round points, nor the boxes that are refined from them, to bfloat16
            reference = self.reference_points(position).to(position.dtype).sigmoid()
        layers = self.decoder(content.expand(images.shape[0], -1, -1), position, reference, memory)
        features = self._mask_features(memory.tokens, maps)
        size = self._unpadded_size(padding_mask)
        outputs = [self._output(index, layer, features, size) for index, layer in enumerate(layers)]
        outputs[-1].aux_outputs = outputs[:-1]
        return outputs[-1]

    def _project(self, images: Tensor) -> list[Tensor]:
        """Returns L maps (B, T, C, H_l, W_l)."""
        batch = images.shape[0]
        features = self.backbone(images.flatten(0, 1))
        maps = [projection(feature) for projection, feature in zip(self.input_proj, features, strict=False)]
        for index in range(len(features), self.config.num_levels):
            maps.append(self.input_proj[index](features[-1] if index == len(features) else maps[-1]))
        return [feature_map.unflatten(0, (batch, -1)) for feature_map in maps]

    def _encode(self, maps: list[Tensor], padding_mask: Tensor) -> Memory:
        shapes = [(feature_map.shape[-2], feature_map.shape[-1]) for feature_map in maps]
        masks = [nn.functional.interpolate(padding_mask[:, None].float(), size=shape)[:, 0] > 0.5 for shape in shapes]
        channels, num_frames = self.config.hidden_dim, maps[0].shape[1]
        position = torch.cat(
            [
                spatial_sine_encoding(mask, channels).flatten(1, 2) + self.level_embed[level]
                for level, mask in enumerate(masks)
            ],
            dim=1,
        )[:, None]
        if self.config.temporal_position is not None:
            mode = self.config.temporal_position
            position = position + temporal_sine_encoding(num_frames, channels, mode, maps[0].device)[:, None]
        tokens = torch.cat([feature_map.flatten(3).transpose(2, 3) for feature_map in maps], dim=2)
        padding = torch.cat([mask.flatten(1) for mask in masks], dim=1)
        ratios = valid_ratios(masks)
        spatial_shapes = torch.tensor(shapes, dtype=torch.int64)
        reference = encoder_reference_points(shapes, ratios)
        tokens = self.encoder(tokens, position, reference, spatial_shapes, padding)
        return Memory(tokens, padding, ratios, spatial_shapes)

    def _mask_features(self, tokens: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, T, feature_channels, H / 8, W / 8) from the encoded levels of stride 8, 16 and 32."""
        sizes = [feature_map.shape[-2:] for feature_map in maps]
        parts = tokens.split([height * width for height, width in sizes], dim=2)
        levels = [
            part.flatten(0, 1).transpose(1, 2).unflatten(2, size)
            for part, size in zip(parts[: len(STRIDES)], sizes, strict=False)
        ]
        return self.mask_features(levels).unflatten(0, tokens.shape[:2])

    @staticmethod
    def _unpadded_size(padding_mask: Tensor) -> Tensor:
        """(B, 2), (width, height) in pixels."""
        width, height = (~padding_mask[:, 0, :]).sum(-1), (~padding_mask[:, :, 0]).sum(-1)
        return torch.stack((width, height), dim=-1).float()

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
        this is ours. Entries without a counterpart pass unchanged.
        """
        adapted = dict(state)
        for path, module in self.named_modules():
            if isinstance(module, SpatialMSDA):
                adapted |= module.select_level_weights(state, path, self.config.num_levels)
        return adapted
