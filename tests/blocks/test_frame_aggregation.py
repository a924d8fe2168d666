"""Temporal layers on frame features: what meets, what does not, and against loops."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise

from vislab.blocks.frame_aggregation import FrameConvolutionConfig, FrameTransformerConfig
from vislab.errors import UserError


@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_convolution_sums_over_neighbouring_frames(num_frames: int, size: int) -> None:
    module = randomise(FrameConvolutionConfig(size).build(4, 1, 0, 2))
    patches, tokens = noise(2, num_frames, 6, 4), noise(2, num_frames, 3, 4)
    update, same = module(patches, tokens)
    assert same is tokens
    weight, bias = module.convolution.weight, module.convolution.bias
    for frame in range(num_frames):
        expected = patches[:, frame] + bias
        for tap in range(size):
            source = frame + tap - size // 2
            if 0 <= source < num_frames:
                expected = expected + patches[:, source] @ weight[:, :, tap].T
        torch.testing.assert_close(update[:, frame], expected)


@pytest.mark.parametrize(
    ("config", "reach"), [(FrameConvolutionConfig(3), 1), (FrameTransformerConfig(2), 9)], ids=["conv", "transformer"]
)
def test_places_and_clips_do_not_meet(config: FrameConvolutionConfig | FrameTransformerConfig, reach: int) -> None:
    module, patches = randomise(config.build(8, 2, 0, 2)), noise(2, 4, 6, 8)
    tokens = noise(2, 4, 3, 8)
    before, same = module(patches, tokens)
    assert same is tokens and before.shape == patches.shape
    changed = patches.clone()
    changed[0, 0, 2] += 1
    difference = (module(changed, tokens)[0] - before).abs().amax(-1) > 1e-9
    expected = torch.zeros(2, 4, 6, dtype=torch.bool)
    expected[0, : reach + 1, 2] = True
    assert torch.equal(difference, expected)


def test_even_kernels_have_no_middle() -> None:
    with pytest.raises(UserError, match="kernel_size is 4, expected an odd number"):
        FrameConvolutionConfig(4).build(4, 1, 0, 2)
