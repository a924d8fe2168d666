"""Contrastive association loss between the objects of two frames (RefineVIS Eq. 3; Wu et al., IDOL).

Shape letters: Q queries, N instances, E channels, P positives, M negatives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from vislab.losses.optimal_transport import OptimalTransportConfig, transport
from vislab.losses.point_sampling import at_least_float


@dataclass(frozen=True)
class ReidAuxConfig:
    """IDOL's auxiliary term: squared error of the cosine similarity, 1 wanted for positives and 0 for as many random
    negatives per positive. weight: 3 in the release, whose Eq. 3 has 2 (projects/IDOL/idol/idol.py:177-180)."""

    weight: float = 3.0
    negatives_per_positive: int = 10


@dataclass(frozen=True)
class AssociationLossConfig:
    """Eq. 3. weight: the paper prints none; 2 in IDOL. reid_aux: None is the printed term alone.

    transport: which queries of the reference frame are positives of an instance. num_negative_candidates: with this
    many candidates others are chosen; what is not among these is a negative of it (pos_neg_select.py:88-117).
    """

    weight: float = 2.0
    reid_aux: ReidAuxConfig | None = None
    transport: OptimalTransportConfig = OptimalTransportConfig()
    num_negative_candidates: int = 100


def contrastive_terms(keys: Tensor, embeddings: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Eq. 3 of each object: log(1 + sum over all pairs of exp(v k- - v k+)), 0 without a positive or a negative.

    keys: (N, E). embeddings: (Q, E), of which positives and negatives, (N, Q) bool, are the object's k+ and k-. Returns
    (N,). The double sum is a product of two.
    """
    products = at_least_float(keys @ embeddings.T)  # under autocast the product is of half precision
    paired = positives.any(1) & negatives.any(1)
    against = products[paired].masked_fill(~negatives[paired], -torch.inf).logsumexp(1)
    towards = (-products[paired]).masked_fill(~positives[paired], -torch.inf).logsumexp(1)
    terms = products.sum(1) * 0.0  # in the graph, also where there is no pair
    return terms.index_put((paired.nonzero()[:, 0],), functional.softplus(against + towards))


def cosine_term(key: Tensor, positives: Tensor, negatives: Tensor, negatives_per_positive: int) -> Tensor:
    """IDOL's auxiliary term for one object: mean squared error of the cosine similarities.

    Without a positive 10 negatives are drawn, as if there were one (pos_neg_select.py:44-58). Negatives are drawn with
    torch's own generator on the CPU.
    """
    count = min(negatives_per_positive * max(len(positives), 1), len(negatives))
    drawn = torch.randperm(len(negatives))[:count].to(negatives.device)
    others = torch.cat((positives, negatives[drawn]))
    if not len(others):
        return key.sum() * 0.0
    wanted = torch.cat((others.new_ones(len(positives)), others.new_zeros(count)))
    return (functional.normalize(others, dim=-1) @ functional.normalize(key, dim=-1) - wanted).square().mean()


def reference_pairs(
    logits: Tensor, boxes: Tensor, labels: Tensor, wanted: Tensor, config: AssociationLossConfig
) -> tuple[Tensor, Tensor]:
    """Positives and negatives of each instance among the queries of the reference frame: two (N, Q) bool.

    They come from two assignments that know nothing of each other, as in the release. In each of them a query belongs
    to one instance at most, so that one which changes its instance with the number of candidates is both a positive and
    a negative of the first.

    logits: (Q, K); boxes: (Q, 4); labels: (N,); wanted: (N, 4). Only of instances that are in the frame.
    """
    positives = transport(logits, boxes, labels, wanted, config.transport).chosen
    wide = replace(config.transport, num_candidates=config.num_negative_candidates)
    return positives.T, ~transport(logits, boxes, labels, wanted, wide).chosen.T


def association_terms(
    keys: Tensor, embeddings: Tensor, positives: Tensor, negatives: Tensor, aux: ReidAuxConfig | None
) -> dict[str, Tensor]:
    """Sums over the objects of the key frame, by name: "association" and, with `aux`, "reid_aux".

    keys: (N, E), of the key frame. embeddings: (Q, E), of the reference frame. positives, negatives: (N, Q) bool.
    """
    keys, embeddings = at_least_float(keys), at_least_float(embeddings)
    terms = {"association": contrastive_terms(keys, embeddings, positives, negatives).sum()}
    if aux is not None:
        nothing = (keys.sum() + embeddings.sum()) * 0.0
        parts = [
            cosine_term(key, embeddings[mine], embeddings[others], aux.negatives_per_positive)
            for key, mine, others in zip(keys, positives, negatives, strict=True)
        ]
        terms["reid_aux"] = sum(parts, nothing)
    return terms
