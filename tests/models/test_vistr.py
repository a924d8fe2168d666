"""VisTR: released counts, torch's own attention layers, padding, levels, masks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import BACKBONE, noise
from torch import Tensor, nn

from vislab.blocks.vistr_mask_head import VisTRMaskHeadConfig
from vislab.errors import UserError
from vislab.models.backbones import RESNET101
from vislab.models.vistr import VisTR, VisTRConfig, attention_matrix_bytes, num_tokens

TINY = VisTRConfig(
    backbone=BACKBONE, num_classes=3, num_queries=5, clip_length=3, hidden_dim=48, num_heads=4, num_encoder_layers=2,
    num_decoder_layers=3, feed_forward_channels=20, dropout=0.0,
)  # fmt: skip


class Averages(nn.Module):
    """Stands for a backbone whose maps know nothing of their neighbourhood: means of cells, mixed by a matrix."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, images: Tensor) -> list[Tensor]:
        return [
            torch.einsum("nchw,oc->nohw", nn.functional.avg_pool2d(images, stride), noise(width, 3).to(images.dtype))
            for width, stride in zip(self.channels, (4, 8, 16, 32), strict=True)
        ]


def build(config: VisTRConfig = TINY, seed: int = 0) -> VisTR:
    torch.manual_seed(seed)
    model = config.build().double().eval()
    model.backbone = Averages(model.backbone.channels)
    return model


def clip(batch: int = 2, frames: int = 3, height: int = 64, width: int = 96) -> tuple[Tensor, Tensor]:
    return noise(batch, frames, 3, height, width), torch.zeros(batch, height, width, dtype=torch.bool)


@pytest.mark.parametrize(
    ("config", "parameters", "buffers"),
    [
        (VisTRConfig(), 57_116_129, 106_240),
        (VisTRConfig(backbone=RESNET101), 76_056_033, 210_688),
        (VisTRConfig(clip_length=6, num_levels=4), 64_671_329, 106_240),
    ],
    ids=["R50", "R101", "R50, 6 frames, 4 levels"],
)
def test_the_released_counts(config: VisTRConfig, parameters: int, buffers: int) -> None:
    """57.1 and 76.1 M; "64M" in DeVIS Table 1 is 64.67 M truncated."""
    with torch.device("meta"):
        model = config.build()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert sum(buffer.numel() for buffer in model.buffers()) == buffers
    assert model.query_embed.weight.shape == (10 * config.clip_length, 384)


def as_torch(block: nn.Module) -> nn.MultiheadAttention:
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    library = nn.MultiheadAttention(TINY.hidden_dim, TINY.num_heads, batch_first=True).double()
    library.load_state_dict({name: value for name, value in block.state_dict().items() if name in names})
    return library


def slow_forward(model: VisTR, images: Tensor, padding_mask: Tensor) -> list[Tensor]:
    """Queries of every decoder layer, (B, T*Q, C), with torch.nn.MultiheadAttention; single level."""
    batch, frames = images.shape[:2]
    c5 = model.backbone(images.flatten(0, 1))[-1]
    mask = nn.functional.interpolate(padding_mask[:, None].float(), size=c5.shape[-2:])[:, 0] > 0.5
    tokens = model.input_proj[0](c5).unflatten(0, (batch, frames)).permute(0, 1, 3, 4, 2).flatten(1, 3)
    position = model._position([mask])
    padding = mask[:, None].expand(-1, frames, -1, -1).flatten(1)

    def attended(block: nn.Module, x: Tensor, added: Tensor, key: Tensor, value: Tensor, ignored) -> Tensor:
        return block.norm(x + as_torch(block)(x + added, key, value, key_padding_mask=ignored)[0])

    for layer in model.encoder:
        own = tokens + position
        tokens = layer.feed_forward(attended(layer.attention, tokens, position, own, tokens, padding))
    added = model.query_embed.weight.expand(batch, -1, -1)
    x, layers = torch.zeros_like(added), []
    for layer in model.decoder:
        x = attended(layer.self_attention, x, added, x + added, x, None)
        x = layer.feed_forward(attended(layer.cross_attention, x, added, tokens + position, tokens, padding))
        layers.append(model.decoder_norm(x))
    return layers


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_layers_equal_those_of_torch(padded: bool) -> None:
    model, (images, padding_mask) = build(), clip()
    padding_mask[1, 32:] = padded
    output = model(images, padding_mask)
    expected = slow_forward(model, images, padding_mask)
    for found, queries in zip([*output.aux_outputs, output], expected, strict=True):
        frame_queries = queries.unflatten(1, (3, 5))  # frame by frame
        torch.testing.assert_close(found.frame_queries, frame_queries)
        logits, boxes = model.class_head(frame_queries), model.box_head(frame_queries).sigmoid()
        torch.testing.assert_close(found.pred_logits, logits.transpose(1, 2))
        torch.testing.assert_close(found.pred_boxes, boxes.transpose(1, 2))


@pytest.mark.parametrize("levels", [1, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 160)])
@torch.no_grad()
def test_shapes(levels: int, height: int, width: int) -> None:
    """96 / 64 is no whole number: the coarsest level has 2 rows."""
    config = replace(TINY, num_levels=levels)
    model = config.build().eval()
    sizes: list[int] = []
    model.encoder[0].register_forward_hook(lambda module, args, result: sizes.append(result.shape[1]))
    output = model(*(tensor if tensor.dtype == torch.bool else tensor.float() for tensor in clip(1, 3, height, width)))
    assert sizes == [num_tokens(config, height, width)]
    assert output.pred_logits.shape == (1, 5, 3, 3) and output.pred_boxes.shape == (1, 5, 3, 4)
    assert output.frame_queries.shape == (1, 3, 5, 48)
    assert output.class_scores().shape == (1, 5, 3)
    assert output.pred_masks(0, torch.tensor([4, 0])).shape == (2, 3, height // 4, width // 4)
    assert output.pred_masks(0, torch.tensor([], dtype=torch.int64)).shape == (0, 3, height // 4, width // 4)
    assert len(output.aux_outputs) == 2 and all(layer.pred_masks is None for layer in output.aux_outputs)


@torch.no_grad()
def test_padding_changes_neither_classes_nor_boxes() -> None:
    for levels in (1, 4):
        model, (images, padding_mask) = build(replace(TINY, num_levels=levels)), clip(1, 3, 64, 64)
        alone = model(images, padding_mask)
        wide = torch.cat((images, 7 * noise(1, 3, 3, 64, 64, seed=3)), dim=-1)
        mask = torch.cat((padding_mask, ~padding_mask), dim=-1)
        if levels == 4:  # the strided convolution sees the first padded pixels, as in every model with this level
            wide[..., 64:] = 0
        padded = model(wide, mask)
        torch.testing.assert_close(padded.pred_logits, alone.pred_logits)
        torch.testing.assert_close(padded.pred_boxes, alone.pred_boxes)


@torch.no_grad()
def test_clips_of_a_batch_do_not_meet() -> None:
    model, (images, padding_mask) = build(), clip()
    both, alone = model(images, padding_mask), model(images[1:], padding_mask[1:])
    torch.testing.assert_close(both.pred_logits[1:], alone.pred_logits)
    index = torch.tensor([2])
    torch.testing.assert_close(both.pred_masks(1, index), alone.pred_masks(0, index))


@pytest.mark.parametrize("levels", [1, 4])
@torch.no_grad()
def test_masks_come_from_the_encoded_stride_32_and_the_backbone(levels: int) -> None:
    model, (images, padding_mask) = build(replace(TINY, num_levels=levels)), clip()
    padding_mask[1, 32:] = True
    tokens: list[Tensor] = []
    model.encoder[-1].register_forward_hook(lambda module, args, result: tokens.append(result))
    output = model(images, padding_mask)
    c2, c3, c4, _ = (feature.unflatten(0, (2, 3)) for feature in model.backbone(images.flatten(0, 1)))
    start = 0 if levels == 1 else 3 * (8 * 12 + 4 * 6)
    encoded = tokens[0][1, start : start + 3 * 2 * 3].reshape(3, 2, 3, 48).permute(0, 3, 1, 2)
    index = torch.tensor([3, 1])
    expected = model.mask_head(
        output.frame_queries[1].transpose(0, 1)[index],
        [c3[1], c4[1], encoded],
        c2[1],
        [torch.tensor([[False] * 3, [True] * 3])] * 3,
    )
    torch.testing.assert_close(output.pred_masks(1, index), expected)


def test_masks_of_all_queries_in_training_are_the_same() -> None:
    model, arguments = build(), clip()
    every = build(replace(TINY, mask_head=VisTRMaskHeadConfig(positive_only=False)))
    index, seen = torch.tensor([3, 1]), []
    every.mask_head.register_forward_hook(lambda module, args, result: seen.append(len(result)))
    masks = [network.train()(*arguments).pred_masks(1, index) for network in (model, every)]
    torch.testing.assert_close(*masks)
    every.eval()(*arguments).pred_masks(1, index)
    assert seen == [5, 2]


def test_gradients_reach_every_parameter() -> None:
    model = replace(TINY, num_levels=4).build().train()
    images, padding_mask = clip(1)
    output = model(images.float(), padding_mask)
    total = output.pred_masks(0, torch.arange(2)).square().sum()
    for layer in (output, *output.aux_outputs):
        total = total + layer.pred_logits.square().sum() + layer.pred_boxes.square().sum()
    total.backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []


def test_explicit_attention_does_not_fit_at_four_scales() -> None:
    """DeVIS Table 1, rows 1 and 2: one matrix of one layer at 360 x 640 in float32, 8 heads."""
    single, four = VisTRConfig(), VisTRConfig(clip_length=6, num_levels=4)
    assert num_tokens(single, 360, 640) == 36 * 12 * 20
    assert num_tokens(four, 360, 640) == 6 * (45 * 80 + 23 * 40 + 12 * 20 + 6 * 10)
    assert attention_matrix_bytes(single, 360, 640) == 8 * 8640**2 * 4  # 2.2 GiB
    assert attention_matrix_bytes(four, 360, 640, bytes_per_number=2) == 8 * 28_920**2 * 2  # 12.5 GiB


def test_queries_of_one_image_start_every_frame() -> None:
    image, video = replace(TINY, clip_length=1).build(), TINY.build()
    adapted = video.adapt_weights(image.state_dict())
    torch.testing.assert_close(
        adapted["query_embed.weight"].unflatten(0, (3, 5)), image.query_embed.weight.expand(3, 5, -1)
    )
    video.load_state_dict(adapted)
    assert video.adapt_weights({}) == {}


def test_a_clip_of_another_length() -> None:
    images, padding_mask = clip(1, 2)
    with pytest.raises(UserError, match="2 frames, expected clip_length 3"):
        build()(images, padding_mask)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_dim", 64, "hidden_dim is 64, expected a multiple of 6"),
        ("hidden_dim", 60, "hidden_dim is 60, expected a multiple of 16"),
        ("num_levels", 2, "num_levels is 2, expected 1"),
        ("num_levels", 0, "num_levels is 0, expected 1"),
        ("clip_length", 0, "clip_length is 0, expected 1 or more"),
        ("num_decoder_layers", 0, "num_decoder_layers is 0, expected 1 or more"),
    ],
)
def test_values_out_of_range(field: str, value: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(TINY, **{field: value}).build()
