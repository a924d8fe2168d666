"""Masks as kernel products."""

from __future__ import annotations

import torch
from slow_deformable import noise

from vislab.blocks.kernel_masks import KernelMasks


def test_a_logit_is_the_product_of_kernel_and_feature() -> None:
    masks = KernelMasks(noise(2, 3, 4, 5, seed=1), noise(2, 3, 5, 2, 6, seed=2).unbind())
    found = masks(1, torch.tensor([2, 0]))
    assert found.shape == (2, 3, 2, 6)
    for n, query in enumerate((2, 0)):
        for t in range(3):
            expected = sum(masks.kernels[1, t, query, c] * masks.features[1][t, c] for c in range(5))
            torch.testing.assert_close(found[n, t], expected)


def test_one_kernel_may_serve_all_frames() -> None:
    kernel, features, query = noise(2, 1, 4, 5, seed=1), noise(2, 3, 5, 2, 6, seed=2).unbind(), torch.tensor([3])
    repeated = KernelMasks(kernel.expand(-1, 3, -1, -1), features)
    torch.testing.assert_close(KernelMasks(kernel, features)(0, query), repeated(0, query))
    order = torch.tensor([1, 2, 0])
    found = KernelMasks(kernel, features).from_frames(0, query, order)
    torch.testing.assert_close(found, repeated(0, query))


def test_queries_of_other_frames_predict_this_frame() -> None:
    masks, queries = KernelMasks(noise(2, 3, 4, 5, seed=1), noise(2, 3, 5, 2, 6, seed=2).unbind()), torch.tensor([1, 3])
    source = torch.tensor([1, 2, 0])
    found = masks.from_frames(1, queries, source)
    moved = KernelMasks(masks.kernels[:, source], masks.features)(1, queries)
    torch.testing.assert_close(found, moved)
    torch.testing.assert_close(masks.from_frames(1, queries, torch.arange(3)), masks(1, queries))


def test_whether_frames_have_kernels_of_their_own() -> None:
    def of(kernels: int, frames: int) -> KernelMasks:
        return KernelMasks(noise(2, kernels, 4, 5), noise(2, frames, 5, 2, 6).unbind())

    assert of(3, 3).has_frame_queries and not of(1, 3).has_frame_queries
    assert of(1, 1).has_frame_queries, "where both are the same"


def test_no_queries_and_one_frame() -> None:
    masks = KernelMasks(noise(1, 1, 4, 5), noise(1, 1, 5, 2, 6).unbind())
    assert masks(0, torch.empty(0, dtype=torch.int64)).shape == (0, 1, 2, 6)
    torch.testing.assert_close(masks.from_frames(0, torch.arange(4), torch.tensor([0])), masks(0, torch.arange(4)))
