"""RefineVIS on its three frame-level models: protocol, denoising queries, counts, streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tiny_refinevis import EVERY, ON_DYNAMIC, REFINEVIS, TAR, build, tiny_clips, tiny_targets
from torch.utils.flop_counter import FlopCounterMode

from vislab.blocks.temporal_attention_refinement import TARConfig
from vislab.errors import UserError
from vislab.losses.denoising import DenoisingConfig, make_denoising_queries
from vislab.losses.frame_predictions import FramePredictions
from vislab.models.mask2former_presets import mask2former_vis
from vislab.models.maskdino import MaskDINO
from vislab.models.presets import seqformer
from vislab.models.refinevis import refinement_cost
from vislab.models.refinevis_presets import (
    idol,
    maskdino,
    refinevis,
    refinevis_condinst,
    refinevis_mask2former,
    refinevis_swin_large,
)
from vislab.stitching.video_stream import StreamConfig, VideoStream


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_predictions_of_each_frame(name: str) -> None:
    model = build(EVERY[name])
    images, padding = tiny_clips(batch=2, frames=2)
    output = model(images, padding)
    assert output.num_frames == 2 and output.frame_numbers.tolist() == [[0, 1]] * 2 and output.refine is model.tar
    frames = output.frames
    assert frames.logits.shape == (4, 5, 3) and frames.boxes.shape == (4, 5, 4) and frames.association is not None
    assert frames.denoising is None
    for layer in (frames, *frames.aux_outputs):
        torch.testing.assert_close(layer.logits, layer.heads.classify(layer.embeddings))
        assert layer.masks(1, torch.tensor([3, 0])).shape == (2, 16, 24)
    alone = model(images[1:, 1:], padding[1:]).frames
    for part in ("logits", "boxes", "embeddings", "references", "association"):
        torch.testing.assert_close(getattr(frames, part)[3], getattr(alone, part)[0])
    torch.testing.assert_close(frames.masks(3, torch.tensor([2])), alone.masks(0, torch.tensor([2])))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("mode", ["online", "offline"])
@torch.no_grad()
def test_streams(name: str, mode: str) -> None:
    model = build(EVERY[name])
    images, padding = tiny_clips(frames=3)
    stream = VideoStream(StreamConfig(mode=mode, window=2), model.tar)  # type: ignore[arg-type]
    frames = [*stream.push(model(images, padding).frames), *stream.flush()]
    assert [frame.frame for frame in frames] == [0, 1, 2]
    assert all(cell.mask_logits.shape == (16, 24) for frame in frames for cell in frame.instances)
    assert any(frame.instances for frame in frames)


@torch.no_grad()
def test_mask2former_boxes_lie_around_its_masks() -> None:
    model = build(EVERY["mask2former"])
    images, padding = tiny_clips()
    frames = model(images, padding).frames
    for query in range(5):
        pixels = (frames.masks(0, torch.tensor([query]))[0] > 0).nonzero()
        x, y, w, h = frames.boxes[0, query].tolist()
        if len(pixels):
            (top, left), (bottom, right) = pixels.amin(0).tolist(), (pixels.amax(0) + 1).tolist()
            found = ((x - w / 2) * 64 / 4, (y - h / 2) * 48 / 4, (x + w / 2) * 64 / 4, (y + h / 2) * 48 / 4)
            assert found == pytest.approx((left, top, right, bottom))


def denoised(model: MaskDINO, seed: int = 0, edit: int | None = None) -> tuple[FramePredictions, FramePredictions]:
    """With denoising queries and without; edit: a group whose labels and boxes are changed."""
    images, padding = tiny_clips(batch=2, frames=1)
    targets = [tiny_targets(2, 1, seed=1), tiny_targets(1, 1, seed=2)]
    torch.manual_seed(seed)
    queries = make_denoising_queries(targets, 3, DenoisingConfig(num_queries=8))
    assert queries is not None
    if edit is not None:
        changed = (queries.group == edit)[None]
        labels = torch.where(changed, (queries.labels + 1) % 3, queries.labels)
        queries = replace(queries, labels=labels, boxes=torch.where(changed[..., None], 0.4, queries.boxes))
    flat = images.flatten(0, 1)
    return model(flat, padding, queries), model(flat, padding)


@torch.no_grad()
def test_denoising_queries_do_not_reach_matching_queries() -> None:
    model = build(REFINEVIS).frame_model
    assert isinstance(model, MaskDINO)
    with_them, without = denoised(model)
    pairs = zip((with_them, *with_them.aux_outputs), (without, *without.aux_outputs), strict=True)
    for one, other in pairs:
        for part in ("logits", "boxes", "embeddings"):
            torch.testing.assert_close(getattr(one, part), getattr(other, part))
    assert with_them.denoising is not None and with_them.denoising.logits.shape == (2, 8, 3)
    assert len(with_them.denoising.aux_outputs) == 2 and without.denoising is None


@torch.no_grad()
def test_groups_of_denoising_queries_are_independent() -> None:
    model = build(REFINEVIS).frame_model
    assert isinstance(model, MaskDINO)
    one, other = denoised(model)[0], denoised(model, edit=1)[0]
    assert one.denoising is not None and other.denoising is not None and one.denoising_queries is not None
    first = one.denoising_queries.group == 0
    torch.testing.assert_close(one.denoising.logits[:, first], other.denoising.logits[:, first])
    assert not torch.allclose(one.denoising.logits[:, ~first], other.denoising.logits[:, ~first])


def test_denoising_in_training_only() -> None:
    model = build(REFINEVIS)
    images, padding = tiny_clips()
    targets = [tiny_targets(2, 2)]
    assert model(images, padding, targets).frames.denoising is None
    model.train()
    assert model(images, padding).frames.denoising is None
    assert model(images, padding, [tiny_targets(0, 2)]).frames.denoising is None
    assert model(images, padding, targets).frames.denoising is not None


def test_frame_numbers() -> None:
    """As they are at inference; in training shifted, clip by clip, by less than first_frames."""
    model, numbers = build(replace(REFINEVIS, first_frames=5)), torch.tensor([[4, 7], [0, 9]])
    images, padding = tiny_clips(batch=2)
    assert model(images, padding).frame_numbers.tolist() == [[0, 1], [0, 1]]
    assert model(images, padding, None, numbers).frame_numbers.tolist() == [[4, 7], [0, 9]]
    model.train()
    torch.manual_seed(3)
    shifts = torch.stack([model(images, padding, None, numbers).frame_numbers - numbers for _ in range(4)])
    assert (shifts[..., 0] == shifts[..., 1]).all() and shifts.min() >= 0 and shifts.max() < 5
    assert len(shifts.unique()) > 1 and (shifts[:, 0] != shifts[:, 1]).any()
    assert model(images, padding).frame_numbers.diff().tolist() == [[1], [1]]
    fixed = build(replace(REFINEVIS, first_frames=1)).train()
    assert fixed(images, padding, None, numbers).frame_numbers.tolist() == numbers.tolist()


@torch.no_grad()
def test_without_tar_nothing_is_refined() -> None:
    model = build(replace(ON_DYNAMIC, tar=None))
    images, padding = tiny_clips()
    assert model(images, padding).refine is None


def test_counts() -> None:
    with torch.device("meta"):
        assert count(maskdino().build()) == 52_058_004
        release = idol().build()
        assert count(release) == 43_065_787 and sum(release.released_extras().values()) == 795_672
        full = refinevis().build()
        assert full.tar is not None and count(full.tar) == 789_760 and count(full.association_head) == 197_376
        assert count(full) == count(full.frame_model) + 789_760 + 197_376
        assert count(refinevis_condinst().build()) == 43_065_787 + 789_760
        assert count(refinevis_mask2former().build()) > 44_000_000


@pytest.mark.parametrize("scale", ["small", "tiny"])
@pytest.mark.parametrize("preset", [refinevis, refinevis_mask2former, refinevis_condinst, idol])
def test_presets(preset: Callable, scale: str) -> None:
    with torch.device("meta"):
        model = preset(scale).build()
    assert (model.tar is None) == (preset is idol)
    assert count(model) < 40_000_000 if scale == "small" else count(model) < 6_000_000


def test_the_largest_model() -> None:
    model = refinevis_swin_large().frame_model
    assert (model.num_levels, model.decoder.num_layers) == (5, 9)


@pytest.mark.parametrize("window", [1, 4, 10])
def test_cost_of_refinement_is_what_is_computed(window: int) -> None:
    layer, config = TAR.build(16), TAR
    cost = refinement_cost(replace(config, window=window), 16)
    memory = torch.rand(1, window - 1, 16), torch.arange(window - 1)[None], torch.zeros(1, window - 1, dtype=torch.bool)
    calls = {
        cost.total: lambda: layer(torch.rand(1, window, 16), torch.arange(window)),
        refinement_cost(replace(config, window=window), 16, online=True).total: lambda: layer.refine_current(
            torch.rand(1, 16), window, *memory
        ),
    }
    for expected, call in calls.items():
        kernel = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
        with kernel, FlopCounterMode(display=False) as found:
            call()
        assert found.get_total_flops() // 2 == expected


def test_the_printed_cost() -> None:
    offline = refinement_cost(TARConfig(), 256)
    assert offline.attention == 2_672_640 and offline.total == 7_915_520
    assert refinement_cost(TARConfig(), 256, online=True).total == 1_971_200
    assert refinement_cost(TARConfig(feed_forward_channels=2048), 256, online=True).total == 2_495_488
    assert refinement_cost(TARConfig(window=0), 256).total == 0


def test_user_mistakes() -> None:
    with pytest.raises(UserError, match="denoising is set, expected None: the decoder of DynamicMaskDETRConfig"):
        replace(ON_DYNAMIC, denoising=DenoisingConfig()).build()
    with pytest.raises(UserError, match="first_frames is 0"):
        replace(REFINEVIS, first_frames=0).build()


@torch.no_grad()
def test_weights_of_models_of_clips_start_a_frame_level_model() -> None:
    """All that the two have in common; what RefineVIS adds has no start."""
    sources = {"seqformer": seqformer("tiny"), "mask2former": mask2former_vis("tiny")}
    cases = {
        "seqformer": (refinevis_condinst, ("association_head.", "tar.")),
        "mask2former": (refinevis_mask2former, ("association_head.", "tar.")),
    }
    for name, (preset, fresh) in cases.items():
        state, model = sources[name].build().state_dict(), preset("tiny").build()
        own, adapted = model.state_dict(), model.adapt_weights(state)
        missing = {key for key in own if key not in adapted or adapted[key].shape != own[key].shape}
        assert missing == {key for key in own if key.startswith(fresh)}
        assert model.adapt_weights(own) is own or model.adapt_weights(own) == own


@torch.no_grad()
def test_maskdino_counts_the_levels_of_its_decoder_from_the_coarsest() -> None:
    state, model = seqformer("tiny").build().state_dict(), refinevis("tiny").build()
    for name in ("sampling_offsets", "attention_weights"):
        key = f"decoder.layers.1.cross_attention.{name}.bias"
        numbers = torch.arange(len(state[key]), dtype=torch.float32)
        state[key] = numbers
        found = model.adapt_weights(state)[f"frame_model.{key}"]
        levels = numbers.unflatten(0, (4, 3, -1)), found.unflatten(0, (4, 3, -1))
        assert found.shape == model.state_dict()[f"frame_model.{key}"].shape
        assert levels[0][:, 0].equal(levels[1][:, 2]) and levels[0][:, 1].equal(levels[1][:, 1])
    adapted = model.adapt_weights(state)
    assert adapted["frame_model.pixel_decoder.level_embed"] is state["level_embed"]
