"""Deformable DETR with dynamic-convolution masks, frame by frame: IDOL's image model (RefineVIS Table 7, "CondInst").

Wu et al., "In Defense of Online Models for Video Instance Segmentation"; wjf5203/VNext projects/IDOL.

Shape letters: F frames, Q queries, K classes, C channels, H W image size, h w mask size, n chosen embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from vislab.blocks.dynamic_mask_head import MaskFeatures, dynamic_masks, num_dynamic_parameters
from vislab.blocks.feed_forward import MLP
from vislab.errors import UserError
from vislab.losses.denoising import DenoisingQueries
from vislab.losses.frame_predictions import FramePredictions
from vislab.models.adapt import adapt_weights, from_query_decomposition
from vislab.models.backbones import RESNET50, STRIDES, BackboneConfig
from vislab.models.encoder import EncoderConfig
from vislab.models.queries import ReferenceInit, class_heads, initial_references, reference_points
from vislab.models.seqformer import MaskHeadConfig
from vislab.models.trajectory_decoder import TrajectoryDecoder, TrajectoryDecoderConfig
from vislab.models.trunk import DeformableTrunk, check_widths, unpadded_size


@dataclass(frozen=True)
class DynamicMaskDETRConfig:
    """IDOL's image model; the defaults are the released ResNet-50 for YouTube-VIS 2019. Fields as in SeqFormerConfig.

    decoder: of one frame, so that its temporal parts stay None.
    """

    backbone: BackboneConfig = RESNET50
    num_classes: int = 40
    num_queries: int = 300
    hidden_dim: int = 256
    num_heads: int = 8
    num_levels: int = 4
    dropout: float = 0.1
    encoder: EncoderConfig = EncoderConfig()
    decoder: TrajectoryDecoderConfig = TrajectoryDecoderConfig(
        temporal=None, instance_aware=False, detach_reference=True
    )
    mask_head: MaskHeadConfig = MaskHeadConfig()
    reference_init: ReferenceInit = "linear"

    def build(self) -> DynamicMaskDETR:
        check_widths(self.hidden_dim, self.num_heads, self.num_levels)
        if self.num_levels < len(STRIDES):
            raise UserError(f"num_levels is {self.num_levels}, expected at least {len(STRIDES)} (C3, C4, C5)")
        if self.encoder.temporal is not None or self.decoder.temporal is not None:
            raise UserError("encoder.temporal or decoder.temporal is set, expected None: this model sees single frames")
        return DynamicMaskDETR(self)


@dataclass(frozen=True)
class DynamicHeads:
    """features: (F, feature_channels, h, w) of stride 8. size: (F, 2), unpadded (width, height) in pixels."""

    class_head: Callable[[Tensor], Tensor]
    controller: Callable[[Tensor], Tensor]
    features: Tensor
    size: Tensor
    coordinate_scale: float

    def classify(self, embeddings: Tensor) -> Tensor:
        return self.class_head(embeddings)

    def masks(self, frame: int, embeddings: Tensor, references: Tensor) -> Tensor:
        parameters, points = self.controller(embeddings), references * self.size[frame]
        features = self.features[frame, None]
        return dynamic_masks(features, parameters, points[:, None], STRIDES[0], self.coordinate_scale)[:, 0]


class DynamicMaskDETR(DeformableTrunk):
    """Frame-level model: deformable encoder and decoder with box refinement, masks by dynamic convolution."""

    mask_stride = 4
    takes_denoising = False

    def __init__(self, config: DynamicMaskDETRConfig) -> None:
        channels, heads, levels = config.hidden_dim, config.num_heads, config.num_levels
        super().__init__(config.backbone.build(), channels, heads, levels, config.encoder, config.dropout, 1)
        self.config, self.channels = config, channels
        self.decoder = TrajectoryDecoder(channels, heads, levels, config.decoder, config.dropout, 1)
        self.query_embed = nn.Embedding(config.num_queries, 2 * channels)
        self.reference_points = reference_points(config.reference_init, channels, config.num_queries)
        self.class_heads = class_heads(channels, config.num_classes, config.decoder.num_layers)
        self.mask_features = MaskFeatures(channels, config.mask_head.feature_channels)
        self.controller = MLP(channels, channels, num_dynamic_parameters(config.mask_head.feature_channels), 3)
        for parameter in self.controller.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(
        self, images: Tensor, padding_mask: Tensor, denoising: DenoisingQueries | None = None
    ) -> FramePredictions:
        """images: (F, 3, H, W), H and W multiples of 32; padding_mask: (F, H, W). denoising: always None.

        The masks of a layer use the reference that it started from (SeqFormer models/segmentation.py:218).
        """
        assert denoising is None, "this decoder takes no denoising queries"
        maps = self.extract(images[:, None]).projected
        memory = self.encode(maps, padding_mask, None)
        position, content = self.query_embed.weight.chunk(2, dim=-1)
        reference = initial_references(self.reference_points, position)
        layers = self.decoder(content[None], position[None], reference[None], memory)
        levels = [level[:, 0] for level in self.encoded_maps(memory.tokens, maps)[: len(STRIDES)]]
        features, size = self.mask_features(levels), unpadded_size(padding_mask)
        scale = self.config.mask_head.coordinate_scale
        outputs = []
        for layer, class_head in zip(layers, self.class_heads, strict=True):
            embeddings = layer.queries[:, 0]
            heads = DynamicHeads(class_head, self.controller, features, size, scale)
            boxes, places = layer.refined[:, 0], layer.reference[:, 0, :, :2]
            outputs.append(FramePredictions(class_head(embeddings), boxes, embeddings, places, heads))
        outputs[-1].aux_outputs = outputs[:-1]
        return outputs[-1]

    def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a deformable model of clips: of SeqFormer, its box queries and its mask head."""
        return adapt_weights(self, from_query_decomposition(state))

    def released_extras(self) -> dict[str, int]:
        """Numbers that the released state dict holds on top of this model: the box heads twice."""
        return {"aliased box heads": sum(parameter.numel() for parameter in self.decoder.box_heads.parameters())}
