"""Fusion of spatial and temporal attention against the printed formulas (TAFormer Eq. 3-5)."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise

from vislab.blocks.fusion import (
    Addition,
    AdditionConfig,
    Concatenation,
    ConcatenationConfig,
    DynamicAttentionFusion,
    DynamicAttentionFusionConfig,
)

INTRA, INTER = noise(2, 3, 5, 6, seed=1), noise(2, 3, 5, 6, seed=2)


def test_dynamic_attention_fusion_is_eq_3_to_5() -> None:
    block = randomise(DynamicAttentionFusion(6, 4))
    hidden = torch.clamp((INTRA + INTER) @ block.reduce.weight.T + block.reduce.bias, min=0)
    g1 = hidden @ block.gate_intra.weight.T + block.gate_intra.bias
    g2 = hidden @ block.gate_inter.weight.T + block.gate_inter.bias
    w1, w2 = g1.exp() / (g1.exp() + g2.exp()), g2.exp() / (g1.exp() + g2.exp())
    torch.testing.assert_close(block(INTRA, INTER), INTRA * w1 + INTER * w2, atol=1e-12, rtol=0)


def test_equal_gates_give_the_mean() -> None:
    block = randomise(DynamicAttentionFusion(6, 4))
    block.gate_inter.load_state_dict(block.gate_intra.state_dict())
    torch.testing.assert_close(block(INTRA, INTER), (INTRA + INTER) / 2, atol=1e-12, rtol=0)


def test_lies_between_its_inputs() -> None:
    fused = randomise(DynamicAttentionFusion(6, 4), scale=3.0)(INTRA, INTER)
    assert ((fused >= torch.minimum(INTRA, INTER) - 1e-12) & (fused <= torch.maximum(INTRA, INTER) + 1e-12)).all()


@pytest.mark.parametrize(("bias", "expected"), [(1e4, INTRA), (-1e4, INTER)])
def test_large_gates_do_not_overflow(bias: float, expected: torch.Tensor) -> None:
    block = DynamicAttentionFusion(6, 4)
    with torch.no_grad():
        block.gate_intra.bias.fill_(bias)
        block.gate_inter.bias.fill_(-bias)
    intra = INTRA.float().requires_grad_()
    fused = block(intra, INTER.float())
    torch.testing.assert_close(fused, expected.float())
    fused.sum().backward()
    assert intra.grad.isfinite().all()


def test_gradients_of_dynamic_attention_fusion() -> None:
    block = randomise(DynamicAttentionFusion(3, 2))
    arguments = (noise(1, 1, 2, 3, seed=1).requires_grad_(), noise(1, 1, 2, 3, seed=2).requires_grad_())
    assert torch.autograd.gradcheck(block, arguments)


def test_concatenation_starts_at_the_mean_and_is_linear_in_both() -> None:
    block = Concatenation(6).double()
    torch.testing.assert_close(block(INTRA, INTER), (INTRA + INTER) / 2, atol=1e-12, rtol=0)
    randomise(block)
    left, right = block.projection.weight.split(6, dim=1)
    torch.testing.assert_close(block(INTRA, INTER), INTRA @ left.T + INTER @ right.T + block.projection.bias)


def test_addition() -> None:
    assert torch.equal(Addition()(INTRA, INTER), INTRA + INTER)


def test_parameters_at_paper_scale() -> None:
    def count(config: AdditionConfig | ConcatenationConfig | DynamicAttentionFusionConfig) -> int:
        return sum(p.numel() for p in config.build(256).parameters())

    assert count(AdditionConfig()) == 0
    assert count(ConcatenationConfig()) == 512 * 256 + 256
    assert count(DynamicAttentionFusionConfig()) == 256 * 32 + 32 + 2 * (32 * 256 + 256)
    assert count(DynamicAttentionFusionConfig(hidden_channels=256)) == 3 * (256 * 256 + 256)
