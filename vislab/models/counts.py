"""Parameter counts under the conventions that papers of the field use without saying which."""

from __future__ import annotations

from torch import nn


def parameter_counts(*modules: nn.Module) -> dict[str, int]:
    """Counts numbers in modules (also on the meta device).

    Returns:
        unique: distinct parameters, frozen ones included. trainable: those with a gradient. buffers: statistics of
        frozen batch norms and the like. released: unique + buffers + what the model's released state dict holds
        twice or never reads (`released_extras`): the number that SeqFormer and TAFormer print.
    """
    parameters = {id(p): p for module in modules for p in module.parameters()}.values()
    buffers = sum(buffer.numel() for module in modules for buffer in module.buffers())
    extras = sum(sum(getattr(module, "released_extras", dict)().values()) for module in modules)
    unique = sum(p.numel() for p in parameters)
    return {
        "unique": unique,
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "buffers": buffers,
        "released": unique + buffers + extras,
    }
