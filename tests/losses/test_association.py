"""Eq. 3 of RefineVIS against its double sum, and IDOL's auxiliary term against cosines."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import noise, random_boxes
from torch import Tensor
from torch.nn import functional

from vislab.losses.association import (
    AssociationLossConfig,
    ReidAuxConfig,
    association_terms,
    contrastive_terms,
    cosine_term,
    reference_pairs,
)
from vislab.losses.optimal_transport import OptimalTransportConfig, transport


def contrastive_term(key: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Of one object."""
    mine = (torch.arange(len(positives) + len(negatives)) < len(positives))[None]
    return contrastive_terms(key[None], torch.cat((positives, negatives)), mine, ~mine)[0]


def slow_term(key: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    total = sum(torch.exp(key @ minus - key @ plus) for plus in positives for minus in negatives)
    return torch.log(1 + total)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (3, 2), (1, 7), (5, 1)])
def test_contrastive_term_is_the_double_sum(positives: int, negatives: int) -> None:
    key, plus, minus = noise(6), noise(positives, 6, seed=1), noise(negatives, 6, seed=2)
    torch.testing.assert_close(contrastive_term(key, plus, minus), slow_term(key, plus, minus))


def test_large_products_do_not_overflow() -> None:
    key = torch.full((4,), 30.0)
    loss = contrastive_term(key, -key[None], key[None])
    torch.testing.assert_close(loss, torch.tensor(2 * 4 * 900.0))
    assert contrastive_term(key, key[None], -key[None]) == 0


def test_gradient_pulls_to_positives_and_pushes_from_negatives() -> None:
    key = noise(5).requires_grad_()
    plus, minus = noise(2, 5, seed=1), noise(3, 5, seed=2)
    contrastive_term(key, plus, minus).backward()
    assert key.grad is not None
    mean = plus.mean(0) - minus.mean(0)
    assert key.grad @ mean < 0
    assert torch.autograd.gradcheck(contrastive_term, (noise(3).requires_grad_(), noise(2, 3, seed=1), noise(2, 3)))


def test_without_positives_or_negatives_there_is_nothing_to_learn() -> None:
    key = noise(5).requires_grad_()
    for plus, minus in ((noise(0, 5), noise(2, 5)), (noise(2, 5), noise(0, 5))):
        loss = contrastive_term(key, plus, minus)
        loss.backward()
        assert loss == 0
    assert key.grad is not None and not key.grad.any()


def test_cosine_term_with_all_negatives_drawn() -> None:
    key, plus, minus = noise(6), noise(2, 6, seed=1), noise(4, 6, seed=2)
    errors = [(functional.cosine_similarity(key, other, dim=0) - 1) ** 2 for other in plus]
    errors += [functional.cosine_similarity(key, other, dim=0) ** 2 for other in minus]
    torch.testing.assert_close(cosine_term(key, plus, minus, 10), torch.stack(errors).mean())


def test_cosine_term_draws_so_many_negatives_per_positive() -> None:
    key, plus = torch.tensor([1.0, 0.0]), torch.tensor([[2.0, 0.0]] * 2)
    minus = torch.tensor([[1.0, 0.0]] * 100)
    assert cosine_term(key, plus, minus, 3).item() == pytest.approx(6 / 8)
    assert cosine_term(key, plus[:0], minus, 3).item() == pytest.approx(1.0)
    assert cosine_term(key, plus[:0], minus[:0], 3).item() == 0


def test_terms_are_sums_over_the_objects() -> None:
    keys, embeddings = noise(3, 4), noise(6, 4, seed=1)
    positives = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    negatives = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]]).bool()
    terms = association_terms(keys, embeddings, positives, negatives, ReidAuxConfig())
    expected = slow_term(keys[0], embeddings[:2], embeddings[2:])
    expected = expected + slow_term(keys[1], embeddings[2:3], embeddings[[0, 1, 5]])
    torch.testing.assert_close(terms["association"], expected)
    assert set(terms) == {"association", "reid_aux"} and terms["reid_aux"] > 0
    assert set(association_terms(keys, embeddings, positives, negatives, None)) == {"association"}
    none = torch.zeros(0, 6, dtype=torch.bool)
    assert association_terms(keys[:0], embeddings, none, none, None)["association"] == 0


def test_terms_under_autocast() -> None:
    keys, embeddings = noise(2, 4).float().requires_grad_(), noise(3, 4, seed=1).float()
    mine = torch.tensor([[True, False, False], [False, True, False]])
    with torch.autocast("cpu", torch.bfloat16):
        term = association_terms(keys, embeddings, mine, ~mine, None)["association"]
    plain = association_terms(keys, embeddings, mine, ~mine, None)["association"]
    assert term.dtype == torch.float32
    torch.testing.assert_close(term, plain, rtol=0.05, atol=0.05)


def test_pairs_leave_doubtful_queries_out() -> None:
    """Positives by the first few candidates; what only more candidates would choose is neither."""
    config = AssociationLossConfig(transport=OptimalTransportConfig(num_candidates=2), num_negative_candidates=5)
    wanted = random_boxes(2, seed=3)
    boxes = torch.cat([wanted[:1].expand(5, 4), wanted[1:].expand(5, 4), random_boxes(3, seed=8)])
    boxes = (boxes + 0.002 * noise(*boxes.shape, seed=1)).clamp(0, 1)
    logits, labels = noise(len(boxes), 3, seed=2), torch.tensor([0, 2])
    positives, negatives = reference_pairs(logits, boxes, labels, wanted, config)
    few = transport(logits, boxes, labels, wanted, OptimalTransportConfig(num_candidates=2)).chosen.T
    many = transport(logits, boxes, labels, wanted, OptimalTransportConfig(num_candidates=5)).chosen.T
    assert torch.equal(positives, few) and torch.equal(negatives, ~many)
    assert (positives[0] <= negatives[1]).all(), "positives of one instance are negatives of the other"
    assert (~positives & ~negatives).any()


def test_a_query_that_changes_its_instance_is_positive_and_negative_of_the_first() -> None:
    """Released behaviour. With one candidate the third query is the first instance's, with four it is the second's."""
    places = torch.tensor([0.44, 0.44, 0.425, 0.34])
    boxes = torch.cat([places[:, None], torch.tensor([[0.5, 0.2, 0.2]]).expand(4, 3)], dim=1)
    wanted = torch.tensor([[0.40, 0.5, 0.2, 0.2], [0.44, 0.5, 0.2, 0.2]])
    config = AssociationLossConfig(transport=OptimalTransportConfig(num_candidates=1), num_negative_candidates=4)
    positives, negatives = reference_pairs(torch.zeros(4, 3), boxes, torch.tensor([0, 0]), wanted, config)
    assert positives.nonzero().tolist()[0] == [0, 2] and positives.sum() == 2
    assert (positives & negatives).nonzero().tolist() == [[0, 2]]
    assert not negatives[1, :3].any(), "all three are the second's then"
    keys, embeddings = noise(2, 5), noise(4, 5, seed=1)
    term = association_terms(keys, embeddings, positives, negatives, None)["association"]
    expected = slow_term(keys[0], embeddings[2:3], embeddings[:3])
    expected = expected + slow_term(keys[1], embeddings[positives[1]], embeddings[3:])
    torch.testing.assert_close(term, expected)


def test_equal_embeddings_give_the_logarithm_of_the_pairs() -> None:
    key = noise(4)
    loss = contrastive_term(key, key.expand(3, 4), key.expand(5, 4))
    assert loss.item() == pytest.approx(math.log(1 + 15))
