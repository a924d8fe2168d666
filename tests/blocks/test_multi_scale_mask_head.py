"""The mask head of DeVIS: published shapes, attention maps from their definition, every switch."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from slow_deformable import linear, noise, randomise
from torch import Tensor, nn
from torch.nn import functional

from vislab.blocks.modulated_deform_conv import ModulatedDeformConv2d
from vislab.blocks.multi_scale_mask_head import AttentionMaps, MultiScaleMaskHead, MultiScaleMaskHeadConfig
from vislab.errors import UserError

CHANNELS, HEADS, BACKBONE = 32, 4, (5, 6, 7)
SIZES = [(9, 13), (5, 7), (3, 4)]  # stride 8, 16, 32 of no even image
FINEST = (18, 26)
DETR = MultiScaleMaskHeadConfig(attention_scales=1, encoded_features=False, deformable=False)
SWITCHES = [MultiScaleMaskHeadConfig(*row) for row in product((1, 2, 3), (False, True), (False, True))]


def build(config: MultiScaleMaskHeadConfig) -> MultiScaleMaskHead:
    head = randomise(config.build(CHANNELS, HEADS, BACKBONE), scale=0.2)
    assert isinstance(head, MultiScaleMaskHead)
    return head


def inputs(config: MultiScaleMaskHeadConfig, n: int = 3, frames: int = 2) -> dict:
    """Arguments of the head."""
    _, fine, middle = BACKBONE
    raw = (fine, middle, CHANNELS)
    keys = [noise(frames, CHANNELS, *size, seed=index) for index, size in enumerate(SIZES)]
    levels = [noise(frames, width, *size, seed=9) for width, size in zip(raw, SIZES, strict=True)]
    return {
        "queries": noise(n, frames, CHANNELS, seed=20),
        "levels": keys if config.encoded_features else levels,
        "finest": noise(frames, BACKBONE[0], *FINEST, seed=21),
        "padding_masks": None,
        "keys": keys,
    }


def padding_masks(share: float = 0.6) -> list[Tensor]:
    masks = []
    for height, width in SIZES:
        mask = torch.ones(height, width, dtype=torch.bool)
        mask[: round(height * share) or 1, : round(width * share) or 1] = False
        masks.append(mask)
    return masks


# published names: acaelles97/DeVIS src/models/deformable_segmentation.py
def published_name(name: str) -> str:
    kinds = {"query": "q", "key": "k"}
    name = re.sub(
        r"attention\.(query|key)_projections\.(\d)",
        lambda m: f"bbox_attention.{kinds[m[1]]}_linear" + (f"_{m[2]}" if m[2] != "0" else ""),
        name,
    )
    layers = {"convolutions": "lay", "norms": "gn", "adapters": "adapter"}
    name = re.sub(r"upsampling\.(\w+)\.(\d)", lambda m: f"mask_head.{layers[m[1]]}{int(m[2]) + 1}", name)
    return name.replace("output.", "mask_head.out_lay.")


def test_the_released_shapes() -> None:
    """devis_R_50_YT-19: 58 tensors, 1,679,218 numbers; 264, 264, 128, 64, 32, 16, 1 channels."""
    with torch.device("meta"):
        head = MultiScaleMaskHeadConfig().build(256, 8, (256, 512, 1024))
    shapes = {published_name(name): tuple(value.shape) for name, value in head.named_parameters()}
    assert len(shapes) == 58 and not list(head.buffers())
    assert sum(parameter.numel() for parameter in head.parameters()) == 1_679_218
    widths = [(264, 264), (128, 264), (64, 136), (32, 72), (16, 32)]
    for index, (target, source) in enumerate(widths, start=1):
        assert shapes[f"mask_head.lay{index}.offset_conv.weight"] == (18, source, 3, 3)
        assert shapes[f"mask_head.lay{index}.modulator_conv.bias"] == (9,)
        assert shapes[f"mask_head.lay{index}.regular_conv.weight"] == (target, source, 3, 3)
        assert shapes[f"mask_head.gn{index}.weight"] == (target,)
    assert [shapes[f"mask_head.adapter{index}.weight"][:2] for index in (1, 2, 3)] == [(128, 256), (64, 256), (32, 256)]
    assert shapes["mask_head.out_lay.regular_conv.weight"] == (1, 16, 3, 3)
    for suffix in ("", "_1", "_2"):
        assert shapes[f"bbox_attention.q_linear{suffix}.weight"] == (256, 256)
        assert shapes[f"bbox_attention.k_linear{suffix}.bias"] == (256,)
    assert {norm.num_groups for norm in head.upsampling.norms} == {8}


def test_switched_off_it_is_the_mask_head_of_detr() -> None:
    """facebookresearch/detr models/segmentation.py: MaskHeadSmallConv(264, [1024, 512, 256], 256), MHAttentionMap."""
    with torch.device("meta"):
        head = DETR.build(256, 8, (256, 512, 1024))
    shapes = {published_name(name): tuple(value.shape) for name, value in head.named_parameters()}
    widths = [(264, 264), (128, 264), (64, 128), (32, 64), (16, 32)]
    convolutions = {f"mask_head.lay{i}.weight": (*width, 3, 3) for i, width in enumerate(widths, start=1)}
    adapters = {
        f"mask_head.adapter{i}.weight": (*width, 1, 1) for i, width in enumerate([(128, 1024), (64, 512), (32, 256)], 1)
    }
    weights = convolutions | adapters | {"mask_head.out_lay.weight": (1, 16, 3, 3)}
    weights |= {f"bbox_attention.{kind}_linear.weight": (256, 256) for kind in "qk"}
    assert {name: shape for name, shape in shapes.items() if len(shape) > 1} == weights
    assert sum(parameter.numel() for parameter in head.parameters()) == 1_333_657


def slow_attention_map(block: AttentionMaps, scale: int, query: Tensor, level: Tensor, padding: Tensor) -> np.ndarray:
    """One query of one frame: (M, H, W). query: (C,); level: (C, H, W); padding: (H, W)."""
    q = linear(block.query_projections[scale], query.numpy()).reshape(block.num_heads, -1)
    weights = np.zeros((block.num_heads, *padding.shape))
    for row, column in np.argwhere(~padding.numpy()):
        k = linear(block.key_projections[scale], level[:, row, column].numpy()).reshape(block.num_heads, -1)
        weights[:, row, column] = np.exp((q * k).sum(-1) / np.sqrt(q.shape[-1]))
    return weights / weights.sum()


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_attention_maps_equal_their_definition(padded: bool) -> None:
    block = randomise(AttentionMaps(CHANNELS, HEADS, 3))
    assert isinstance(block, AttentionMaps)
    queries = noise(2, 2, CHANNELS, seed=1)
    levels = [noise(2, CHANNELS, *size, seed=2) for size in SIZES]
    masks = padding_masks() if padded else [torch.zeros(size, dtype=torch.bool) for size in SIZES]
    maps = block(queries, levels, masks if padded else None)
    assert [tuple(scale.shape) for scale in maps] == [(2, 2, HEADS, *size) for size in SIZES[::-1]]
    for scale, (found, level, mask) in enumerate(zip(maps, levels[::-1], masks[::-1], strict=True)):
        for n, frame in product(range(2), range(2)):
            expected = slow_attention_map(block, scale, queries[n, frame], level[frame], mask)
            np.testing.assert_allclose(found[n, frame].numpy(), expected, atol=1e-12)


def slow_logits(head: MultiScaleMaskHead, query: Tensor, frame: int, arguments: dict) -> Tensor:
    """One query of one frame through DeVIS' Fig. 3, step by step: (h, w)."""
    scales = head.config.attention_scales
    maps = [scale[0] for scale in head.attention(query[None], [key[frame : frame + 1] for key in arguments["keys"]])]
    up, sources = head.upsampling, [*arguments["levels"][::-1], arguments["finest"]]
    x = torch.cat((sources[0][frame : frame + 1], maps[0]), dim=1)
    for layer in range(5):
        if layer >= 2:
            source = sources[layer - 1][frame : frame + 1]
            height, width = source.shape[-2:]
            rows = torch.arange(height) * x.shape[-2] // height
            columns = torch.arange(width) * x.shape[-1] // width
            x = x[:, :, rows][..., columns] + up.adapters[layer - 2](source)
            if layer - 1 < scales:
                x = torch.cat((x, maps[layer - 1]), dim=1)
        norm = up.norms[layer]
        x = functional.group_norm(up.convolutions[layer](x), norm.num_groups, norm.weight, norm.bias).relu()
    return head.output(x)[0, 0]


@pytest.mark.parametrize("config", SWITCHES, ids=str)
@torch.no_grad()
def test_logits_equal_the_steps_one_by_one(config: MultiScaleMaskHeadConfig) -> None:
    head, arguments = build(config), inputs(config)
    logits = head(**arguments)
    assert logits.shape == (3, 2, *FINEST)
    for n, frame in product(range(3), range(2)):
        query = arguments["queries"][n, frame : frame + 1]
        torch.testing.assert_close(logits[n, frame], slow_logits(head, query, frame, arguments))


def test_encoded_maps_are_their_own_keys() -> None:
    config = MultiScaleMaskHeadConfig()
    head, arguments = build(config), inputs(config)
    torch.testing.assert_close(head(**arguments), head(**arguments | {"keys": None}))


def test_a_single_map_reads_the_coarsest_key_only() -> None:
    head, arguments = build(DETR), inputs(DETR)
    torch.testing.assert_close(head(**arguments), head(**arguments | {"keys": arguments["keys"][-1:]}))


def test_deformable_convolutions_start_as_plain_ones() -> None:
    for config in (MultiScaleMaskHeadConfig(), replace(DETR, deformable=True)):
        head = config.build(CHANNELS, HEADS, BACKBONE)
        convolutions = [m for m in head.modules() if isinstance(m, ModulatedDeformConv2d)]
        assert len(convolutions) == 6
        assert all(not m.offset_conv.weight.any() and not m.modulator_conv.weight.any() for m in convolutions)
    assert not any(isinstance(m, ModulatedDeformConv2d) for m in DETR.build(CHANNELS, HEADS, BACKBONE).modules())


@pytest.mark.parametrize("config", [MultiScaleMaskHeadConfig(), DETR], ids=["devis", "detr"])
@torch.no_grad()
def test_chunks_give_what_one_pass_gives(config: MultiScaleMaskHeadConfig) -> None:
    head, arguments = build(config), inputs(config, n=5, frames=3)
    passes: list[int] = []
    head.output.register_forward_hook(lambda module, args, result: passes.append(len(result)))
    whole = head(**arguments)
    for pixels, sizes in ((1, [1] * 15), (4 * FINEST[0] * FINEST[1], [4, 4, 4, 3])):
        head.chunk_pixels = pixels
        passes.clear()
        torch.testing.assert_close(head(**arguments), whole)
        assert passes == sizes


def test_in_training_there_is_one_pass() -> None:
    head, arguments = build(DETR), inputs(DETR)
    head.chunk_pixels = 1
    passes: list[int] = []
    head.output.register_forward_hook(lambda module, args, result: passes.append(len(result)))
    head(**arguments)
    assert passes == [6]


@torch.no_grad()
def test_padding_gets_no_attention() -> None:
    """What lies under the padding may change the convolutions, never the attention maps."""
    head, masks = build(MultiScaleMaskHeadConfig()), padding_masks()
    levels = [noise(2, CHANNELS, *size) for size in SIZES]
    changed = [level + 100 * mask for level, mask in zip(levels, masks, strict=True)]
    queries = noise(2, 2, CHANNELS, seed=1)
    for before, after in zip(
        head.attention(queries, levels, masks), head.attention(queries, changed, masks), strict=True
    ):
        torch.testing.assert_close(before, after)
    plain = head(queries, levels, noise(2, BACKBONE[0], *FINEST))
    assert not torch.allclose(plain, head(queries, levels, noise(2, BACKBONE[0], *FINEST), masks))


@pytest.mark.parametrize("config", [MultiScaleMaskHeadConfig(), DETR], ids=["devis", "detr"])
def test_gradients_reach_everything(config: MultiScaleMaskHeadConfig) -> None:
    head, arguments = build(config), inputs(config)
    maps = [*arguments["levels"], *arguments["keys"][-config.attention_scales :], arguments["finest"]]
    leaves = [arguments["queries"], *maps]
    for leaf in leaves:
        leaf.requires_grad_()
    head(**arguments).square().sum().backward()
    assert all(leaf.grad is not None and leaf.grad.abs().sum() > 0 for leaf in leaves)
    assert all(parameter.grad is not None for parameter in head.parameters())


@torch.no_grad()
def test_frames_and_instances_do_not_meet() -> None:
    config = MultiScaleMaskHeadConfig()
    head, arguments = build(config), inputs(config, n=3, frames=3)
    logits = head(**arguments)
    maps = {name: [level[1:2] for level in arguments[name]] for name in ("levels", "keys")}
    alone = head(arguments["queries"][2:, 1:2], finest=arguments["finest"][1:2], **maps)
    torch.testing.assert_close(alone, logits[2:, 1:2])


@pytest.mark.parametrize("frames", [1, 2])
def test_no_queries(frames: int) -> None:
    config = MultiScaleMaskHeadConfig()
    head, arguments = build(config), inputs(config, n=0, frames=frames)
    logits = head(**arguments)
    assert logits.shape == (0, frames, *FINEST)
    logits.sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in head.parameters())
    with torch.no_grad():
        assert head(**arguments).shape == (0, frames, *FINEST)


def test_bfloat16_autocast_runs() -> None:
    config = MultiScaleMaskHeadConfig()
    head = config.build(CHANNELS, HEADS, BACKBONE)
    arguments = inputs(config)
    single = {
        name: [level.float() for level in value] if isinstance(value, list) else value.float()
        for name, value in arguments.items()
        if value is not None
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(**single)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.float(), head(**single), atol=0.2, rtol=0.1)


def test_group_norms_fit_narrow_models() -> None:
    for channels, heads in ((16, 2), (128, 4), (192, 4)):
        head = MultiScaleMaskHeadConfig().build(channels, heads, BACKBONE)
        norms = [module for module in head.modules() if isinstance(module, nn.GroupNorm)]
        assert len(norms) == 5 and all(norm.num_channels % norm.num_groups == 0 for norm in norms)


@pytest.mark.parametrize("scales", [0, 4])
def test_scales_out_of_range(scales: int) -> None:
    with pytest.raises(UserError, match=f"attention_scales is {scales}, expected 1 to 3"):
        MultiScaleMaskHeadConfig(attention_scales=scales).build(CHANNELS, HEADS, BACKBONE)


@pytest.mark.parametrize(("channels", "heads"), [(40, 4), (48, 5)])
def test_widths_that_do_not_divide(channels: int, heads: int) -> None:
    with pytest.raises(UserError, match=f"hidden_dim is {channels}, expected a multiple of 16"):
        MultiScaleMaskHeadConfig().build(channels, heads, BACKBONE)
