"""Floating-point operations of a forward pass, without computing it.

Papers call a multiplication with its addition one FLOP; so does `Flops`. Convolutions, linear layers, matrix products
and deformable attention count; norms, activations, additions, interpolation, RoIAlign and softmax do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from vislab.structures import ModelOutput

_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@dataclass(frozen=True)
class Flops:
    """Multiply-adds of one forward pass.

    attention_products: query-key and attention-value products of dense attention, which many counters do not see.
    by_operator: everything else, by torch operator: "convolution", "mm" and "addmm" (linear layers), "bmm" (batched
    products, as in dynamic convolution), "deform_attn" ...
    """

    attention_products: int
    by_operator: dict[str, int]

    @property
    def without_attention(self) -> int:
        return sum(self.by_operator.values())

    @property
    def total(self) -> int:
        return self.attention_products + self.without_attention


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def count_flops(
    model: nn.Module,
    clip_length: int,
    height: int,
    width: int,
    use: Callable[[ModelOutput], object] = lambda output: None,
) -> Flops:
    """Counts one clip of clip_length frames of height x width pixels, on the meta device as well as elsewhere.

    Tensors are fake ones on the CPU, on which dense attention is one operator: on the meta device it is taken apart
    into products that look like any other. The model is in the mode (training or not) that it is in.

    use: what is done with the output; masks are predicted on demand, so without it they are not counted.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        used = _Used(model, use)
        tensors = {**dict(used.named_parameters()), **dict(used.named_buffers())}
        state = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in tensors.items()}
        images = torch.empty(1, clip_length, 3, height, width)
        padding_mask = torch.empty(1, height, width, dtype=torch.bool)
        counter = FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _attention_flops})
        with torch.no_grad(), counter:
            functional_call(used, state, (images, padding_mask))
    counts = dict(counter.get_flop_counts()["Global"])
    attention = counts.pop(_CPU_ATTENTION, 0)
    # torch counts a multiplication and an addition as two
    return Flops(attention // 2, {str(operator).split(".")[-1]: flops // 2 for operator, flops in counts.items()})


class _Used(nn.Module):
    """The model together with what is done with its output, so that masks predicted later see the same tensors."""

    def __init__(self, model: nn.Module, use: Callable[[ModelOutput], object]) -> None:
        super().__init__()
        self.model, self.use = model, use

    def forward(self, images: Tensor, padding_mask: Tensor) -> None:
        self.use(self.model(images, padding_mask))
