"""An evaluation that is cut off goes on with the next video, and gives what an undisturbed one gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_fakes import FakeModel, FakeVideos

from vislab.data import DatasetConfig
from vislab.engine.config import EvalConfig
from vislab.engine.evaluate import evaluate_model
from vislab.engine.predicted_videos import Beginning, PredictedVideo, PredictedVideos, made_from
from vislab.engine.progress import Silent

SOURCE = {"weights": "a", "data": "b", "code": "c"}


class CutOff(Exception):
    pass


class Videos(FakeVideos):
    """Notes whose frames are read; breaks off at one video, if asked to."""

    def __init__(self, breaks_at: int | None = None) -> None:
        super().__init__(4)
        self.breaks_at, self.read = breaks_at, []

    def frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        if index == self.breaks_at:
            raise CutOff
        self.read.append(index)
        return super().frames(index, frame_indices)


class Steps(Silent):
    def __init__(self) -> None:
        self.updates: list[tuple[int, int]] = []

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        self.updates.append((step, total))


def evaluated(folder: Path, videos: Videos, watcher: Silent | None = None, seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    arguments = {"folder": folder, "device": torch.device("cpu"), "watcher": watcher or Silent()}
    return evaluate_model(FakeModel(), videos, EvalConfig(DatasetConfig("fake")), **arguments)  # type: ignore[arg-type]


def test_a_cut_evaluation_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    whole, cut, steps = tmp_path / "whole", tmp_path / "cut", Steps()
    whole.mkdir(), cut.mkdir()
    expected = evaluated(whole, Videos())
    with pytest.raises(CutOff):
        evaluated(cut, Videos(breaks_at=2))
    again = Videos()
    found = evaluated(cut, again, steps)
    assert again.read == [2, 3] and steps.updates == [(3, 4), (4, 4)]
    assert (cut / "predictions.json").read_bytes() == (whole / "predictions.json").read_bytes()
    for name in ("metrics", "n_videos", "n_frames"):
        assert found[name] == expected[name]
    assert found["eval_seconds"] >= found["infer_seconds"] >= found["read_seconds"] > 0
    assert sorted(path.name for path in cut.iterdir()) == ["matches.npz", "predictions.json"], "nothing half is left"


def test_cut_twice_and_in_the_middle_of_a_line(tmp_path: Path) -> None:
    for breaks_at in (1, 3):
        with pytest.raises(CutOff):
            evaluated(tmp_path, Videos(breaks_at))
    second = tmp_path / "predicted-2-0.jsonl"
    lines = second.read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines[1:]] == [1, 2]
    second.write_text("\n".join([*lines[:2], lines[2][:-5]]))
    again = Videos()
    evaluated(tmp_path, again)
    assert again.read == [2, 3]


def test_a_beginning_that_predicted_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CutOff):
        evaluated(tmp_path, Videos(breaks_at=0))
    (tmp_path / "predicted-7-0.jsonl").write_text("")
    assert PredictedVideos(tmp_path, SOURCE).begin() == Beginning(1, frozenset(), 0.0)
    assert not list(tmp_path.iterdir())


def test_other_weights_data_or_code_start_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CutOff):
        evaluated(tmp_path, Videos(breaks_at=3), seed=0)
    again = Videos()
    evaluated(tmp_path, again, seed=1)
    assert again.read == [0, 1, 2, 3]
    torch.manual_seed(0)
    model, videos = FakeModel(), Videos()
    source = made_from(model, videos)  # type: ignore[arg-type]
    assert source == made_from(model, videos)  # type: ignore[arg-type]
    monkeypatch.setattr(Videos, "fingerprint", lambda self: "other")
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    changed = made_from(model, videos)  # type: ignore[arg-type]
    assert [name for name in source if source[name] != changed[name]] == ["weights", "data"]


def test_weights_of_any_type_are_told_apart() -> None:
    model = torch.nn.Module()
    model.register_buffer("count", torch.tensor(3))
    model.register_buffer("brain", torch.ones(2, dtype=torch.bfloat16))
    first = made_from(model, FakeVideos())["weights"]  # type: ignore[arg-type]
    model.brain = -model.brain  # type: ignore[operator]
    assert made_from(model, FakeVideos())["weights"] != first  # type: ignore[arg-type]


def test_processes_work_beside_each_other_beginnings_after_each_other(tmp_path: Path) -> None:
    predicted = PredictedVideos(tmp_path, SOURCE)
    beginning = predicted.begin()
    for rank, seconds in ((0, (1.0, 2.0)), (1, (5.0,))):
        with predicted.writer(beginning, rank) as add:
            for number, each in enumerate(seconds):
                add(PredictedVideo(10 * rank + number, [{"score": 0.1}], each, 0.5, 7))
    again = predicted.begin()
    assert again == Beginning(2, frozenset({0, 1, 10}), 5.0)
    with predicted.writer(again, 0) as add:
        add(PredictedVideo(2, [], 3.0, 0.0, 7))
    assert predicted.begin() == Beginning(3, frozenset({0, 1, 2, 10}), 8.0)
    assert [(video.index, video.seconds) for video in predicted.read()] == [(0, 1.0), (1, 2.0), (2, 3.0), (10, 5.0)]
    assert predicted.read()[0].results == [{"score": 0.1}]
    predicted.delete()
    assert not list(tmp_path.iterdir())
