"""The contrastive loss against loops over ordered pairs of frames (TAFormer Eq. 7-8)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from loss_cases import noise

from vislab.losses.contrastive import ContrastiveConfig, ContrastiveLoss, query_info_nce

CONFIG = ContrastiveConfig(channels=8)
ALL = [(torch.zeros(0, dtype=torch.int64),) * 2] * 2


def build(**changes: object) -> ContrastiveLoss:
    loss = ContrastiveLoss(replace(CONFIG, **changes)).double()
    with torch.no_grad():
        for index, parameter in enumerate(loss.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=50 + index) * 0.5)
    return loss


def cosine(a: list[float], b: list[float]) -> float:
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b)))


def slow_pair(first: list, second: list, temperature: float) -> float:
    """Eq. 7 of two frames' queries."""
    total = 0.0
    for i, query in enumerate(first):
        similarities = [cosine(query, other) / temperature for other in second]
        total += similarities[i] - math.log(sum(math.exp(s) for s in similarities))
    return -total / len(first)


def slow_loss(embeddings: list, temperature: float) -> float:
    """Eq. 8 of one clip: (T, Q, C) as nested lists."""
    frames = range(len(embeddings))
    pairs = [(t, s) for t in frames for s in frames if s != t]
    return sum(slow_pair(embeddings[t], embeddings[s], temperature) for t, s in pairs)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize(("frames", "queries"), [(3, 4), (2, 1), (5, 2)])
def test_eq_7_and_8(frames: int, queries: int, temperature: float) -> None:
    embeddings = noise(2, frames, queries, 6)
    found = query_info_nce(embeddings, temperature)
    assert found.shape == (2, frames, frames)
    assert not found.diagonal(dim1=1, dim2=2).any()
    for clip in range(2):
        expected = slow_loss(embeddings[clip].tolist(), temperature)
        assert found[clip].sum().item() == pytest.approx(expected, abs=1e-9)
        rows = embeddings[clip].tolist()
        assert found[clip, 0, 1].item() == pytest.approx(slow_pair(rows[0], rows[1], temperature), abs=1e-9)


def projected(loss: ContrastiveLoss, frame_queries: torch.Tensor) -> torch.Tensor:
    first, _, second = loss.head
    return (frame_queries @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_mean_over_clips_of_projected_queries(reduction: str) -> None:
    loss, queries = build(reduction=reduction), noise(2, 3, 4, 8)
    clips = [slow_loss(clip, 0.1) for clip in projected(loss, queries).tolist()]
    pairs = 6 if reduction == "mean" else 1
    assert loss(queries, ALL).item() == pytest.approx(sum(clips) / 2 / pairs, abs=1e-9)


def test_matched_queries_only() -> None:
    loss, queries = build(queries="matched"), noise(3, 3, 4, 8)
    empty = torch.zeros(0, dtype=torch.int64)
    matches = [(torch.tensor([2, 0]), torch.tensor([0, 1])), (empty, empty), (torch.tensor([1]), torch.tensor([0]))]
    embeddings = projected(loss, queries)
    expected = slow_loss(embeddings[0][:, [2, 0]].tolist(), 0.1)  # one query has no rival, none has no loss
    assert loss(queries, matches).item() == pytest.approx(expected / 3, abs=1e-9)


def test_no_match_at_all_is_zero_with_a_gradient() -> None:
    loss, queries = build(queries="matched"), noise(2, 3, 4, 8).requires_grad_()
    value = loss(queries, ALL)
    value.backward()
    assert value.item() == 0 and not queries.grad.any()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_one_frame_has_no_pair(reduction: str) -> None:
    loss, queries = build(reduction=reduction), noise(2, 1, 4, 8).requires_grad_()
    value = loss(queries, ALL)
    value.backward()
    assert value.item() == 0 and queries.grad.isfinite().all()


def test_does_not_depend_on_the_order_of_frames_or_the_length_of_queries() -> None:
    queries = noise(2, 4, 3, 8)
    shuffled = queries[:, [2, 0, 3, 1]] * 7
    torch.testing.assert_close(query_info_nce(queries, 0.1).sum(), query_info_nce(shuffled, 0.1).sum())


def test_tracks_that_agree_cost_less_than_tracks_that_are_exchanged() -> None:
    one = torch.eye(3, 8).double()
    agreeing, exchanged = torch.stack([one, one])[None], torch.stack([one, one[[1, 2, 0]]])[None]
    least = 2 * -math.log(math.exp(10) / (math.exp(10) + 2))
    assert query_info_nce(agreeing, 0.1).sum().item() == pytest.approx(least, abs=1e-9)
    assert query_info_nce(exchanged, 0.1).sum().item() > 10


def test_gradients() -> None:
    assert torch.autograd.gradcheck(lambda x: query_info_nce(x, 0.5), noise(1, 2, 3, 4).requires_grad_())
    loss = build()
    loss(noise(2, 3, 4, 8), ALL).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())


def test_head_is_two_layers_of_the_width_of_the_queries() -> None:
    assert sum(p.numel() for p in ContrastiveLoss(ContrastiveConfig()).parameters()) == 2 * (256 * 256 + 256)
