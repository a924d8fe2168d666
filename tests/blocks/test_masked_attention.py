"""Masked cross-attention in both readings of IFR Eq. 1."""

from __future__ import annotations

import pytest
import torch
from slow_attention import slow_attend
from slow_deformable import noise, randomise
from torch import Tensor, nn

from vislab.blocks.masked_attention import MaskedCrossAttention, foreground, multiplied_attention


def build(mode: str = "neg_inf", dropout: float = 0.0) -> MaskedCrossAttention:
    return randomise(MaskedCrossAttention(8, 2, dropout, mode)).eval()


def inputs(keys: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return noise(2, 3, 8, seed=1), noise(3, 8, seed=2), noise(2, keys, 8, seed=3), noise(keys, 8, seed=4)


def random_mask(keys: int = 6) -> Tensor:
    mask = torch.rand(2, 3, keys, generator=torch.Generator().manual_seed(5)) < 0.5
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("keys", [1, 6])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", ["neg_inf", "multiply"])
def test_equals_the_definition_query_by_query(mode: str, masked: bool, keys: int) -> None:
    block, (x, position, memory, memory_position) = build(mode), inputs(keys)
    mask = random_mask(keys) if masked else None
    found = block(x, position, memory, memory_position, mask)
    for b in range(2):
        for q in range(3):
            allowed = None if mask is None else mask[b, q]
            expected = slow_attend(block, x[b, q], position[q], memory[b], memory_position, allowed, mode=mode)
            torch.testing.assert_close(found[b, q], expected)


@pytest.mark.parametrize("mode", ["neg_inf", "multiply"])
def test_a_row_that_is_blocked_everywhere_is_opened(mode: str) -> None:
    block, mask = build(mode), random_mask()
    mask[1, 2] = False
    opened = mask.clone()
    opened[1, 2] = True
    torch.testing.assert_close(block(*inputs(), mask), block(*inputs(), opened), rtol=0, atol=0)


def test_without_blocked_keys_both_modes_are_plain_attention() -> None:
    mask = torch.ones(2, 3, 6, dtype=torch.bool)
    plain = build()(*inputs())
    torch.testing.assert_close(build("neg_inf")(*inputs(), mask), plain)
    torch.testing.assert_close(build("multiply")(*inputs(), mask), plain)


def test_multiply_is_equation_1_as_printed() -> None:
    query, key, value = noise(1, 1, 2, 4, seed=1), noise(1, 1, 5, 4, seed=2), noise(1, 1, 5, 4, seed=3)
    mask = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    found = multiplied_attention(query, key, value, mask)
    for q in range(2):
        weight = torch.stack([(query[0, 0, q] @ key[0, 0, k] * mask[q, k] / 2).exp() for k in range(5)])
        torch.testing.assert_close(found[0, 0, q], (weight[:, None] * value[0, 0]).sum(0) / weight.sum())
    torch.testing.assert_close(found[0, 0, 1], value[0, 0].mean(0))


def test_blocked_keys_count_only_where_the_mask_multiplies() -> None:
    x, position, memory, memory_position = inputs()
    mask, other = random_mask(), memory.clone()
    mask[:] = mask[:1, :1]
    blocked = ~mask[0, 0]
    other[:, blocked] = noise(2, int(blocked.sum()), 8, seed=9)
    for mode, moved in (("neg_inf", False), ("multiply", True)):
        before = build(mode)(x, position, memory, memory_position, mask)
        after = build(mode)(x, position, other, memory_position, mask)
        assert torch.equal(before, after) != moved


def test_is_torchs_attention_with_the_same_parameters() -> None:
    block, (x, position, memory, memory_position) = build(), inputs()
    library = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    own = block.state_dict()
    library.load_state_dict({name: own[name] for name in library.state_dict()})
    mask = random_mask()
    update, _ = library(
        x + position, memory + memory_position, memory, attn_mask=~mask.repeat_interleave(2, dim=0), need_weights=False
    )
    torch.testing.assert_close(block(x, position, memory, memory_position, mask), block.norm(x + update))


def test_foreground_is_where_the_sigmoid_reaches_a_half_and_has_no_gradient() -> None:
    logits = torch.tensor([[[-1.0, 0.0], [0.1, -1e-3]]], requires_grad=True)
    assert foreground(logits).tolist() == [[False, True, True, False]]
    assert not foreground(logits).requires_grad


def test_dropout_acts_in_training_only() -> None:
    block = build(dropout=0.5)
    torch.testing.assert_close(block(*inputs()), build()(*inputs()), rtol=0, atol=0)
    torch.manual_seed(0)
    assert not torch.allclose(block.train()(*inputs()), build()(*inputs()))


def test_gradient_flows_in_both_modes() -> None:
    for mode in ("neg_inf", "multiply"):
        block, tensors = build(mode), [tensor.requires_grad_() for tensor in inputs()]
        assert torch.autograd.gradcheck(lambda *args, block=block: block(*args, random_mask()), tensors)
