"""Released checkpoints into our models: names mapped, aliases checked, unused tensors skipped."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vislab.errors import UserError
from vislab.models.seqformer import SeqFormer

Rule = tuple[str, str | Callable[[re.Match[str]], str]]

_STAGES = r"detr\.backbone\.0\.body\.layer(\d)\.(\d+)\."


def _resnet_block(match: re.Match[str]) -> str:
    stage, layer = int(match[1]) - 1, match[2]
    kind = "convolution" if match[3] == "conv" else "normalization"
    return f"backbone.body.encoder.stages.{stage}.layers.{layer}.layer.{int(match[4]) - 1}.{kind}."


def _resnet_shortcut(match: re.Match[str]) -> str:
    kind = "convolution" if match[3] == "0" else "normalization"
    return f"backbone.body.encoder.stages.{int(match[1]) - 1}.layers.{match[2]}.shortcut.{kind}."


_DECODER = r"detr\.transformer\.decoder\.layers\.(\d+)\."
_ENCODER = r"detr\.transformer\.encoder\.layers\.(\d+)\."

# wjf5203/SeqFormer models/: released name -> name here; the first rule that matches is used
_SEQFORMER_RULES: list[Rule] = [
    (_STAGES + r"(conv|bn)(\d)\.", _resnet_block),
    (_STAGES + r"downsample\.(\d)\.", _resnet_shortcut),
    (r"detr\.backbone\.0\.body\.conv1\.", "backbone.body.embedder.embedder.convolution."),
    (r"detr\.backbone\.0\.body\.bn1\.", "backbone.body.embedder.embedder.normalization."),
    (r"detr\.transformer\.level_embed", "level_embed"),
    (r"detr\.transformer\.reference_points\.", "reference_points."),
    (_ENCODER + r"self_attn\.", r"encoder.layers.\1.attention.spatial."),
    (_ENCODER + r"norm1\.", r"encoder.layers.\1.norm."),
    (_ENCODER + r"norm2\.", r"encoder.layers.\1.feed_forward.norm."),
    (_ENCODER + r"linear", r"encoder.layers.\1.feed_forward.linear"),
    (_DECODER + r"cross_attn\.output_proj_box\.", r"decoder.layers.\1.box_output_proj."),
    (_DECODER + r"cross_attn\.", r"decoder.layers.\1.cross_attention."),
    (_DECODER + r"norm1_box\.", r"decoder.layers.\1.box_norm."),
    (_DECODER + r"norm1\.", r"decoder.layers.\1.instance_norm."),
    (_DECODER + r"norm2_box\.", r"decoder.layers.\1.box_attention.norm."),
    (_DECODER + r"norm2\.", r"decoder.layers.\1.instance_attention.norm."),
    (_DECODER + r"norm3_box\.", r"decoder.layers.\1.box_feed_forward.norm."),
    (_DECODER + r"norm3\.", r"decoder.layers.\1.instance_feed_forward.norm."),
    (_DECODER + r"self_attn_box\.", r"decoder.layers.\1.box_attention."),
    (_DECODER + r"self_attn\.", r"decoder.layers.\1.instance_attention."),
    (_DECODER + r"linear(\d)_box\.", r"decoder.layers.\1.box_feed_forward.linear\2."),
    (_DECODER + r"linear(\d)\.", r"decoder.layers.\1.instance_feed_forward.linear\2."),
    (_DECODER + r"time_attention_weights\.", r"decoder.layers.\1.frame_weight."),
    (r"detr\.transformer\.decoder\.bbox_embed\.", "decoder.box_heads."),
    (r"detr\.bbox_embed\.", "decoder.box_heads."),
    (r"detr\.class_embed\.", "class_heads."),
    (r"detr\.query_embed\.", "query_embed."),
    (r"detr\.input_proj\.", "input_proj."),
    (r"controller\.", "controller."),
    (r"mask_head\.lay1\.", "mask_features.reduce."),
    (r"mask_head\.lay2\.", "mask_features.project."),
    (r"mask_head\.lay3\.", "mask_features.top_down.0."),
    (r"mask_head\.lay4\.", "mask_features.top_down.1."),
    (r"mask_head\.dcn\.", "mask_features.top_down.2."),
]
# stored by the release, read by no forward pass (models/ops/modules/ms_deform_attn.py:61)
_SEQFORMER_UNUSED = re.compile(_ENCODER + r"self_attn\.output_proj_box\.|.*\.num_batches_tracked$")


def seqformer_name(released: str) -> str | None:
    """Our name of an entry of a released SeqFormer state dict; None if no forward pass reads it."""
    if _SEQFORMER_UNUSED.match(released):
        return None
    for pattern, replacement in _SEQFORMER_RULES:
        renamed, count = re.subn("^" + pattern, replacement, released)
        if count:
            return renamed
    raise UserError(f"state dict entry {released!r} is not part of a SeqFormer release")


def convert_seqformer(released: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames a released SeqFormer state dict; an entry stored twice must be equal in both places."""
    state: dict[str, Tensor] = {}
    for name, tensor in released.items():
        ours = seqformer_name(name)
        if ours is None:
            continue
        if ours in state and not torch.equal(state[ours], tensor):
            raise UserError(f"state dict entry {name!r} should be the same tensor as another entry of {ours!r}")
        state[ours] = tensor
    return state


def _read_state(path: Path) -> dict[str, Tensor]:
    """safetensors, or a torch file opened without unpickling objects; usual containers are unwrapped."""
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # the release's training script stores its arguments beside the weights; a Namespace runs no code
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"checkpoint {path} cannot be read without running code from it: {error}") from error
    for container in ("model", "state_dict"):
        if isinstance(state, dict):
            state = state.get(container, state)
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"checkpoint {path} holds no state dict, expected tensors by name, perhaps under 'model'")
    return state


def load_official(model: nn.Module, path: str | Path, source: str = "seqformer") -> nn.Module:
    """Loads a released checkpoint's state dict into our model; nothing may be missing, left over or of another shape.

    Args:
        model: a `seqformer` of matching size; modified in place.
        path: .safetensors, or a .pth file (opened with weights_only, so no code of it runs).
        source: which release; "seqformer" (wjf5203/SeqFormer).

    Returns:
        model. Raises UserError naming the first entry that does not fit.
    """
    if source != "seqformer":
        raise UserError(f"unknown source {source!r}: expected seqformer")
    if not isinstance(model, SeqFormer):
        raise UserError(f"source {source!r} fits a SeqFormer model, got {type(model).__name__}")
    released, own = _read_state(Path(path)), model.state_dict()
    try:
        state = convert_seqformer(released)
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from None
    for name in own:
        if name not in state:
            raise UserError(f"checkpoint {path} has no entry for {name!r}")
    for name, tensor in state.items():
        if name not in own:
            raise UserError(f"checkpoint {path} has an entry for {name!r}, which the model does not have")
        if tensor.shape != own[name].shape:
            found, expected = tuple(tensor.shape), tuple(own[name].shape)
            raise UserError(f"checkpoint {path}: {name!r} has shape {found}, expected {expected}")
    model.load_state_dict(state)
    return model
