"""Weights of one model for another that is not quite the same: other levels, other frames, temporal projections.

Shape letters: Q queries, F source frames, L levels, P points, M heads, C channels.
"""

from __future__ import annotations

import re

from torch import Tensor, nn

from vislab.blocks.clip_msda import ClipMSDA
from vislab.blocks.spatial_msda import SpatialMSDA
from vislab.blocks.spatio_temporal_msda import SpatioTemporalMSDA
from vislab.models.backbones import STRIDES

State = dict[str, Tensor]
COORDINATES = {"sampling_offsets": 2, "attention_weights": 1}


def kept_levels(num_levels: int, state: State) -> list[int]:
    """Which of the checkpoint's levels the model has: the first ones, or for a single level that of stride 32."""
    source = len(state["level_embed"]) if "level_embed" in state else num_levels
    if num_levels == 1:
        return [min(source, len(STRIDES)) - 1]
    return list(range(min(num_levels, source)))


def adapt_weights(model: nn.Module, state: State) -> State:
    """A checkpoint's entries, converted where the model has other levels or temporal projections of its own.

    Level embeddings, input projections and deformable attention are cut to the model's levels; ClipMSDA's projections
    become copies of the current frame's, one per frame, cut to K_temp points (DeVIS appendix A). Entries that fit
    already, or have no counterpart, pass unchanged.
    """
    own = model.state_dict()
    converted = _adapt_levels(state, len(own["level_embed"]))
    for path, module in model.named_modules():
        if isinstance(module, SpatialMSDA):
            converted |= _projections(module, 1, module.num_points, state, path, path, own)
        if isinstance(module, SpatioTemporalMSDA) and isinstance(module.temporal, ClipMSDA):
            block, places = module.temporal, (f"{path}.spatial", f"{path}.temporal")
            copies = _projections(module.spatial, block.num_slots, block.config.num_points, state, *places, own)
            bias = f"{path}.temporal.attention_weights.bias"
            if bias in copies:
                block.lower_logits(copies[bias], module.spatial.num_points)
            converted |= copies
    return converted


def _adapt_levels(state: State, num_levels: int) -> State:
    """Level embeddings and input projections of the kept levels."""
    kept = kept_levels(num_levels, state)
    if "level_embed" not in state or len(kept) == len(state["level_embed"]):
        return dict(state)
    adapted = {name: tensor for name, tensor in state.items() if not name.startswith("input_proj.")}
    adapted["level_embed"] = state["level_embed"][kept]
    for target, source in enumerate(kept):
        prefix = f"input_proj.{source}."
        projection = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        adapted |= {f"input_proj.{target}.{rest}": tensor for rest, tensor in projection.items()}
    return adapted


def _projections(
    spatial: SpatialMSDA, slots: int, num_points: int, state: State, source: str, target: str, own: State
) -> State:
    """S-MSDA's projections at `source` of the state for `target`: the levels that `spatial` samples, the first points,
    once per slot. Nothing where the state fits already or cannot be cut."""
    num_levels = len(own["level_embed"])
    kept = kept_levels(num_levels, state)
    source_levels = len(state.get("level_embed", kept))
    levels = [kept[level] for level in spatial.levels or range(len(kept))]
    result = {}
    for name, coordinates in COORDINATES.items():
        for kind in ("weight", "bias"):
            place = f"{target}.{name}.{kind}"
            tensor = state.get(f"{source}.{name}.{kind}")
            fits = place in state and state[place].shape == own[place].shape
            if fits or tensor is None or len(tensor) % (spatial.num_heads * source_levels * coordinates):
                continue
            parts = tensor.unflatten(0, (spatial.num_heads, 1, source_levels, -1, coordinates))
            if parts.shape[3] >= num_points:
                parts = parts[:, :, levels, :num_points].repeat_interleave(slots, dim=1)
                result[place] = parts.flatten(0, 4).contiguous()
    return result


_BOX_BRANCH = {
    "box_attention": "self_attention",
    "cross_attention": "cross_attention.spatial",
    "box_output_proj": "cross_attention.spatial.output_proj",
    "box_norm": "norm",
    "box_feed_forward": "feed_forward",
}  # of SeqFormer's decoder layers -> the parts of a trajectory decoder's that do the same


def from_query_decomposition(state: State) -> State:
    """A SeqFormer's weights for a model with queries of its own in every frame: its box queries are such queries.

    Its instance queries and dynamic mask head have no counterpart and are left out. Other states pass unchanged.
    """
    if "decoder.layers.0.box_attention.in_proj_weight" not in state:
        return state
    renamed: State = {}
    for name, tensor in state.items():
        place = re.fullmatch(r"(decoder\.layers\.\d+\.)(\w+)(\..+)", name)
        if place is None:
            renamed[name] = tensor
        elif place[2] in _BOX_BRANCH and not (place[2] == "cross_attention" and place[3].startswith(".output_proj")):
            renamed[place[1] + _BOX_BRANCH[place[2]] + place[3]] = tensor
    return renamed


def to_pixel_decoder(state: State, num_heads: int) -> State:
    """A deformable detector's encoder for Mask2Former's pixel decoder, which has its levels the other way round.

    Where the number of levels differs, nothing of the encoder fits. Other states pass unchanged.
    """
    if "encoder.layers.0.attention.spatial.sampling_offsets.weight" not in state:
        return state
    num_levels, renamed = len(state["level_embed"]), State()
    for name, tensor in state.items():
        projection = re.fullmatch(r"input_proj\.(\d+)(\..+)", name)
        if projection is not None:
            name = f"pixel_decoder.input_proj.{num_levels - 1 - int(projection[1])}{projection[2]}"
        elif name == "level_embed":
            name, tensor = f"pixel_decoder.{name}", tensor.flip(0)
        elif name.startswith("encoder."):
            name = f"pixel_decoder.{name}"
            if any(kind in name for kind in COORDINATES):
                tensor = tensor.unflatten(0, (num_heads, num_levels, -1)).flip(1).flatten(0, 2)
        renamed[name] = tensor
    return renamed


def to_sigmoids(state: State, head: str, num_classes: int) -> State:
    """A softmax head whose last logit stands for no object, for a model with a sigmoid per class.

    A class's logit becomes its difference to that of no object, which is the softmax of the two alone, as a sigmoid.
    head: its name, a linear layer. Other states pass unchanged.
    """
    names = [f"{head}.{kind}" for kind in ("weight", "bias")]
    if any(name not in state or len(state[name]) != num_classes + 1 for name in names):
        return state
    return state | {name: state[name][:-1] - state[name][-1] for name in names}


def repeat_queries(rows: Tensor, num_queries: int, num_frames: int) -> Tensor | None:
    """Rows of an image model's queries (Q', ...) for every frame: num_queries of them, evenly spaced, the same in each
    frame (DeVIS src/util/weights_loading_utils.py takes every k-th), (T * Q, ...). None if there are too few."""
    if len(rows) < num_queries:
        return None
    chosen = [index * len(rows) // num_queries for index in range(num_queries)]
    return rows[chosen].repeat(num_frames, *[1] * (rows.dim() - 1))
