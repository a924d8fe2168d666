"""DeVIS, its naive predecessor Deformable VisTR, and with clips of one frame Deformable DETR with a mask head.

Caelles et al., "DeVIS: Making Deformable Transformers Work for Video Instance Segmentation".

Shape letters: B batch, T frames, Q queries per frame, L levels, K classes, C channels, H W image size, n chosen ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from vislab.blocks.attended_points import AttendedPoints
from vislab.blocks.clip_msda import ClipMSDAConfig
from vislab.blocks.multi_scale_mask_head import MultiScaleMaskHeadConfig
from vislab.blocks.position_encoding import LearnedTemporalEncoding, temporal_sine_encoding
from vislab.blocks.vistr_mask_head import VisTRMaskHeadConfig
from vislab.errors import UserError
from vislab.models.adapt import adapt_weights, from_query_decomposition, repeat_queries
from vislab.models.backbones import RESNET50, STRIDES, BackboneConfig
from vislab.models.encoder import EncoderConfig, Memory
from vislab.models.queries import ReferenceInit, class_heads, initial_references, reference_points
from vislab.models.trajectory_decoder import TrajectoryDecoder, TrajectoryDecoderConfig, TrajectoryLayerOutput
from vislab.models.trunk import DeformableTrunk, FeatureMaps, check_widths, level_masks
from vislab.structures import MaskPredictor, ModelOutput


@dataclass(frozen=True)
class DevisConfig:
    """DeVIS; the defaults are the released ResNet-50 model for YouTube-VIS 2019.

    num_queries: per frame. clip_length: T; 1 is image mode, in which nothing is temporal. num_levels: 4 adds a map of
    stride 64 to C3..C5, 1 is stride 32 alone. encoder, decoder: spatial.num_points is K_curr, temporal.num_points is
    K_temp. mask_head: None predicts boxes only. mask_layers: decoder layers, counted from 0, whose auxiliary outputs
    predict masks as well. temporal_position: "learned" vectors per frame, or sines as in TAFormer, or None.
    position_offset: of the spatial sines, 0 in DeVIS and -0.5 in Deformable DETR. mask_padding: values of padded tokens
    are zero (Deformable DETR) or sampled as they are (DeVIS src/models/ops/modules/ms_deform_attn.py:229-230).
    reference_init: as in SeqFormerConfig.
    """

    backbone: BackboneConfig = RESNET50
    num_classes: int = 40
    num_queries: int = 10
    clip_length: int = 6
    hidden_dim: int = 256
    num_heads: int = 8
    num_levels: int = 4
    dropout: float = 0.1
    encoder: EncoderConfig = EncoderConfig(temporal=ClipMSDAConfig())
    decoder: TrajectoryDecoderConfig = TrajectoryDecoderConfig()
    mask_head: MultiScaleMaskHeadConfig | VisTRMaskHeadConfig | None = MultiScaleMaskHeadConfig()
    mask_layers: tuple[int, ...] = (2,)
    temporal_position: Literal["learned", "index", "normalised"] | None = "learned"
    position_offset: float = 0.0
    mask_padding: bool = False
    reference_init: ReferenceInit = "linear"

    def build(self) -> Devis:
        check_widths(self.hidden_dim, self.num_heads, self.num_levels)
        for name in ("clip_length", "num_queries"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not set(self.mask_layers) <= set(range(self.decoder.num_layers)):
            raise UserError(f"mask_layers is {self.mask_layers}, expected some of 0 to {self.decoder.num_layers - 1}")
        self._check_mask_head()
        return Devis(self)

    def _check_mask_head(self) -> None:
        head, levels = self.mask_head, self.num_levels
        if isinstance(head, MultiScaleMaskHeadConfig):
            if head.encoded_features and levels < len(STRIDES):
                expected = f"at least {len(STRIDES)} for mask_head.encoded_features"
                raise UserError(f"num_levels is {levels}, expected {expected}")
            if head.attention_scales > levels:
                expected = f"at most num_levels, {levels}"
                raise UserError(f"mask_head.attention_scales is {head.attention_scales}, expected {expected}")


class MaskInputs(NamedTuple):
    """What the mask head reads: levels of stride 8, 16, 32, (B, T, width, H_l, W_l) each; finest: (B, T, width, h, w);
    keys: encoded levels, (B, T, C, H_l, W_l) each; padding_masks: like keys, (B, H_l, W_l) bool."""

    levels: list[Tensor]
    finest: Tensor
    keys: list[Tensor]
    padding_masks: list[Tensor]


class Devis(DeformableTrunk):
    """Clip-level model whose every frame has Q queries of its own; query q of all frames is trajectory q."""

    mask_stride = 4

    def __init__(self, config: DevisConfig) -> None:
        channels, heads, levels, frames = config.hidden_dim, config.num_heads, config.num_levels, config.clip_length
        super().__init__(
            config.backbone.build(stride4=config.mask_head is not None), channels, heads, levels, config.encoder,
            config.dropout, frames, config.position_offset, config.mask_padding,
        )  # fmt: skip
        self.config = config
        self.decoder = TrajectoryDecoder(channels, heads, levels, config.decoder, config.dropout, frames)
        learned = config.temporal_position == "learned" and frames > 1
        self.temporal_encoding = LearnedTemporalEncoding(frames, channels) if learned else None
        self.query_embed = nn.Embedding(frames * config.num_queries, 2 * channels)
        self.reference_points = reference_points(config.reference_init, channels, config.num_queries, frames)
        self.class_heads = class_heads(channels, config.num_classes, config.decoder.num_layers)
        self.mask_head: nn.Module | None = None
        if config.mask_head is not None:
            stride4, stride8, stride16, _ = self.backbone.channels
            self.mask_head = config.mask_head.build(channels, heads, (stride4, stride8, stride16))

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        """images: (B, T, 3, H, W), normalised, H and W multiples of 32; padding_mask: (B, H, W) bool, True = padded.

        Logits are (B, Q, T, K). Raises UserError unless T is the model's clip_length.
        """
        maps, memory = self._memory(images, padding_mask)
        layers = self.decoder(*self._queries(), memory)
        inputs = None if self.mask_head is None else self._mask_inputs(maps, memory, padding_mask)
        masked = {*self.config.mask_layers, len(layers) - 1}
        outputs = [
            self._output(index, layer, inputs if index in masked else None) for index, layer in enumerate(layers)
        ]
        outputs[-1].aux_outputs = outputs[:-1]
        return outputs[-1]

    @torch.no_grad()
    def attended_points(self, images: Tensor, padding_mask: Tensor) -> list[AttendedPoints]:
        """Reference points, sampling locations and weights of every decoder layer (DeVIS Fig. 2 and A.5); arguments as
        for `forward`, in evaluation mode."""
        _, memory = self._memory(images, padding_mask)
        return self.decoder.attended_points(*self._queries(), memory)

    def _memory(self, images: Tensor, padding_mask: Tensor) -> tuple[FeatureMaps, Memory]:
        maps = self.extract(images)
        return maps, self.encode(maps.projected, padding_mask, self._temporal_position(images))

    def _temporal_position(self, images: Tensor) -> Tensor | None:
        if self.temporal_encoding is not None:
            return self.temporal_encoding()
        mode, num_frames = self.config.temporal_position, images.shape[1]
        if mode is None or mode == "learned" or num_frames == 1:
            return None
        return temporal_sine_encoding(num_frames, self.config.hidden_dim, mode, images.device)

    def _queries(self) -> tuple[Tensor, Tensor, Tensor]:
        """content and position (T, Q, C), reference (T, Q, 2). Stored frame by frame, position half first."""
        queries = self.query_embed.weight.unflatten(0, (self.config.clip_length, -1))
        position, content = queries.chunk(2, dim=-1)
        reference = initial_references(self.reference_points, position)
        return content, position, reference.reshape(*position.shape[:2], 2)

    def _mask_inputs(self, maps: FeatureMaps, memory: Memory, padding_mask: Tensor) -> MaskInputs:
        keys = self.encoded_maps(memory.tokens, maps.projected)[: len(STRIDES)]
        head = self.config.mask_head
        finest, *fine = maps.raw[: len(STRIDES)]
        if isinstance(head, VisTRMaskHeadConfig):
            levels = [*fine, keys[-1]]
        elif head is not None and head.encoded_features:
            levels = keys
        else:
            levels = [*fine, maps.projected[len(keys) - 1]]
        masks = level_masks(padding_mask, [(key.shape[-2], key.shape[-1]) for key in keys])
        return MaskInputs(levels, finest, keys, masks)

    def _output(self, index: int, layer: TrajectoryLayerOutput, inputs: MaskInputs | None) -> ModelOutput:
        return ModelOutput(
            pred_logits=self.class_heads[index](layer.queries).transpose(1, 2),
            pred_boxes=layer.refined.transpose(1, 2),
            pred_masks=None if inputs is None else self._mask_predictor(layer.queries, inputs),
            frame_queries=layer.queries,
        )

    def _mask_predictor(self, queries: Tensor, inputs: MaskInputs) -> MaskPredictor:
        """queries: (B, T, Q, C). Masks of the chosen queries; of all of them, to pick from, in training without
        positive_only."""
        every: dict[int, Tensor] = {}

        def predict_masks(batch_index: int, query_index: Tensor) -> Tensor:
            own = queries[batch_index].transpose(0, 1)
            if not self._predicts_every_mask():
                return self._masks(own[query_index], inputs, batch_index)
            if batch_index not in every:
                every[batch_index] = self._masks(own, inputs, batch_index)
            return every[batch_index][query_index]

        return predict_masks

    def _predicts_every_mask(self) -> bool:
        head = self.config.mask_head
        return self.training and torch.is_grad_enabled() and head is not None and not head.positive_only

    def _masks(self, queries: Tensor, inputs: MaskInputs, batch_index: int) -> Tensor:
        """queries: (n, T, C). Returns logits (n, T, H / 4, W / 4)."""
        assert self.mask_head is not None
        per_level = inputs.levels, inputs.padding_masks, inputs.keys
        levels, masks, keys = ([part[batch_index] for part in parts] for parts in per_level)
        return self.mask_head(queries, levels, inputs.finest[batch_index], masks, keys)

    def released_extras(self) -> dict[str, int]:
        """Numbers that the released state dict holds on top of this model: the box heads twice."""
        return {"aliased box heads": sum(parameter.numel() for parameter in self.decoder.box_heads.parameters())}

    def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of an image-mode model (Deformable DETR with a mask head), or of a SeqFormer, for this one.

        Levels are cut to those of this model, temporal projections copied from the current frame's, and the image's
        queries copied to every frame (DeVIS appendix A trains them afresh). Other entries pass unchanged.
        """
        state = from_query_decomposition(state)
        adapted, own = adapt_weights(self, state), self.state_dict()
        source_frames = len(state.get("temporal_encoding.weight", "1"))
        names = ["query_embed.weight"]
        if isinstance(self.reference_points, nn.Embedding):
            names.append("reference_points.weight")
        for name in names:
            rows = state.get(name)
            if rows is not None and rows.shape != own[name].shape:
                first = rows[: len(rows) // source_frames]
                repeated = repeat_queries(first, self.config.num_queries, self.config.clip_length)
                adapted[name] = rows if repeated is None else repeated
        return adapted
