"""Denoising queries: what they are, who sees whom, and what association and tracklets make of them."""

from __future__ import annotations

import itertools

import pytest
import torch
from loss_cases import noise, random_targets
from torch import Tensor

from vislab.errors import UserError
from vislab.losses.denoising import (
    DenoisingConfig,
    DenoisingQueries,
    association_denoising,
    attention_mask,
    denoising_tracklets,
    frame_matches,
    make_denoising_queries,
)
from vislab.ops.boxes import box_cxcywh_to_xyxy
from vislab.structures import Targets

CLASSES, FRAMES = 5, 3
PRESENT = [[1, 1, 1], [1, 0, 1], [0, 1, 1]]


def targets() -> list[Targets]:
    return [random_targets(3, FRAMES, CLASSES, 1, PRESENT), random_targets(1, FRAMES, CLASSES, 2)]


def make(kind: str = "cdn", count: int = 14, **changes: float) -> DenoisingQueries:
    torch.manual_seed(0)
    queries = make_denoising_queries(targets(), CLASSES, DenoisingConfig(kind, count, **changes))  # type: ignore[arg-type]
    assert queries is not None
    return queries


def test_layout() -> None:
    queries = make()
    assert len(queries) == 12 and queries.labels.shape == (6, 12) and queries.boxes.shape == (6, 12, 4)
    rows = list(zip(queries.group.tolist(), queries.positive.tolist(), queries.instance.tolist(), strict=True))
    assert rows == [(g, p, i) for g, p, i in itertools.product((0, 1), (True, False), (0, 1, 2))]
    for frame in range(FRAMES):
        assert queries.valid[frame].tolist() == [bool(PRESENT[i][frame]) for _, _, i in rows]
        assert queries.valid[FRAMES + frame].tolist() == [i == 0 for _, _, i in rows]
    assert (make("dn").group.max(), make("dn").positive.all()) == (3, True)
    assert len(make(count=1)) == 6, "at least one group"


def test_the_number_is_that_of_positives_and_negatives_together() -> None:
    queries = make(count=100)
    assert len(queries) == 96 and int(queries.positive.sum()) == 48


def test_without_noise_queries_are_the_ground_truth() -> None:
    queries, truth = make("dn", box_noise=0.0, label_noise=0.0), targets()
    for clip, frame in itertools.product(range(2), range(FRAMES)):
        row = clip * FRAMES + frame
        index, instances = frame_matches(queries, row)
        assert len(index) == 4 * int(truth[clip].present[:, frame].sum())
        torch.testing.assert_close(queries.boxes[row, index], truth[clip].boxes[instances, frame])
        assert torch.equal(queries.labels[row, index], truth[clip].labels[instances])


@pytest.mark.parametrize("scale", [0.4, 0.1])
def test_corners_move_by_less_than_a_half_box_and_negative_ones_by_more(scale: float) -> None:
    queries, truth = make(count=400, box_noise=scale), targets()
    for row in range(6):
        clip, frame = divmod(row, FRAMES)
        where = queries.valid[row]
        wanted = truth[clip].boxes[queries.instance[where], frame]
        shift = (box_cxcywh_to_xyxy(queries.boxes[row, where]) - box_cxcywh_to_xyxy(wanted)).abs()
        amount = shift / (wanted[:, 2:].repeat(1, 2) / 2 * scale)
        positive = queries.positive[where]
        assert (amount[positive] <= 1 + 1e-9).all() and amount[positive].max() > 0.9
        inside = ((box_cxcywh_to_xyxy(queries.boxes[row, where]) % 1) > 0).all(-1)
        assert (amount[~positive & inside] >= 1 - 1e-9).all() and (amount[~positive] <= 2 + 1e-9).all()
    assert ((queries.boxes >= 0) & (queries.boxes <= 1)).all()


def test_dn_moves_centres_and_sizes() -> None:
    queries, truth = make("dn", count=600), targets()
    where = queries.valid[0]
    wanted = truth[0].boxes[queries.instance[where], 0]
    change = (queries.boxes[0, where] - wanted) / wanted[:, 2:].repeat(1, 2)
    assert change[:, :2].abs().max() <= 0.2 + 1e-9 and change[:, 2:].abs().max() <= 0.4 + 1e-9
    assert change[:, :2].abs().max() > 0.18 and change[:, 2:].abs().max() > 0.36


def test_labels_are_changed_now_and_then() -> None:
    queries, truth = make(count=2000, label_noise=0.5), targets()
    where = queries.valid[2]
    wrong = (queries.labels[2, where] != truth[0].labels[queries.instance[where]]).float().mean()
    assert 0.35 < wrong < 0.45  # half of them drawn anew, of which one in five is the true one
    assert queries.labels.max() < CLASSES


def test_who_sees_whom() -> None:
    queries, matching = make(), 4
    mask = attention_mask(queries, matching)
    count = len(queries)
    assert mask.shape == (6, count + matching, count + matching)
    for row, a, b in itertools.product(range(6), range(count + matching), range(count + matching)):
        if b >= count:
            expected = True
        elif a >= count:
            expected = False  # nothing of the ground truth reaches the matching queries
        else:
            both = bool(queries.valid[row, a] and queries.valid[row, b])
            expected = a == b or (both and bool(queries.group[a] == queries.group[b]))
        assert bool(mask[row, a, b]) == expected


def test_no_object_at_all() -> None:
    empty = [random_targets(0, FRAMES, CLASSES, 1), random_targets(0, FRAMES, CLASSES, 2)]
    assert make_denoising_queries(empty, CLASSES, DenoisingConfig()) is None


def test_a_clip_without_objects_beside_one_with() -> None:
    some = [random_targets(0, FRAMES, CLASSES, 1), random_targets(2, FRAMES, CLASSES, 2)]
    queries = make_denoising_queries(some, CLASSES, DenoisingConfig(num_queries=8))
    assert queries is not None and not queries.valid[:FRAMES].any() and queries.valid[FRAMES:].all()
    assert denoising_tracklets(queries, 0, FRAMES).query_index.shape == (0, FRAMES)
    total, count = association_denoising(queries, 0, 1, noise(8, 3), noise(8, 3))
    assert (total, count) == (0, 0)


def test_tracklets_are_the_queries_of_an_instance_in_all_frames() -> None:
    queries = make()
    tracklets = denoising_tracklets(queries, 0, FRAMES)
    assert len(tracklets.query_index) == 12
    for row, (instance, positive) in enumerate(zip(tracklets.instance, tracklets.positive, strict=True)):
        for frame, query in enumerate(tracklets.query_index[row].tolist()):
            assert (query >= 0) == bool(PRESENT[int(instance)][frame])
            if query >= 0:
                assert queries.instance[query] == instance and queries.positive[query] == positive
        assert len({int(queries.group[q]) for q in tracklets.query_index[row] if q >= 0}) == 1
    assert len(denoising_tracklets(queries, 1, FRAMES).query_index) == 4


def slow_association(queries: DenoisingQueries, key: int, other: int, a: Tensor, b: Tensor) -> tuple[float, int]:
    """Section 3.5, query by query."""
    total, count = 0.0, 0
    for i in range(len(queries)):
        same_instance = [j for j in range(len(queries)) if queries.instance[j] == queries.instance[i]]
        seen = [j for j in range(len(queries)) if queries.valid[other, j]]
        positives = [j for j in seen if j in same_instance and queries.positive[j]]
        negatives = [j for j in seen if j not in same_instance]
        if not (queries.valid[key, i] and queries.positive[i] and positives):
            continue
        count += 1
        if negatives:
            total += torch.log(1 + sum(torch.exp(a[i] @ (b[n] - b[p])) for p in positives for n in negatives))
    return float(total), count


@pytest.mark.parametrize(("key", "other"), [(0, 2), (0, 1), (3, 4), (1, 0)])
def test_association_pairs(key: int, other: int) -> None:
    queries, a, b = make(), noise(12, 4), noise(12, 4, seed=1)
    total, count = association_denoising(queries, key, other, a, b)
    expected, expected_count = slow_association(queries, key, other, a, b)
    assert count == expected_count
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_its_own_negatives_do_not_count() -> None:
    queries, a, b = make(), noise(12, 4), noise(12, 4, seed=1).requires_grad_()
    only = queries.instance == 1  # absent in frame 1, so that of the pairs of frames 0 and 2 it has its own
    total, _ = association_denoising(queries, 3, 4, a, b)
    total.backward()
    assert b.grad is not None and not b.grad.any(), "a clip with one object has no negatives"
    b.grad = None
    association_denoising(queries, 0, 1, a, b)[0].backward()
    assert not b.grad[only].any(), "not there"
    assert not b.grad[(queries.instance == 0) & ~queries.positive].any()


def test_user_mistakes() -> None:
    for field, value in (("num_queries", 0), ("box_noise", -1), ("box_noise", 1.5), ("label_noise", 7)):
        with pytest.raises(UserError, match=f"denoising.{field} is {value}, expected "):
            DenoisingConfig(**{field: value})
