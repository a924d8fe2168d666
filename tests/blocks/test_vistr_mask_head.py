"""VisTR's mask head: released shapes, its steps one by one, 3-D convolutions over the frames."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise
from torch.nn import functional

from vislab.blocks.modulated_deform_conv import deform_conv2d
from vislab.blocks.vistr_mask_head import DeformConv2d, VisTRMaskHead, VisTRMaskHeadConfig
from vislab.errors import UserError

CHANNELS, HEADS, BACKBONE = 48, 4, (5, 6, 7)
SIZES, FINEST = [(9, 13), (5, 7), (3, 4)], (18, 26)


def build(config: VisTRMaskHeadConfig) -> VisTRMaskHead:
    head = randomise(config.build(CHANNELS, HEADS, BACKBONE), scale=0.2)
    assert isinstance(head, VisTRMaskHead)
    return head


def inputs(n: int = 3, frames: int = 4) -> tuple:
    widths = (BACKBONE[1], BACKBONE[2], CHANNELS)
    levels = [noise(frames, width, *size, seed=width) for width, size in zip(widths, SIZES, strict=True)]
    return noise(n, frames, CHANNELS, seed=1), levels, noise(frames, BACKBONE[0], *FINEST, seed=2)


def test_the_released_counts() -> None:
    """Epiphqny/VisTR models/segmentation.py at width 384; the ablations of DeVIS at 256 with plain convolutions."""
    with torch.device("meta"):
        released = VisTRMaskHeadConfig().build(384, 8, (256, 512, 1024))
        ablation = VisTRMaskHeadConfig(deformable=False).build(256, 8, (256, 512, 1024))
    assert sum(parameter.numel() for parameter in released.parameters()) == 2_850_931
    assert sum(parameter.numel() for parameter in ablation.parameters()) == 1_346_593
    last = released.upsampling.convolutions[-1]
    assert isinstance(last, DeformConv2d)
    assert last.offset_conv.weight.shape == (18, 48, 1, 1) and last.regular_conv.weight.shape == (24, 48, 3, 3)
    assert [layer.weight.shape[:2] for layer in released.volume[::3]] == [(12, 24), (12, 12), (12, 12), (1, 12)]
    assert ablation.volume[0].weight.shape == (12, 16, 3, 3, 3)


@pytest.mark.parametrize("deformable", [False, True])
@torch.no_grad()
def test_logits_equal_the_steps_one_by_one(deformable: bool) -> None:
    head = build(VisTRMaskHeadConfig(deformable=deformable))
    queries, levels, finest = inputs(n=2)
    found = head(queries, levels, finest)
    assert found.shape == (2, 4, *FINEST)
    layers, norms = head.upsampling.convolutions, head.upsampling.norms
    for instance in range(2):
        frames = []
        for frame in range(4):
            (maps,) = head.attention(queries[instance, frame][None, None], [levels[-1][frame][None]])
            x = torch.cat((levels[-1][frame][None], maps[0]), dim=1)
            for step in range(5):
                if step >= 2:
                    source = (levels[1], levels[0], finest)[step - 2][frame][None]
                    x = functional.interpolate(x, size=source.shape[-2:]) + head.upsampling.adapters[step - 2](source)
                layer = layers[step]
                if isinstance(layer, DeformConv2d):
                    x = deform_conv2d(x, layer.regular_conv.weight, layer.offset_conv(x))
                else:
                    x = functional.conv2d(x, layer.weight, layer.bias, padding=1)
                x = norms[step](x).relu()
            frames.append(x[0])
        x = torch.stack(frames, dim=1)[None]
        for index in range(0, 9, 3):
            layer = head.volume[index]
            x = functional.conv3d(x, layer.weight, layer.bias, padding=2, dilation=2)
            x = functional.group_norm(x, 4, head.volume[index + 1].weight, head.volume[index + 1].bias).relu()
        torch.testing.assert_close(found[instance], head.volume[9](x)[0, 0])


@torch.no_grad()
def test_frames_of_an_instance_meet_and_instances_do_not() -> None:
    head = build(VisTRMaskHeadConfig())
    queries, levels, finest = inputs()
    before = head(queries, levels, finest)
    queries[1, 0] += 1
    after = head(queries, levels, finest)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
    assert (after[1] != before[1]).flatten(1).any(1).all()


@torch.no_grad()
def test_chunks_give_what_one_pass_gives() -> None:
    head = build(VisTRMaskHeadConfig())
    arguments = inputs(n=5)
    passes: list[int] = []
    head.volume.register_forward_hook(lambda module, args, result: passes.append(len(result)))
    whole = head(*arguments)
    for pixels, sizes in ((1, [1] * 5), (2 * 4 * FINEST[0] * FINEST[1], [2, 2, 1])):
        head.chunk_pixels = pixels
        passes.clear()
        torch.testing.assert_close(head(*arguments), whole)
        assert passes == sizes


@torch.no_grad()
def test_only_the_last_key_is_attended_to_and_its_padding_is_not() -> None:
    head = build(VisTRMaskHeadConfig())
    queries, levels, finest = inputs()
    plain = head(queries, levels, finest)
    torch.testing.assert_close(plain, head(queries, levels, finest, None, levels[-1:]))
    mask = torch.zeros(SIZES[-1], dtype=torch.bool)
    torch.testing.assert_close(plain, head(queries, levels, finest, [mask], levels[-1:]))
    mask[:, -1] = True
    (maps,) = head.attention(queries, levels[-1:], [mask])
    assert not maps[..., -1].any()
    assert not torch.allclose(plain, head(queries, levels, finest, [mask], levels[-1:]))


@pytest.mark.parametrize(("n", "frames"), [(0, 2), (0, 1), (2, 1)])
def test_no_queries_and_one_frame(n: int, frames: int) -> None:
    head = build(VisTRMaskHeadConfig())
    logits = head(*inputs(n, frames))
    assert logits.shape == (n, frames, *FINEST)
    logits.sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(head(*inputs(n, frames)), logits)


@pytest.mark.parametrize("deformable", [False, True])
def test_gradients_reach_everything(deformable: bool) -> None:
    head = build(VisTRMaskHeadConfig(deformable=deformable))
    queries, levels, finest = inputs()
    leaves = [leaf.requires_grad_() for leaf in (queries, *levels, finest)]
    head(queries, levels, finest).square().sum().backward()
    for leaf in (*leaves, *head.parameters()):
        assert leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_the_deformable_convolution_starts_as_a_plain_one() -> None:
    block = DeformConv2d(6, 4)
    x = noise(2, 6, 5, 7).float()
    torch.testing.assert_close(block(x), functional.conv2d(x, block.regular_conv.weight, padding=1))


def test_widths_that_do_not_divide() -> None:
    with pytest.raises(UserError, match="hidden_dim is 40, expected a multiple of 16"):
        VisTRMaskHeadConfig().build(40, 4, BACKBONE)
