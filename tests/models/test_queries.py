"""First reference points and class heads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vislab.models.queries import class_heads, grid_points, initial_references, reference_points


@pytest.mark.parametrize("count", [1, 15, 16, 300])
def test_grid_points_are_distinct_and_inside(count: int) -> None:
    points = grid_points(count)
    assert points.shape == (count, 2) and ((points > 0) & (points < 1)).all()
    assert len({tuple(point) for point in points.tolist()}) == count


def test_learned_points_start_on_the_grid_of_every_frame() -> None:
    points = reference_points("grid", 8, num_queries=6, num_frames=3)
    found = initial_references(points, torch.zeros(3, 6, 8)).unflatten(0, (3, 6))
    torch.testing.assert_close(found, grid_points(6).expand(3, -1, -1))


def test_points_read_from_the_query_position() -> None:
    points, position = reference_points("linear", 8, num_queries=6), torch.randn(3, 6, 8)
    assert isinstance(points, nn.Linear) and not points.bias.any()
    torch.testing.assert_close(initial_references(points, position), points(position).sigmoid())
    with torch.autocast("cpu", torch.bfloat16):
        assert initial_references(points, position).dtype == torch.float32


def test_every_class_is_rare_at_first() -> None:
    heads = class_heads(8, 5, 3)
    assert len(heads) == 3
    assert all(torch.allclose(head.bias.sigmoid(), torch.full((5,), 0.01)) for head in heads)
