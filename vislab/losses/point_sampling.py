"""Mask losses on sampled points (Kirillov et al., PointRend; Cheng et al., Mask2Former section 3.3.2).

Points are (x, y) in [0, 1] of the padded image, so that maps of any size can be read at them.

Shape letters: G groups, N maps of a group, P points, h w map size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vislab import ops
from vislab.errors import UserError


@dataclass(frozen=True)
class PointSamplingConfig:
    """How many points of each mask are compared, and which.

    oversampling: candidates per point. uncertain_share: of the points, those of the candidates whose logit is nearest
    to zero; the others are uniform. Defaults: facebookresearch/Mask2Former configs/youtubevis_2019.
    """

    num_points: int = 12544
    oversampling: float = 3.0
    uncertain_share: float = 0.75

    def __post_init__(self) -> None:
        for name, fits, expected in (
            ("num_points", self.num_points >= 1, "1 or more"),
            ("oversampling", 1 <= self.oversampling < math.inf, "1 or more candidates per point"),
            ("uncertain_share", 0 <= self.uncertain_share <= 1, "a number from 0 to 1"),
        ):
            if not fits:
                raise UserError(f"points.{name} is {getattr(self, name)}, expected {expected}")


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples, zero outside; pixel i of n covers [i / n, (i + 1) / n], as detectron2's point_sample has it.

    Deformable attention with one point of weight 1, for its kernels: their gradient can be deterministic on CUDA.

    Args:
        maps: (G, N, h, w). points: (G, P, 2), shared by the maps of a group.

    Returns:
        (G, N, P), with a gradient for `maps`.
    """
    groups, num_maps, height, width = maps.shape
    num_points = points.shape[1]
    value = maps.flatten(2).transpose(1, 2)[:, None, :, None]
    locations = points.to(maps).view(groups, 1, num_points, 1, 1, 1, 1, 2)
    shapes, own_frame = torch.tensor([[height, width]]), torch.zeros(1, 1, dtype=torch.int64)
    samples = ops.deform_attn(value, shapes, own_frame, locations, torch.ones_like(locations[..., 0]))
    return samples.view(groups, num_points, num_maps).transpose(1, 2)


def random_points(count: int, num_points: int, generator: torch.Generator) -> Tensor:
    """(count, num_points, 2), uniform in [0, 1)."""
    return torch.rand(count, num_points, 2, generator=generator, device=generator.device)


@torch.no_grad()
def uncertain_points(logits: Tensor, config: PointSamplingConfig, generator: torch.Generator) -> Tensor:
    """(n, P, 2) points for each of (n, h, w) mask logits, as the configuration says.

    Source: detectron2's get_uncertain_point_coords_with_randomness as facebookresearch/Mask2Former
    mask2former_video/modeling/criterion.py:159-169 calls it.
    """
    count = len(logits)
    num_uncertain = int(config.uncertain_share * config.num_points)
    candidates = random_points(count, int(config.oversampling * config.num_points), generator)
    distance = sample_points(logits[:, None], candidates)[:, 0].abs()
    nearest = distance.topk(num_uncertain, dim=1, largest=False).indices
    uncertain = candidates.gather(1, nearest[..., None].expand(-1, -1, 2))
    return torch.cat((uncertain, random_points(count, config.num_points - num_uncertain, generator)), dim=1)


def at_least_float(logits: Tensor) -> Tensor:
    """In float32 where they came in half precision."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def seeded_generator(seed: int, stream: int, device: torch.device) -> torch.Generator:
    """A generator for one of several streams of a seed, on the device of the masks."""
    # the odd factor takes different streams of one seed to different states
    return torch.Generator(device).manual_seed((seed + stream * 0x9E3779B97F4A7C15) % 2**63)
