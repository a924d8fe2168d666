"""VisTR: full attention over all pixels of all frames of a clip; the first rows of DeVIS Table 1.

Wang et al., "End-to-End Video Instance Segmentation with Transformers" (arXiv 2011.14503); facts of the architecture
from Epiphqny/VisTR models/{vistr,transformer,segmentation}.py and main.py.

Shape letters: B batch, T frames, Q queries per frame, L levels, K classes, C channels, H W image size,
S sum of T*H*W over levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vislab.blocks.feed_forward import MLP, FeedForward
from vislab.blocks.full_attention import MultiHeadAttention
from vislab.blocks.position_encoding import clip_sine_encoding
from vislab.blocks.vistr_mask_head import VisTRMaskHeadConfig
from vislab.errors import UserError
from vislab.models.backbones import RESNET50, STRIDES, BackboneConfig
from vislab.models.trunk import level_masks
from vislab.structures import MaskPredictor, ModelOutput


@dataclass(frozen=True)
class VisTRConfig:
    """VisTR. Defaults are the release's with ResNet-50: 57,116,129 parameters.

    num_classes: the release has 42 logits, category ids 0 to 40 and "no object", under a softmax. Here every class has
    a sigmoid of its own, as in all models of this package, and none is set aside. num_queries: per frame. clip_length:
    T, fixed by the query embedding. num_levels: 1 is C5 alone (released); 3 or 4 add C3 and C4, then stride 64, with a
    learned vector per level (DeVIS Table 1, row "VisTR, 4 scales": 64,671,329 parameters at clip_length 6).
    """

    backbone: BackboneConfig = RESNET50
    num_classes: int = 42
    num_queries: int = 10
    clip_length: int = 36
    hidden_dim: int = 384
    num_heads: int = 8
    num_levels: int = 1
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    feed_forward_channels: int = 2048
    dropout: float = 0.1
    mask_head: VisTRMaskHeadConfig = VisTRMaskHeadConfig()

    def build(self) -> VisTR:
        if self.hidden_dim % 6:
            raise UserError(f"hidden_dim is {self.hidden_dim}, expected a multiple of 6 (the encoding has three axes)")
        if self.num_levels != 1 and self.num_levels < len(STRIDES):
            raise UserError(f"num_levels is {self.num_levels}, expected 1 (C5) or at least {len(STRIDES)} (C3, C4, C5)")
        for name in ("clip_length", "num_queries", "num_encoder_layers", "num_decoder_layers"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, expected 1 or more")
        return VisTR(self)


def num_tokens(config: VisTRConfig, height: int, width: int) -> int:
    """S, the tokens of a clip of images of height x width pixels: every pixel of every level and frame."""
    strides = STRIDES[-1:] if config.num_levels == 1 else STRIDES
    strides += tuple(STRIDES[-1] * 2**step for step in range(1, config.num_levels - len(strides) + 1))
    return config.clip_length * sum(math.ceil(height / stride) * math.ceil(width / stride) for stride in strides)


def attention_matrix_bytes(config: VisTRConfig, height: int, width: int, bytes_per_number: int = 4) -> int:
    """Memory of ONE explicit attention matrix of one encoder layer and one clip: M S^2 numbers.

    torch.nn.MultiheadAttention, which the release calls, makes it; a training step keeps at least two per layer for the
    backward pass, the softmax and what dropout leaves of it. Here attention is fused and makes none: time still grows
    with S^2, memory with S. height, width: of the image in pixels.
    """
    return config.num_heads * num_tokens(config, height, width) ** 2 * bytes_per_number


class EncoderLayer(nn.Module):
    """Self-attention of all tokens and a feed-forward network, post-norm."""

    def __init__(self, config: VisTRConfig) -> None:
        super().__init__()
        channels = config.hidden_dim
        self.attention = MultiHeadAttention(channels, config.num_heads, config.dropout)
        self.feed_forward = FeedForward(channels, config.feed_forward_channels, config.dropout)

    def forward(self, tokens: Tensor, position: Tensor, padding: Tensor) -> Tensor:
        """tokens, position: (B, S, C); padding: (B, S) bool. Returns (B, S, C)."""
        return self.feed_forward(self.attention(tokens, position, tokens + position, tokens, padding))


class DecoderLayer(nn.Module):
    """Self-attention of all queries of the clip, cross-attention to all its tokens, feed-forward; post-norm."""

    def __init__(self, config: VisTRConfig) -> None:
        super().__init__()
        channels = config.hidden_dim
        self.self_attention = MultiHeadAttention(channels, config.num_heads, config.dropout)
        self.cross_attention = MultiHeadAttention(channels, config.num_heads, config.dropout)
        self.feed_forward = FeedForward(channels, config.feed_forward_channels, config.dropout)

    def forward(self, queries: Tensor, query_position: Tensor, keys: Tensor, values: Tensor, padding: Tensor) -> Tensor:
        """queries: (B, T*Q, C); keys, values: (B, S, C), with and without position. Returns (B, T*Q, C)."""
        queries = self.self_attention(queries, query_position, queries + query_position, queries)
        return self.feed_forward(self.cross_attention(queries, query_position, keys, values, padding))


class VisTR(nn.Module):
    """Clip-level model whose queries belong to frames: the q-th queries of all frames are one instance."""

    mask_stride = 4

    def __init__(self, config: VisTRConfig) -> None:
        super().__init__()
        self.config = config
        self.clip_length = config.clip_length
        channels = config.hidden_dim
        self.backbone = config.backbone.build(stride4=True)
        finest, fine, middle, coarse = self.backbone.channels
        widths = (coarse,) if config.num_levels == 1 else (fine, middle, coarse)
        extra = config.num_levels - len(widths)
        self.input_proj = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        for index in range(extra):
            self.input_proj.append(nn.Conv2d(channels if index else coarse, channels, 3, stride=2, padding=1))
        self.level_embed = nn.Parameter(torch.randn(config.num_levels, channels)) if config.num_levels > 1 else None
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_decoder_layers))
        for part in (self.encoder, self.decoder):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        self.decoder_norm = nn.LayerNorm(channels)
        self.query_embed = nn.Embedding(config.clip_length * config.num_queries, channels)  # frame by frame
        self.class_head = nn.Linear(channels, config.num_classes)
        nn.init.constant_(self.class_head.bias, -math.log(99))
        self.box_head = MLP(channels, channels, 4, 3)
        self.mask_head = config.mask_head.build(channels, config.num_heads, (finest, fine, middle))

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        """images: (B, T, 3, H, W), normalised, H and W multiples of 32; padding_mask: (B, H, W) bool, True = padded.

        Only the last layer predicts masks (Epiphqny/VisTR models/vistr.py, SetCriterion). Raises UserError if T is not
        clip_length.
        """
        if images.shape[1] != self.clip_length:
            raise UserError(f"VisTR got a clip of {images.shape[1]} frames, expected clip_length {self.clip_length}")
        features = [feature.unflatten(0, images.shape[:2]) for feature in self.backbone(images.flatten(0, 1))]
        maps = self._project(features)
        masks = level_masks(padding_mask, [(feature_map.shape[-2], feature_map.shape[-1]) for feature_map in maps])
        position = self._position(masks)
        padding = torch.cat([mask.flatten(1).repeat(1, self.clip_length) for mask in masks], dim=1)
        tokens = torch.cat([feature_map.transpose(1, 2).flatten(2).transpose(1, 2) for feature_map in maps], dim=1)
        for layer in self.encoder:
            tokens = layer(tokens, position, padding)
        layers = self._decode(tokens, position, padding)
        outputs = [self._output(queries) for queries in layers]
        outputs[-1].pred_masks = self._mask_predictor(layers[-1], self._encoded_c5(tokens, maps), features, masks)
        outputs[-1].aux_outputs = outputs[:-1]
        return outputs[-1]

    def _project(self, features: list[Tensor]) -> list[Tensor]:
        """features: C2 to C5, (B, T, width, H_l, W_l). Returns L maps (B, T, C, H_l, W_l)."""
        used = features[-1:] if self.config.num_levels == 1 else features[1:]
        maps: list[Tensor] = []
        for index, projection in enumerate(self.input_proj):
            source = used[min(index, len(used) - 1)] if index <= len(used) else maps[-1]
            maps.append(projection(source.flatten(0, 1)).unflatten(0, source.shape[:2]))
        return maps

    def _position(self, masks: list[Tensor]) -> Tensor:
        """(B, S, C): sine encoding of frame, row and column, and of several levels the level's vector."""
        encodings = [clip_sine_encoding(mask, self.clip_length, self.config.hidden_dim).flatten(1, 3) for mask in masks]
        if self.level_embed is not None:
            encodings = [encoding + level for encoding, level in zip(encodings, self.level_embed, strict=True)]
        return torch.cat(encodings, dim=1)

    def _decode(self, tokens: Tensor, position: Tensor, padding: Tensor) -> list[Tensor]:
        """Normed queries of every layer, (B, T, Q, C)."""
        keys, query_position = tokens + position, self.query_embed.weight
        queries, layers = torch.zeros_like(query_position).expand(len(tokens), -1, -1), []
        for layer in self.decoder:
            queries = layer(queries, query_position, keys, tokens, padding)
            layers.append(self.decoder_norm(queries).unflatten(1, (self.clip_length, self.config.num_queries)))
        return layers

    def _output(self, queries: Tensor) -> ModelOutput:
        """queries: (B, T, Q, C). All layers share the heads."""
        return ModelOutput(
            pred_logits=self.class_head(queries).transpose(1, 2),
            pred_boxes=self.box_head(queries).sigmoid().transpose(1, 2),
            pred_masks=None,
            frame_queries=queries,
        )

    def _encoded_c5(self, tokens: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, T, C, H / 32, W / 32) of the encoder's tokens."""
        index = min(len(maps), len(STRIDES)) - 1
        sizes = [feature_map.shape[-2:] for feature_map in maps]
        part = tokens.split([self.clip_length * height * width for height, width in sizes], dim=1)[index]
        return part.unflatten(1, (self.clip_length, *sizes[index])).permute(0, 1, 4, 2, 3)

    def _mask_predictor(
        self, queries: Tensor, encoded: Tensor, features: list[Tensor], masks: list[Tensor]
    ) -> MaskPredictor:
        c2, c3, c4, _ = features
        mask = masks[min(len(masks), len(STRIDES)) - 1]

        def predict_masks(batch_index: int, query_index: Tensor) -> Tensor:
            all_queries = self.training and torch.is_grad_enabled() and not self.config.mask_head.positive_only
            chosen = queries[batch_index].transpose(0, 1)
            levels = [c3[batch_index], c4[batch_index], encoded[batch_index]]
            padding = [mask[batch_index]] * len(levels)
            logits = self.mask_head(chosen if all_queries else chosen[query_index], levels, c2[batch_index], padding)
            return logits[query_index] if all_queries else logits

        return predict_masks

    def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a VisTR of another clip length, e.g. of single images: every frame starts with the queries of its
        first frame. Entries without a counterpart pass unchanged."""
        name, wanted = "query_embed.weight", self.query_embed.weight
        if name not in state or state[name].shape == wanted.shape or state[name].shape[1] != wanted.shape[1]:
            return dict(state)
        first = state[name][: self.config.num_queries]
        return dict(state) | {name: first.repeat(self.clip_length, 1)}
