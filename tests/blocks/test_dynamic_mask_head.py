"""The dynamic mask head against grouped convolutions and brute-force interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slow_deformable import noise, randomise
from torch.nn import functional

from vislab.blocks.dynamic_mask_head import MaskFeatures, dynamic_masks, num_dynamic_parameters, upsample_aligned


def grouped_masks(features, parameters, reference, stride: int, scale: float = 1.0) -> torch.Tensor:
    """CondInst's own form: the instances' layers as groups of one convolution, frame by frame; before upsampling."""
    instances, channels = len(parameters), features.shape[1]
    sizes = [(channels + 2) * 8, 64, 8, 8, 8, 1]
    *weights, b1, b2, b3 = parameters.split(sizes, dim=1)
    frames = []
    for t, feature in enumerate(features):
        height, width = feature.shape[-2:]
        x = torch.arange(width).double() * stride + stride // 2
        y = torch.arange(height).double() * stride + stride // 2
        relative_x = (reference[:, t, 0, None, None] - x[None, None, :]).expand(-1, height, -1)
        relative_y = (reference[:, t, 1, None, None] - y[None, :, None]).expand(-1, -1, width)
        coordinates = torch.stack((relative_x, relative_y), dim=1) / scale
        layer = torch.cat((coordinates, feature.expand(instances, -1, -1, -1)), dim=1).flatten(0, 1)[None]
        for index, (weight, bias) in enumerate(zip(weights, (b1, b2, b3), strict=True)):
            outputs = bias.shape[1]
            kernel = weight.reshape(instances * outputs, -1, 1, 1)
            layer = functional.conv2d(layer, kernel, bias.flatten(), groups=instances)
            layer = layer.relu() if index < 2 else layer
        frames.append(layer[0])
    return torch.stack(frames, dim=1)


def brute_force_upsample(logits: np.ndarray, factor: int) -> np.ndarray:
    """Output pixel k reads position (k - factor // 2) / factor of the input, clamped to its border."""

    def weights(length: int) -> np.ndarray:
        position = np.clip((np.arange(factor * length) - factor // 2) / factor, 0, length - 1)
        return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(length)))

    return np.einsum("ih,jw,nthw->ntij", weights(logits.shape[-2]), weights(logits.shape[-1]), logits)


def test_the_release_has_169_parameters() -> None:
    assert num_dynamic_parameters(8) == 169


@pytest.mark.parametrize("channels", [1, 8])
@pytest.mark.parametrize("scale", [1.0, 64.0])
@pytest.mark.parametrize(("instances", "frames", "height", "width"), [(3, 2, 4, 5), (1, 1, 1, 1), (0, 2, 3, 3)])
def test_equals_grouped_convolutions(
    channels: int, scale: float, instances: int, frames: int, height: int, width: int
) -> None:
    features = noise(frames, channels, height, width, seed=1)
    parameters = noise(instances, num_dynamic_parameters(channels), seed=2)
    reference = noise(instances, frames, 2, seed=3) * 20
    found = dynamic_masks(features, parameters, reference, 8, scale)
    assert found.shape == (instances, frames, 2 * height, 2 * width)
    if instances:
        expected = grouped_masks(features, parameters, reference, 8, scale).numpy()
        np.testing.assert_allclose(found.numpy(), brute_force_upsample(expected, 2), atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1])
def test_coordinates_are_reference_minus_pixel_centre(axis: int) -> None:
    """A network that passes one coordinate through shows what it is given."""
    w1, w2, w3 = torch.zeros(8, 10), torch.zeros(8, 8), torch.zeros(8)
    w1[0, axis] = w2[0, 0] = w3[0] = 1
    b1, b2, b3 = torch.zeros(8), torch.zeros(8), torch.tensor([-1000.0])
    b1[0] = 1000.0  # keeps the value above the ReLU
    parameters = torch.cat([part.flatten() for part in (w1, w2, w3, b1, b2, b3)])[None]
    masks = dynamic_masks(torch.zeros(1, 8, 3, 4), parameters, torch.tensor([[[50.0, 70.0]]]), stride=8)
    for i in range(3):
        for j in range(4):
            expected = (50 - (8 * j + 4), 70 - (8 * i + 4))[axis]
            assert masks[0, 0, 2 * i + 1, 2 * j + 1].item() == pytest.approx(expected)


def test_autocast_does_not_round_coordinates() -> None:
    """600.4 and 598.7 pixels are one number in bfloat16."""
    features, parameters = noise(1, 8, 80, 80, seed=1).float(), noise(2, 169, seed=2).float()
    reference = torch.tensor([[[600.4, 598.7]], [[3.1, 70.9]]])
    expected = dynamic_masks(features, parameters, reference, 8)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(dynamic_masks(features, parameters, reference, 8), expected, atol=0, rtol=0)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (4, 2)])
def test_upsampling_equals_brute_force(factor: int, height: int, width: int) -> None:
    logits = noise(2, 3, height, width)
    found = upsample_aligned(logits, factor)
    np.testing.assert_allclose(found.numpy(), brute_force_upsample(logits.numpy(), factor), atol=1e-12)


def test_upsampling_keeps_the_input_at_every_factor_th_pixel() -> None:
    logits = noise(1, 1, 3, 4)
    torch.testing.assert_close(upsample_aligned(logits, 2)[..., 1::2, 1::2], logits)


def slow_mask_features(block: MaskFeatures, levels: list[torch.Tensor]) -> torch.Tensor:
    def convolve(layer, x):
        return functional.conv2d(x, layer.weight, layer.bias, padding=1).clamp(min=0)

    fine, middle, coarse = levels
    fused = convolve(block.top_down[0], coarse)
    for layer, level in zip(block.top_down[1:], (middle, fine), strict=True):
        sizes = zip(level.shape[-2:], fused.shape[-2:], strict=True)
        rows, columns = (torch.arange(large) * small // large for large, small in sizes)
        fused = convolve(layer, level + fused[..., rows[:, None], columns])
    return convolve(block.project, convolve(block.reduce, fused))


@pytest.mark.parametrize("sizes", [[(8, 12), (4, 6), (2, 3)], [(5, 7), (3, 4), (2, 2)]])
def test_mask_features_top_down(sizes: list[tuple[int, int]]) -> None:
    block = randomise(MaskFeatures(8, 3))
    levels = [noise(2, 8, *size, seed=index) for index, size in enumerate(sizes)]
    found = block(levels)
    assert found.shape == (2, 3, *sizes[0]) and (found >= 0).all()
    torch.testing.assert_close(found, slow_mask_features(block, levels))
