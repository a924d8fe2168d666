"""Weights for a model with other levels, frames or temporal projections."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny_models import CHANNELS, DEVIS, HEADS, IMAGE_MODE, SEQFORMER, build, build_devis, clips
from torch import Tensor

from vislab.blocks.clip_msda import ClipMSDAConfig
from vislab.blocks.spatial_msda import SpatialMSDAConfig
from vislab.blocks.vistr_mask_head import VisTRMaskHeadConfig
from vislab.config import with_changes
from vislab.models.adapt import adapt_weights, repeat_queries, to_pixel_decoder, to_sigmoids
from vislab.models.devis import Devis, DevisConfig
from vislab.models.encoder import Encoder, EncoderConfig, encoder_reference_points

ATTENTIONS = ("encoder.layers.0.attention", "decoder.layers.2.cross_attention")


def start(config: DevisConfig, source: DevisConfig = IMAGE_MODE) -> tuple[Devis, dict[str, Tensor], set[str]]:
    """A model warm-started from a trained `source`, that source's weights, and the names of what stayed fresh."""
    state = build_devis(source, seed=3).state_dict()
    model = build_devis(config, seed=4)
    own, adapted = model.state_dict(), model.adapt_weights(state)
    fitting = {name: tensor for name, tensor in adapted.items() if name in own and own[name].shape == tensor.shape}
    model.load_state_dict(fitting, strict=False)
    return model, state, own.keys() - fitting.keys()


@pytest.mark.parametrize("k_temp", [1, 2, 4])
@pytest.mark.parametrize("frames", [2, 3, 6])
def test_an_image_model_starts_devis(k_temp: int, frames: int) -> None:
    """Every temporal slot is the current frame's projection, cut to K_temp; only the temporal encoding is new."""
    changes = {f"{part}.temporal.num_points": k_temp for part in ("encoder", "decoder")} | {"clip_length": frames}
    model, state, fresh = start(with_changes(DEVIS, changes))
    assert fresh == {"temporal_encoding.weight"}
    for path in ATTENTIONS:
        for name, coordinates in (("sampling_offsets", 2), ("attention_weights", 1)):
            for kind in ("weight", "bias"):
                image = state[f"{path}.spatial.{name}.{kind}"].unflatten(0, (HEADS, 3, 4, coordinates))
                found = model.state_dict()[f"{path}.temporal.{name}.{kind}"]
                found = found.unflatten(0, (HEADS, frames - 1, 3, k_temp, coordinates))
                for slot in range(frames - 1):
                    torch.testing.assert_close(found[:, slot], image[:, :, :k_temp])


def test_a_detector_s_encoder_serves_a_pixel_decoder_with_levels_reversed() -> None:
    """Same tokens, levels in the opposite order: the same outputs, in that order."""
    shapes, channels, heads = [(6, 10), (3, 5), (2, 3)], 16, 4
    torch.manual_seed(0)
    detector, reversed_one = (Encoder(channels, heads, 3, EncoderConfig(num_layers=2), 0.0, None) for _ in range(2))
    for parameter in detector.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    state = {f"encoder.{name}": tensor for name, tensor in detector.state_dict().items()}
    state |= {
        "level_embed": torch.randn(3, channels),
        "input_proj.0.0.bias": torch.ones(channels),
        "query.weight": torch.ones(1),
    }
    adapted = to_pixel_decoder(state, heads)
    assert torch.equal(adapted["pixel_decoder.level_embed"], state["level_embed"].flip(0))
    assert "pixel_decoder.input_proj.2.0.bias" in adapted and "query.weight" in adapted
    prefix = "pixel_decoder.encoder."
    reversed_one.load_state_dict({n.removeprefix(prefix): t for n, t in adapted.items() if n.startswith(prefix)})
    parts = [torch.randn(1, 1, height * width, channels) for height, width in shapes]

    def run(encoder: Encoder, order: list[int]) -> list[Tensor]:
        sizes = [shapes[level] for level in order]
        tokens = torch.cat([parts[level] for level in order], dim=2)
        reference = encoder_reference_points(sizes, torch.ones(1, 3, 2))
        out = encoder(tokens, torch.zeros_like(tokens), reference, torch.tensor(sizes), None)
        return list(out.split([height * width for height, width in sizes], dim=2))

    expected, found = run(detector, [0, 1, 2]), run(reversed_one, [2, 1, 0])
    for one, other in zip(expected, reversed(found), strict=True):
        torch.testing.assert_close(other, one)
    assert to_pixel_decoder(adapted, heads) is adapted


def test_a_start_without_temporal_weight_is_the_image_model_on_every_frame() -> None:
    """With nothing temporal left, every frame of the video model says what the image model says of it: but for the
    joint self-attention, which copies of the same queries do not change."""
    changes = {"encoder.temporal": None, "decoder.temporal": None, "temporal_position": None}
    model, _, fresh = start(with_changes(DEVIS, changes))
    assert not fresh
    image_model, (images, padding) = build_devis(IMAGE_MODE, seed=3), clips()
    still = images[:, :1].expand(-1, 3, -1, -1, -1)
    video, image = model(still, padding), image_model(still[:, :1], padding)
    torch.testing.assert_close(video.pred_boxes, image.pred_boxes.expand(-1, -1, 3, -1))
    torch.testing.assert_close(video.pred_logits, image.pred_logits.expand(-1, -1, 3, -1))


def test_the_single_level_is_that_of_stride_32() -> None:
    head = VisTRMaskHeadConfig(deformable=False)
    model, state, fresh = start(replace(DEVIS, num_levels=1, mask_head=head, mask_layers=()))
    assert {name for name in fresh if not name.startswith("mask_head.")} == {"temporal_encoding.weight"}
    own = model.state_dict()
    torch.testing.assert_close(own["level_embed"], state["level_embed"][2:3])
    torch.testing.assert_close(own["input_proj.0.0.weight"], state["input_proj.2.0.weight"])
    image = state[f"{ATTENTIONS[0]}.spatial.sampling_offsets.bias"].unflatten(0, (HEADS, 3, 4, 2))[:, 2]
    found = own[f"{ATTENTIONS[0]}.spatial.sampling_offsets.bias"].unflatten(0, (HEADS, 4, 2))
    torch.testing.assert_close(found, image)
    temporal = own[f"{ATTENTIONS[0]}.temporal.sampling_offsets.bias"].unflatten(0, (HEADS, 2, 2, 2))
    torch.testing.assert_close(temporal, image[:, None, :2].expand_as(temporal))


def test_weights_that_fit_pass_unchanged() -> None:
    state = build_devis(seed=3).state_dict()
    adapted = build_devis(seed=4).adapt_weights(state)
    assert adapted.keys() == state.keys() and all(torch.equal(adapted[name], state[name]) for name in state)


@pytest.mark.parametrize("init", ["linear", "grid"])
def test_queries_of_another_clip_length_are_those_of_the_first_frame(init: str) -> None:
    source = replace(DEVIS, clip_length=2, reference_init=init)
    model, state, fresh = start(replace(DEVIS, reference_init=init), source)
    assert fresh == {"temporal_encoding.weight"}
    torch.testing.assert_close(model.query_embed.weight, state["query_embed.weight"][:4].repeat(3, 1))
    if init == "grid":
        torch.testing.assert_close(model.reference_points.weight, state["reference_points.weight"][:4].repeat(3, 1))


def test_more_temporal_points_than_current_ones_stay_fresh() -> None:
    _, _, fresh = start(with_changes(DEVIS, {"encoder.temporal.num_points": 5}))
    assert "encoder.layers.0.attention.temporal.sampling_offsets.bias" in fresh
    assert "decoder.layers.0.cross_attention.temporal.sampling_offsets.bias" not in fresh


def test_a_softmax_with_no_object_becomes_sigmoids_against_it() -> None:
    torch.manual_seed(0)
    features = torch.randn(7, 5)
    state = {"head.weight": torch.randn(4, 5), "head.bias": torch.randn(4), "other": torch.ones(1)}
    adapted = to_sigmoids(state, "head", 3)
    share = (features @ state["head.weight"].T + state["head.bias"]).softmax(-1)
    expected = share[:, :3] / (share[:, :3] + share[:, 3:])
    found = (features @ adapted["head.weight"].T + adapted["head.bias"]).sigmoid()
    torch.testing.assert_close(found, expected)
    assert adapted["other"] is state["other"]
    assert to_sigmoids(adapted, "head", 3) is adapted  # sigmoids already
    assert to_sigmoids(state, "head", 40) is state and to_sigmoids({}, "head", 3) == {}  # other classes; no head


def test_queries_are_picked_evenly_and_repeated() -> None:
    rows = torch.arange(300)[:, None]
    assert repeat_queries(rows, 10, 2)[:, 0].tolist() == [*range(0, 300, 30)] * 2
    assert repeat_queries(rows, 300, 1).equal(rows)
    assert repeat_queries(rows[:7], 10, 2) is None


@pytest.mark.parametrize("levels", [(0,), (2,), (0, 2)])
def test_seqformer_that_samples_some_levels_keeps_their_slices(levels: tuple[int, ...]) -> None:
    """TAFormer's Table 5: the rows start from weights for all levels."""
    state = build(SEQFORMER, seed=3).state_dict()
    encoder = replace(SEQFORMER.encoder, spatial=SpatialMSDAConfig(levels=levels))
    model = build(replace(SEQFORMER, encoder=encoder), seed=4)
    adapted = model.adapt_weights(state)
    model.load_state_dict(adapted)
    name = "encoder.layers.1.attention.spatial.attention_weights.weight"
    expected = state[name].unflatten(0, (HEADS, 3, 4))[:, list(levels)].reshape(-1, CHANNELS)
    torch.testing.assert_close(adapted[name], expected)
    again = model.adapt_weights(adapted)
    assert all(torch.equal(again[name], adapted[name]) for name in adapted)


def test_seqformer_weights_start_devis_attention_in_its_encoder() -> None:
    state = build(SEQFORMER, seed=3).state_dict()
    encoder = replace(SEQFORMER.encoder, temporal=ClipMSDAConfig(2))
    model = build(replace(SEQFORMER, encoder=encoder, clip_length=4), seed=4)
    model.load_state_dict(adapt_weights(model, state))
    found = model.encoder.layers[0].attention.temporal.attention_weights.bias.unflatten(0, (HEADS, 3, 3, 2))
    image = state["encoder.layers.0.attention.spatial.attention_weights.bias"].unflatten(0, (HEADS, 1, 3, 4))
    torch.testing.assert_close(found, image[..., :2].expand_as(found))


def test_copied_projections_start_with_the_initial_share() -> None:
    """All logits of the other frames are lower than their copies by one number, which sets their share."""
    changes = {f"{part}.temporal": ClipMSDAConfig(2, initial_share=0.2) for part in ("encoder", "decoder")}
    shifted, _, _ = start(with_changes(DEVIS, changes))
    plain, _, _ = start(with_changes(DEVIS, {"decoder.temporal": ClipMSDAConfig(2)}))
    for path in ATTENTIONS:
        name = f"{path}.temporal.attention_weights.bias"
        difference = plain.state_dict()[name] - shifted.state_dict()[name]
        expected = math.log((2 * 2 / 4) / (0.2 / 0.8))  # two other frames of 2 points beside 4 of the own one
        torch.testing.assert_close(difference, torch.full_like(difference, expected))


def test_a_seqformers_box_queries_start_an_image_model() -> None:
    """Its box branch finds the same boxes: on one frame, where the instance query has no say in them."""
    state = build(SEQFORMER, seed=3).state_dict()
    image = replace(
        IMAGE_MODE, num_queries=5, mask_head=None, mask_layers=(), mask_padding=True,
        position_offset=-0.5, decoder=replace(IMAGE_MODE.decoder, detach_reference=True),
    )  # fmt: skip
    model = build_devis(image, seed=4)
    adapted, own = model.adapt_weights(state), model.state_dict()
    fitting = {name: adapted[name] for name in own if name in adapted and adapted[name].shape == own[name].shape}
    assert own.keys() == fitting.keys()
    model.load_state_dict(fitting)
    images, padding = clips(frames=1)
    found, expected = model(images, padding), build(SEQFORMER, seed=3)(images, padding)
    torch.testing.assert_close(found.pred_boxes, expected.pred_boxes)
