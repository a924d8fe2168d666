"""Inference by clips through the whole engine: perfect clips give perfect videos, one clip is the whole video."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_fakes import FakeModel, FakeVideos, predict_all
from oracle import Marked, Oracle
from torch import Tensor, nn

import vislab
from vislab.config import digest, digest_of, from_dict, to_dict
from vislab.data import DatasetConfig, VideoDataset, load_dataset
from vislab.engine.clip_inference import clip_detections, clip_instances
from vislab.engine.config import EvalConfig
from vislab.engine.infer import predict_video
from vislab.engine.progress import Silent
from vislab.errors import UserError
from vislab.models.presets import build_model
from vislab.stitching import ClipInferenceConfig, ClipTrackingConfig, StitchingConfig
from vislab.stitching.schedule import ClipWindow
from vislab.structures import ModelOutput

CPU = torch.device("cpu")
LONG = DatasetConfig("synthetic-ovis", 2, height=72, width=128, length=43, num_categories=8)


def config(clips: ClipInferenceConfig | None = None, **more: Any) -> EvalConfig:
    return EvalConfig(DatasetConfig("fake"), clips=clips, **more)


def measured(dataset: VideoDataset, results: list[dict[str, Any]]) -> dict[str, float]:
    """AP, IDF1 and identity switches of all videos."""
    table = vislab.evaluate(dataset.ground_truth(), results, metrics=("ap", "mot"))
    table = table[table["scope"] == "all"].set_index("metric")["value"]
    return {name: float(table[name]) for name in ("AP", "IDF1", "IDs")}


PERFECT = {"AP": pytest.approx(1.0, abs=1e-12), "IDF1": 1.0, "IDs": 0.0}


@pytest.mark.parametrize("by_frame", [True, False])
@pytest.mark.parametrize(("clip_length", "clip_stride"), [(6, 4), (5, 1), (7, 7), (1, 1), (50, 20)])
def test_perfect_clips_of_synthetic_videos(clip_length: int, clip_stride: int, by_frame: bool) -> None:
    marked = Marked(load_dataset(LONG, "valid"))
    model = Oracle(marked, by_frame=by_frame, clip_length=clip_length)
    results = predict_all(model, marked, config(ClipInferenceConfig(clip_length, clip_stride)), Silent())
    assert measured(marked, results) == PERFECT


@pytest.mark.parametrize(("clip_length", "clip_stride"), [(5, 1), (10, 5), (36, 18)])
def test_near_online_linking_by_boxes_and_masks(clip_length: int, clip_stride: int) -> None:
    """TeViT 3.5 on videos that are longer than the clip: no class, no score."""
    linking = StitchingConfig(mask_weight=1.0, class_weight=0.0, score_weight=0.0, box_weight=1.0)
    marked = Marked(load_dataset(LONG, "valid"))
    clips = ClipInferenceConfig(clip_length, clip_stride, linking)
    results = predict_all(Oracle(marked, by_frame=False), marked, config(clips), Silent())
    assert measured(marked, results) == PERFECT


@pytest.mark.parametrize("by_frame", [True, False])
@pytest.mark.parametrize(("clip_length", "clip_stride"), [(6, 4), (5, 1), (12, 7)])
def test_clip_tracking_of_perfect_clips(clip_length: int, clip_stride: int, by_frame: bool) -> None:
    marked = Marked(load_dataset(LONG, "valid"))
    clips = ClipInferenceConfig(clip_length, clip_stride, ClipTrackingConfig())
    results = predict_all(Oracle(marked, by_frame=by_frame), marked, config(clips), Silent())
    assert measured(marked, results) == PERFECT


@pytest.mark.parametrize(
    ("split", "num_videos"),
    [("train", 3), ("valid", 1), *(pytest.param(split, None, marks=pytest.mark.slow) for split in ("train", "valid"))],
)
def test_perfect_clips_of_real_videos(real_data: Path, split: Any, num_videos: int | None) -> None:
    """Among the first ones: schoolgirls, 80 frames of people who cross; surf, where the object leaves."""
    marked = Marked(load_dataset(DatasetConfig(str(real_data / "real-mini"), num_videos), split))
    results = predict_all(Oracle(marked, by_frame=True), marked, config(ClipInferenceConfig()), Silent())
    assert measured(marked, results) == PERFECT


def test_wrong_identities_are_noticed() -> None:
    """That the perfect score is not the only one which these data can give: score cues alone know nobody."""
    marked = Marked(load_dataset(LONG, "valid"))
    stitching = StitchingConfig(mask_weight=0.0, class_weight=0.0)
    clips = config(ClipInferenceConfig(6, 4, stitching))
    results = predict_all(Oracle(marked, by_frame=True), marked, clips, Silent())
    found = measured(marked, results)
    assert found["AP"] < 0.9 and found["IDF1"] < 0.95 and found["IDs"] > 0


@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize("name", ["seqformer", "taformer"])
def test_one_clip_of_the_video_s_length_is_the_whole_video(name: str, num_frames: int) -> None:
    torch.manual_seed(0)
    model = build_model(name, "smoke")
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, 50, 75, 3), np.uint8)
    whole = predict_video(model, frames, config(top_k=20), 5, CPU)
    clips = ClipInferenceConfig(num_frames, 1, StitchingConfig(min_frame_score=0.0, min_track_score=0.0))
    assert predict_video(model, frames, config(clips, top_k=20), 5, CPU) == whole
    assert len(whole) > 5
    tracking = ClipInferenceConfig(num_frames + 1, 1, ClipTrackingConfig())  # takes a shorter video as it is
    assert predict_video(model, frames, config(tracking, top_k=20), 5, CPU) == whole


class Scripted(nn.Module):
    """Frame logits and masks that were given, cut to the clip by the number in each frame's first pixel."""

    mask_stride = 1

    def __init__(self, logits: Tensor, masks: Tensor) -> None:
        super().__init__()
        self.logits, self.masks = logits, masks  # (Q, n, K), (Q, n, H, W)
        self.seen: list[list[int]] = []

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        frames = (images[0, :, 0, 0, 0] * 58.395 + 123.675).round().long()
        self.seen.append(frames.tolist())
        boxes = torch.zeros(1, len(self.logits), len(frames), 4)
        return ModelOutput(self.logits[:, frames][None], boxes, lambda b, q: self.masks[q][:, frames])


def numbered(num_frames: int) -> np.ndarray:
    frames = np.zeros((num_frames, 32, 32, 3), np.uint8)
    frames[:, 0, 0, 0] = range(num_frames)
    return frames


def test_a_video_shorter_than_the_clip_is_reflected_and_judged_by_its_own_frames() -> None:
    logits = torch.tensor([[[-1.0], [0.0], [2.0]], [[1.0], [0.5], [-3.0]]])
    model = Scripted(logits, torch.ones(2, 3, 32, 32))
    found = predict_video(model, numbered(3), config(ClipInferenceConfig(8, 4)), 1, CPU)
    assert model.seen == [[0, 1, 2, 1, 0, 1, 2, 1]]
    means = sorted(logits.sigmoid().mean(1)[:, 0].tolist(), reverse=True)
    assert [instance.score for instance in found] == pytest.approx(means)
    assert all(len(instance.segmentations) == 3 for instance in found)


def test_clip_tracking_reflects_a_short_video_for_models_that_need_it() -> None:
    model = Scripted(torch.zeros(2, 3, 1), torch.ones(2, 3, 32, 32))
    clips = config(ClipInferenceConfig(5, 1, ClipTrackingConfig()))
    predict_video(model, numbered(3), clips, 1, CPU)
    model.clip_length = 5  # type: ignore[assignment]
    found = predict_video(model, numbered(3), clips, 1, CPU)
    assert model.seen == [[0, 1, 2], [0, 1, 2, 1, 0]]
    assert [len(instance.segmentations) for instance in found] == [3, 3]


def test_frames_are_read_clip_by_clip() -> None:
    marked = Marked(load_dataset(replace(LONG, num_videos=1, length=14), "valid"))
    predict_all(Oracle(marked, by_frame=True), marked, config(ClipInferenceConfig(6, 4)), Silent())
    assert marked.reads == [(0, tuple(range(first, first + 6))) for first in (0, 4, 8)]


def test_the_watcher_hears_of_every_clip() -> None:
    heard = []

    class Watching(Silent):
        def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
            heard.append((stage, step, total))

    videos = FakeVideos(2)  # 4 and 5 frames
    predict_all(FakeModel(), videos, config(ClipInferenceConfig(3, 1)), Watching())
    assert heard == [("infer", step, 5) for step in range(1, 6)]
    heard.clear()
    predict_all(FakeModel(), videos, config(), Watching())
    assert heard == [("infer", 1, 2), ("infer", 2, 2)]


def test_a_video_without_frames_has_no_instances() -> None:
    nothing = np.zeros((0, 32, 32, 3), np.uint8)
    for clips in (None, ClipInferenceConfig(), ClipInferenceConfig(stitching=ClipTrackingConfig())):
        assert predict_video(FakeModel(), nothing, config(clips), 2, CPU) == []


@pytest.mark.parametrize(
    ("clips", "words"),
    [
        (None, "evaluation.clips is None, .* 4 frames, expected evaluation.clips.clip_length 6"),
        (ClipInferenceConfig(4, 4), "evaluation.clips.clip_length is 4, expected 6: the model takes clips"),
    ],
)
def test_a_model_of_fixed_clip_length_gets_no_other_clips(clips: ClipInferenceConfig | None, words: str) -> None:
    videos = FakeVideos(2)
    torch.manual_seed(0)  # sees something
    model = FakeModel()
    model.clip_length = 6  # type: ignore[assignment]
    with pytest.raises(UserError, match=words):
        predict_all(model, videos, config(clips), Silent())
    with pytest.raises(UserError, match=words):
        predict_video(model, numbered(4), config(clips), 2, CPU)
    assert predict_video(model, numbered(4), config(ClipInferenceConfig(6, 4)), 2, CPU)
    assert predict_video(model, numbered(6), config(), 2, CPU)  # a whole video that happens to fit


@pytest.mark.parametrize("by_frame", [True, False])
def test_candidates_are_the_best_pairs_of_query_and_class(by_frame: bool) -> None:
    torch.manual_seed(1)
    logits = torch.randn(1, 4, 6, 5) if by_frame else torch.randn(1, 4, 5)
    masks, boxes = torch.randn(4, 6, 2, 2), torch.rand(1, 4, 6, 4)
    output = ModelOutput(logits, boxes, lambda b, q: masks[q])
    found = clip_detections(output, ClipWindow(7, 4, (7, 8, 9, 10, 9, 8)), 9, 3)
    scores = logits[:, :, :4].sigmoid() if by_frame else logits.sigmoid()[:, :, None].expand(-1, -1, 4, -1)
    pairs = sorted(((scores[0, q, :, k].mean().item(), q, k) for q in range(4) for k in range(3)), reverse=True)[:9]
    assert found.frames == range(7, 11) and found.labels.tolist() == [k for _, _, k in pairs]
    for position, (_, query, label) in enumerate(pairs):
        assert found.scores[position].tolist() == pytest.approx(scores[0, query, :, label].tolist())
        assert torch.equal(found.mask_logits[found.mask_index[position]], masks[query, :4])
        assert np.array_equal(found.boxes[position], boxes[0, query, :4].numpy())
    assert len(found.mask_logits) == len({query for _, query, _ in pairs})


@pytest.mark.parametrize("by_frame", [True, False])
def test_instances_of_a_clip_are_its_best_queries_with_all_classes(by_frame: bool) -> None:
    torch.manual_seed(1)
    logits = torch.randn(1, 7, 6, 5) if by_frame else torch.randn(1, 7, 5)
    masks, boxes = torch.randn(7, 6, 2, 2), torch.rand(1, 7, 6, 4)
    output = ModelOutput(logits, boxes, lambda b, q: masks[q])
    found = clip_instances(output, ClipWindow(7, 4, (7, 8, 9, 10, 9, 8)), 3, 4)
    scores = logits[0, :, :4, :4].sigmoid().mean(1) if by_frame else logits[0, :, :4].sigmoid()
    best = sorted(range(7), key=lambda query: -scores[query].max().item())[:3]
    assert (found.first, found.end) == (7, 11)
    np.testing.assert_allclose(found.class_scores, scores[best].numpy(), rtol=1e-6)
    assert torch.equal(found.mask_logits, masks[best, :4])


def test_scores_that_are_no_numbers_are_not_the_best() -> None:
    logits = torch.tensor([[[np.nan], [np.nan]], [[1.0], [1.0]]])
    model = Scripted(logits.expand(-1, -1, 1).repeat(1, 5, 1), torch.ones(2, 10, 32, 32))
    found = predict_video(model, numbered(10), config(ClipInferenceConfig(), top_k=1), 1, CPU)
    assert [instance.score for instance in found] == [pytest.approx(1 / (1 + np.exp(-1.0)))]


def test_clips_are_part_of_the_key_and_their_absence_leaves_old_keys_alone() -> None:
    whole = to_dict(config())
    assert [whole.pop(name) for name in ("clips", "augmentation", "stream")] == [None] * 3
    assert digest(config()) == digest_of(whole)
    tracking = ClipInferenceConfig(stitching=ClipTrackingConfig())
    settings = (ClipInferenceConfig(), ClipInferenceConfig(clip_stride=3), tracking)
    keys = {digest(config(clips)) for clips in (None, *settings)}
    assert len(keys) == 4
    for clips in settings:
        assert from_dict(ClipInferenceConfig, to_dict(clips)) == clips
    assert digest(ClipInferenceConfig()) == "c9acac3e54816b1c"  # of results that are there


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("size", [(96, 160), pytest.param((360, 640), marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["fake", "tracked"])
def test_memory_is_bounded_by_the_clip_not_by_the_video(kind: str, size: tuple[int, int]) -> None:
    """300 frames of synthetic-ovis, ten instances in each clip, a model that needs next to nothing.

    In a process of its own, whose peak nothing else has raised.
    """
    script = Path(__file__).with_name("clip_memory.py")
    command = [sys.executable, str(script), kind, *map(str, size), "60", "300"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    short, long = map(json.loads, lines)
    assert long["instances"] == short["instances"] == 10
    assert long["peak_bytes"] < 2**31
    assert long["peak_bytes"] - short["peak_bytes"] < 2**26
