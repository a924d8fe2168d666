"""Deformable convolution against its definition, plain convolution and finite differences."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise
from torch import Tensor, nn
from torch.nn import functional

from vislab.blocks.modulated_deform_conv import ModulatedDeformConv2d, deform_conv2d

SIZES = [(1, 1), (1, 6), (5, 1), (4, 7)]


def tent(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def slow_deform_conv2d(x: Tensor, weight: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
    """Pixel by pixel and tap by tap (DCNv2 Eq. 1); a pixel of x counts by how far it lies from the point, per axis."""
    images, _, height, width = x.shape
    rows, columns = torch.arange(height), torch.arange(width)
    result = []
    for n in range(images):
        for i in range(height):
            for j in range(width):
                total = torch.zeros(len(weight), dtype=x.dtype)
                for tap in range(9):
                    y = i + tap // 3 - 1 + offset[n, 2 * tap, i, j]
                    z = j + tap % 3 - 1 + offset[n, 2 * tap + 1, i, j]
                    value = torch.einsum("chw,h,w->c", x[n], tent(y - rows), tent(z - columns))
                    total = total + weight[:, :, tap // 3, tap % 3] @ value * modulation[n, tap, i, j]
                result.append(total)
    return torch.stack(result).unflatten(0, (images, height, width)).permute(0, 3, 1, 2)


def case(height: int, width: int, images: int = 2, inputs: int = 3, outputs: int = 2, spread: float = 2.0) -> list:
    tensors = [
        noise(images, inputs, height, width, seed=1),
        noise(outputs, inputs, 3, 3, seed=2),
        noise(images, 18, height, width, seed=3) * spread,
        noise(images, 9, height, width, seed=4),
    ]
    return [tensor.requires_grad_() for tensor in tensors]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("outputs", [1, 5])
def test_values_and_gradients_equal_the_definition(height: int, width: int, outputs: int) -> None:
    """Offsets of a few pixels on small maps: points inside, across every border and far outside."""
    tensors = case(height, width, outputs=outputs)
    found, expected = deform_conv2d(*tensors), slow_deform_conv2d(*tensors)
    torch.testing.assert_close(found, expected)
    cotangent = noise(*found.shape, seed=5)
    gradients = [torch.autograd.grad(result, tensors, cotangent) for result in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_gradients_equal_finite_differences() -> None:
    assert torch.autograd.gradcheck(deform_conv2d, case(3, 4, images=1, inputs=2))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_offsets_it_is_a_convolution(height: int, width: int, dtype: torch.dtype) -> None:
    x, weight, offset, _ = (tensor.detach().to(dtype) for tensor in case(height, width))
    expected = functional.conv2d(x, weight, padding=1)
    torch.testing.assert_close(deform_conv2d(x, weight, torch.zeros_like(offset)), expected)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-2, 3), (0, -1), (9, 0)])
def test_whole_pixels_shift_the_image(down: int, right: int) -> None:
    x, weight, offset, _ = (tensor.detach() for tensor in case(5, 6))
    offset = torch.tensor([down, right]).double().repeat(9)[:, None, None].expand_as(offset)
    margin = 12
    wide = functional.conv2d(functional.pad(x, [margin] * 4), weight, padding=1)
    top, left = margin + down, margin + right
    torch.testing.assert_close(deform_conv2d(x, weight, offset), wide[..., top : top + 5, left : left + 6])


def test_each_tap_has_its_own_factor() -> None:
    x, weight, offset, _ = (tensor.detach() for tensor in case(4, 4))
    only = torch.zeros(2, 9, 4, 4).double()
    only[:, 5] = 0.5
    kernel = torch.zeros_like(weight)
    kernel[..., 1, 2] = 0.5 * weight[..., 1, 2]
    found = deform_conv2d(x, weight, torch.zeros_like(offset), only)
    torch.testing.assert_close(found, functional.conv2d(x, kernel, padding=1))


def test_no_images() -> None:
    tensors = case(3, 4, images=0)
    result = deform_conv2d(*tensors)
    assert result.shape == (0, 2, 3, 4)
    result.sum().backward()
    assert (tensors[1].grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coordinates_keep_their_precision_in_half_types(dtype: torch.dtype) -> None:
    """Steps of 1/8 show where the point lies; of numbers near 1000 these types know every fourth or second one."""
    width = 1100
    steps = torch.arange(width + 9) % 8 / 8
    x = steps[:width].expand(1, 1, 3, -1).to(dtype)
    weight = torch.zeros(1, 1, 3, 3, dtype=dtype)
    weight[..., 1, 1] = 1
    offset = torch.zeros(1, 18, 3, width, dtype=dtype)
    offset[:, 9] = 8.25  # x of the middle tap
    found = deform_conv2d(x, weight, offset)
    assert found.dtype == dtype
    expected = 0.75 * steps[8:-1] + 0.25 * steps[9:]
    torch.testing.assert_close(found[0, 0, 1, :-9].float(), expected[:-9], atol=0.005, rtol=0)


def test_float32_agrees_with_float64_on_large_maps() -> None:
    tensors = [tensor.detach() for tensor in case(3, 700)]
    found = deform_conv2d(*(tensor.float() for tensor in tensors))
    torch.testing.assert_close(found.double(), deform_conv2d(*tensors), atol=2e-3, rtol=1e-4)


def test_torchvision_gives_the_same() -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    x, weight, offset, modulation = (tensor.detach() for tensor in case(5, 7, outputs=4))
    expected = torchvision.ops.deform_conv2d(x, offset, weight, padding=1, mask=modulation)
    torch.testing.assert_close(deform_conv2d(x, weight, offset, modulation), expected)


def test_the_module_starts_as_a_plain_convolution() -> None:
    block = ModulatedDeformConv2d(6, 4)
    x = noise(2, 6, 5, 7).float()
    torch.testing.assert_close(block(x), functional.conv2d(x, block.regular_conv.weight, padding=1))
    assert block.regular_conv.bias is None


def test_the_module_predicts_offsets_and_factors() -> None:
    block = randomise(ModulatedDeformConv2d(3, 4))
    assert isinstance(block, ModulatedDeformConv2d)
    x = noise(2, 3, 4, 5, seed=6)
    factors = 2 * torch.sigmoid(block.modulator_conv(x))
    expected = slow_deform_conv2d(x, block.regular_conv.weight, block.offset_conv(x), factors)
    torch.testing.assert_close(block(x), expected)


def test_every_parameter_of_the_module_learns() -> None:
    block: nn.Module = randomise(ModulatedDeformConv2d(3, 2))
    block(noise(1, 3, 4, 4)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in block.parameters())
