"""Frames in, frames with instances out: what an evaluation gets, in bounded memory, with identities that stay."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from engine_fakes import FakeModel
from frame_oracle import FrameOracle
from oracle import Marked, Oracle
from torch import nn

from vislab.data import DatasetConfig, load_dataset
from vislab.data.frame_source import dataset_video
from vislab.engine.config import EvalConfig
from vislab.engine.infer import predict_video, results_of
from vislab.engine.predict import VideoPredictor, clips_of, shown_evaluation
from vislab.errors import UserError
from vislab.models.presets import build_model
from vislab.rle import decode_checked
from vislab.stitching import ClipInferenceConfig, ClipTrackingConfig
from vislab.stitching.augmentation import TestTimeAugmentationConfig as AugmentationConfig
from vislab.stitching.video_stream import StreamConfig

CPU = torch.device("cpu")
LONG = DatasetConfig("synthetic-ovis", 1, height=72, width=128, length=43, num_categories=8)
FRAMES = np.random.default_rng(0).integers(0, 256, (11, 40, 60, 3), np.uint8)
CLIPS, TRACKED = ClipInferenceConfig(4, 3), ClipInferenceConfig(4, 2, ClipTrackingConfig())
ONLINE, OFFLINE = StreamConfig(), StreamConfig(mode="offline", window=3)


def config(**more: Any) -> EvalConfig:
    return EvalConfig(DatasetConfig("fake"), **more)


def eager(name: str) -> nn.Module:
    """An untrained model that sees something in every frame."""
    torch.manual_seed(0)
    model = build_model(name, "smoke")
    for key, parameter in model.named_parameters():
        if "class_head" in key and key.endswith("bias"):
            nn.init.zeros_(parameter)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "evaluation"),
    [
        ("seqformer", config(clips=CLIPS, short_side=32)),
        ("seqformer", config(clips=TRACKED, short_side=32)),
        ("seqformer", config()),
        ("refinevis", config(stream=ONLINE, top_k=30)),
        ("refinevis", config(stream=OFFLINE, top_k=30)),
    ],
    ids=["clips", "tracked clips", "whole", "online", "offline"],
)
@pytest.mark.parametrize("count", [2, 11])
def test_the_instances_are_those_of_an_evaluation(name: str, evaluation: EvalConfig, count: int) -> None:
    model, frames = eager(name), FRAMES[:count]
    predictor = VideoPredictor(model, evaluation, 5, CPU, keep_tracks=True)
    followed = list(predictor.follow(iter(frames)))
    wanted = predict_video(model, frames, evaluation, 5, CPU)
    assert predictor.instances() == wanted and len(wanted) > 1
    np.testing.assert_array_equal(np.stack([pixels for pixels, _ in followed]), frames)
    assert [result.frame for _, result in followed] == list(range(count))
    codes = {code["counts"] for instance in wanted for code in instance.segmentations if code is not None}
    shown = {i.segmentation["counts"] for _, result in followed for i in result.instances if i.segmentation}
    assert codes <= shown


@pytest.mark.parametrize("kind", ["frame scores", "clip scores", "online", "offline"])
def test_each_object_of_a_crowd_is_one_identity(kind: str) -> None:
    """Perfect predictions, in an order that changes, over many clips."""
    marked = Marked(load_dataset(LONG, "valid"))
    if kind in ("online", "offline"):
        model: nn.Module = FrameOracle(marked)
        evaluation = config(stream=StreamConfig(mode=kind))  # type: ignore[arg-type]
    else:
        model = Oracle(marked, by_frame=kind == "frame scores")
        evaluation = config(clips=ClipInferenceConfig())
    predictor = VideoPredictor(model, evaluation, 8, CPU)
    truth = marked.annotations(0, range(43))
    found: dict[int, set[int]] = {int(track): set() for track in truth.track_ids}
    for _, result in predictor.follow(dataset_video(marked, 0).read()):
        for instance in result.instances:
            if instance.segmentation is None or instance.score < 0.5:
                continue
            mask = decode_checked(instance.segmentation)
            (row,) = [n for n in range(len(truth.labels)) if (truth.masks[n, result.frame] == mask).all()]
            assert instance.label == truth.labels[row]
            found[int(truth.track_ids[row])].add(instance.track_id)
    assert all(len(tracks) == 1 for tracks in found.values()) and len(set.union(*found.values())) == len(found) == 4


class Camera:
    """Frames without an end; knows how many of them somebody holds."""

    def __init__(self) -> None:
        self.given: list[weakref.ref[np.ndarray]] = []
        self.most_held = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        while True:
            frame = rng.integers(0, 256, (16, 24, 3), np.uint8)
            self.given.append(weakref.ref(frame))
            self.most_held = max(self.most_held, sum(reference() is not None for reference in self.given))
            yield frame
            del frame


@pytest.mark.parametrize(
    ("evaluation", "bound"),
    [
        (config(clips=CLIPS), 4 + 3),
        (config(clips=TRACKED), 4 + 2),
        (config(clips=ClipInferenceConfig(1, 1)), 2),
        (config(), 24 + 16),
        (config(stream=ONLINE), 2 * 8),
        (config(stream=OFFLINE), 2 * 8 + 3),
    ],
)
def test_few_frames_are_held_however_long_the_video(evaluation: EvalConfig, bound: int) -> None:
    camera = Camera()
    model = eager("idol") if evaluation.stream else FakeModel()
    shown = VideoPredictor(model, evaluation, 2, CPU).follow(camera)
    for number in range(50):
        assert next(shown)[1].frame == number
        assert len(camera.given) <= number + bound
    assert camera.most_held <= bound


def test_nothing_comes_of_nothing() -> None:
    clips = [(config(clips=clips), FakeModel()) for clips in (CLIPS, TRACKED)]
    for evaluation, model in (*clips, (config(stream=ONLINE), eager("idol"))):
        predictor = VideoPredictor(model, evaluation, 2, CPU, keep_tracks=True)
        assert list(predictor.follow([])) == [] and predictor.instances() == []


class Fixed(FakeModel):
    clip_length = 6


def test_clips_are_those_of_the_evaluation_or_what_fits_the_model() -> None:
    def sizes(evaluation: EvalConfig, model: nn.Module, *wanted: int | None) -> tuple[int, int]:
        clips = clips_of(evaluation, model, *wanted)
        return clips.clip_length, clips.clip_stride

    whole = config()
    assert sizes(config(clips=CLIPS), FakeModel()) == (4, 3)
    assert sizes(whole, FakeModel()) == (24, 16) and sizes(whole, Fixed()) == (6, 4)
    assert sizes(replace(whole, data=DatasetConfig("synthetic-ovis", length=12)), FakeModel()) == (12, 8)
    assert sizes(config(augmentation=AugmentationConfig((32, 64))), FakeModel(), 9) == (9, 6)
    assert sizes(config(clips=CLIPS), FakeModel(), None, 2) == (4, 2)
    assert sizes(config(clips=CLIPS), FakeModel(), 7, 7) == (7, 7) and sizes(whole, FakeModel(), 1) == (1, 1)
    for length, stride, message in (
        (8, None, "clip_length is 8, expected 6"),
        (6, 7, "clip_stride is 7, expected 1 to"),
    ):
        with pytest.raises(UserError, match=message):
            clips_of(whole, Fixed(), length, stride)
    with pytest.raises(UserError, match="evaluation.clips.clip_length is 0, expected 1 or more"):
        clips_of(whole, FakeModel(), 0)
    with pytest.raises(UserError, match="RefineVIS predicts single frames, expected no length or stride of clips"):
        VideoPredictor(eager("idol"), config(stream=ONLINE), 2, CPU, clip_stride=2)


def test_the_evaluation_with_other_sizes() -> None:
    evaluation = config(short_side=360, max_side=640)
    assert shown_evaluation(evaluation, None, None) == shown_evaluation(evaluation, None, 3) == evaluation
    changed = shown_evaluation(evaluation, 480, 50)
    assert (changed.short_side, changed.max_side, changed.top_k) == (480, None, 50)
    with pytest.raises(UserError, match="--size is 0"):
        shown_evaluation(evaluation, 0, None)


def test_results_name_categories_and_video() -> None:
    dataset = load_dataset(replace(LONG, length=2), "valid")
    instances = predict_video(FakeModel(), FRAMES[:2], config(top_k=1), 2, CPU)
    (entry,) = results_of(instances, dataset.categories, 17)
    assert entry["video_id"] == 17 and entry["category_id"] == dataset.categories[instances[0].label].id
    assert len(entry["segmentations"]) == 2
