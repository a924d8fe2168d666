"""Bilinear samples at points, and which points."""

from __future__ import annotations

import pytest
import torch
from loss_cases import noise
from mask_cases import pixel_centres
from torch.nn import functional

from vislab.errors import UserError
from vislab.losses.point_sampling import (
    PointSamplingConfig,
    random_points,
    sample_points,
    seeded_generator,
    uncertain_points,
)
from vislab.shared_batch import new_seeds

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (8, 2)])
def test_samples_are_grid_sample_without_aligned_corners(height: int, width: int, dtype: torch.dtype) -> None:
    maps, points = noise(2, 3, height, width).to(dtype), random_points(2, 7, generator()).to(dtype)
    expected = functional.grid_sample(maps, 2 * points[:, :, None] - 1, align_corners=False)[..., 0]
    torch.testing.assert_close(sample_points(maps, points), expected, atol=1e-5, rtol=1e-4)


def test_pixel_centres_give_the_pixels() -> None:
    maps = noise(1, 2, 3, 5)
    found = sample_points(maps, pixel_centres(3, 5)[None])
    torch.testing.assert_close(found, maps.flatten(2))


def test_a_mask_and_its_enlargement_agree_at_centres_of_the_small_pixels() -> None:
    """Points lie in the image, not in a map: maps of different sizes are read at the same place."""
    mask = noise(1, 1, 3, 5)
    large = mask.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    points = pixel_centres(3, 5)[None]
    torch.testing.assert_close(sample_points(large, points), sample_points(mask, points))


def test_gradient_of_the_samples() -> None:
    points = random_points(2, 4, generator()).double()
    assert torch.autograd.gradcheck(lambda maps: sample_points(maps, points), noise(2, 1, 3, 4).requires_grad_())


def test_uncertain_points_are_the_candidates_nearest_to_the_contour() -> None:
    config = PointSamplingConfig(num_points=40, oversampling=3.0, uncertain_share=0.75)
    ramp = (torch.arange(64) + 0.5) / 64 - 0.5
    logits = ramp.expand(2, 4, 64)
    found = uncertain_points(logits, config, generator(3))
    candidates = random_points(2, 120, generator(3))
    distance = functional.grid_sample(logits[:, None], 2 * candidates[:, :, None] - 1, align_corners=False).abs()
    for n in range(2):
        nearest = distance[n].flatten().argsort()[:30]
        assert sorted(found[n, :30].tolist()) == sorted(candidates[n, nearest].tolist())
    assert found.shape == (2, 40, 2) and (found >= 0).all() and (found < 1).all()
    assert (found[:, 30:, 0] - 0.5).abs().max() > 0.3, "the rest lies anywhere"


@pytest.mark.parametrize(("share", "uncertain"), [(0.0, 0), (0.75, 6), (1.0, 9)])
def test_share_of_uncertain_points(share: float, uncertain: int) -> None:
    config = PointSamplingConfig(num_points=9, oversampling=2.0, uncertain_share=share)
    found = uncertain_points(noise(3, 4, 4), config, generator())
    draws = generator()
    candidates = random_points(3, 18, draws)
    is_candidate = (found[:, :, None] == candidates[:, None]).all(-1).any(-1)
    assert is_candidate.sum(1).tolist() == [uncertain] * 3


def test_no_masks() -> None:
    assert uncertain_points(torch.zeros(0, 4, 4), PointSamplingConfig(8), generator()).shape == (0, 8, 2)
    assert sample_points(torch.zeros(0, 1, 4, 4), torch.zeros(0, 8, 2)).shape == (0, 1, 8)


def test_seeds_follow_torchs_generator_and_streams_differ() -> None:
    torch.manual_seed(5)
    first = new_seeds(3)
    torch.manual_seed(5)
    assert new_seeds(3) == first and len(set(first)) == 3
    draws = [torch.rand(2, generator=seeded_generator(7, stream, CPU)).tolist() for stream in (0, 1, 2, 0)]
    assert draws[0] == draws[3] and draws[0] != draws[1] != draws[2]


def test_defaults_are_the_releases() -> None:
    """facebookresearch/Mask2Former configs/youtubevis_2019/video_maskformer2_R50_bs16_8ep.yaml."""
    assert PointSamplingConfig() == PointSamplingConfig(num_points=112 * 112, oversampling=3.0, uncertain_share=0.75)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("num_points", 0, "1 or more"),
        ("oversampling", 0.5, "1 or more candidates per point"),
        ("oversampling", -1.0, "1 or more candidates per point"),
        ("oversampling", float("nan"), "1 or more candidates per point"),
        ("oversampling", float("inf"), "1 or more candidates per point"),
        ("uncertain_share", 1.5, "a number from 0 to 1"),
        ("uncertain_share", -0.1, "a number from 0 to 1"),
    ],
)
def test_options_that_cannot_be(field: str, value: float, expected: str) -> None:
    with pytest.raises(UserError, match=f"^points.{field} is {value}, expected {expected}$"):
        PointSamplingConfig(**{field: value})


def test_options_at_their_bounds() -> None:
    for share in (0.0, 1.0):
        found = uncertain_points(noise(2, 4, 4), PointSamplingConfig(1, 1.0, share), generator())
        assert found.shape == (2, 1, 2)
