"""Attention of one query at a time, from its definition: loops over heads, keys that are blocked simply left out, or
with a logit of zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def slow_attend(
    block: nn.Module,
    x: Tensor,
    position: Tensor,
    memory: Tensor,
    memory_position: Tensor,
    allowed: Tensor | None = None,
    heads: int = 2,
    mode: str = "neg_inf",
) -> Tensor:
    """LayerNorm(x + MHA) for x (C,), position (C,), memory and memory_position (K, C), allowed (K,) bool. mode: with
    "multiply" the logits of blocked keys are zero. A query without an allowed key may see all."""
    channels = len(x)
    weights, biases = block.in_proj_weight.chunk(3), block.in_proj_bias.chunk(3)
    factors = torch.ones(len(memory))
    if allowed is not None and allowed.any():
        if mode == "multiply":
            factors = allowed
        else:
            memory, memory_position, factors = memory[allowed], memory_position[allowed], factors[allowed]
    query = weights[0] @ (x + position) + biases[0]
    seen = []
    for head in range(heads):
        part = slice(head * channels // heads, (head + 1) * channels // heads)
        logits = []
        for token, token_position, factor in zip(memory, memory_position, factors.tolist(), strict=True):
            key = weights[1][part] @ (token + token_position) + biases[1][part]
            logits.append(factor * (query[part] @ key) / (channels // heads) ** 0.5)
        attention = torch.stack(logits).exp()
        values = torch.stack([weights[2][part] @ token + biases[2][part] for token in memory])
        seen.append((attention[:, None] * values).sum(0) / attention.sum())
    update = block.out_proj.weight @ torch.cat(seen) + block.out_proj.bias
    return functional.layer_norm(x + update, (channels,), block.norm.weight, block.norm.bias)


def slow_feed_forward(block: nn.Module, x: Tensor) -> Tensor:
    """x: (C,)."""
    hidden = (block.linear1.weight @ x + block.linear1.bias).clamp(min=0)
    update = block.linear2.weight @ hidden + block.linear2.bias
    return functional.layer_norm(x + update, x.shape, block.norm.weight, block.norm.bias)
