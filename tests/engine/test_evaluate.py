from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_fakes import FakeModel, FakeVideos

from vislab.data import DatasetConfig
from vislab.engine.config import EvalConfig
from vislab.engine.evaluate import evaluate_model, measure
from vislab.engine.progress import Silent
from vislab.errors import UserError
from vislab.metrics.inputs import read_ground_truth
from vislab.metrics.matches import Matches

CONFIG = EvalConfig(DatasetConfig("fake"))


def perfect(truth: dict) -> list[dict]:
    keys = ("video_id", "category_id", "segmentations")
    return [{key: annotation[key] for key in keys} | {"score": 0.9} for annotation in truth["annotations"]]


def test_the_ground_truth_as_predictions_scores_one(tmp_path: Path) -> None:
    truth = FakeVideos().ground_truth()
    found = measure(read_ground_truth(truth), perfect(truth), tmp_path)
    assert found["metrics"]["AP"] == found["metrics"]["AR1"] == 1.0
    assert found["metrics"]["APl"] is None  # no object is that large
    assert found["visibility_iou"] is None and not (tmp_path / "visibility.npz").exists()
    assert Matches.load(tmp_path / "matches.npz").summary()["AP"] == 1.0


def test_opacities_split_the_mask_iou(tmp_path: Path) -> None:
    truth = FakeVideos(2).ground_truth()
    for annotation in truth["annotations"]:
        annotation["opacities"] = [None if code is None else 1.0 for code in annotation["segmentations"]]
    found = measure(read_ground_truth(truth), perfect(truth), tmp_path)
    assert list(found["visibility_iou"].values()) == [1.0, None, None]
    with np.load(tmp_path / "visibility.npz") as stored:
        assert stored["video_ids"].tolist() == [10, 11]
        assert np.array_equal(stored["iou_sums"], stored["frame_counts"])


def test_an_untrained_model_is_measured_and_its_predictions_are_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    arguments = {"folder": tmp_path, "device": torch.device("cpu"), "watcher": Silent()}
    found = evaluate_model(FakeModel(), FakeVideos(), CONFIG, **arguments)  # type: ignore[arg-type]
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert found["n_videos"] == 3 and {entry["video_id"] for entry in predictions} <= {10, 11, 12}
    assert 0 <= found["infer_seconds"] <= found["eval_seconds"] and found["peak_memory_bytes"] > 2**20
    again = measure(read_ground_truth(FakeVideos().ground_truth()), predictions, tmp_path)
    assert again["metrics"] == found["metrics"]


def test_data_without_labels_is_refused_before_any_work(tmp_path: Path) -> None:
    class Unlabelled(FakeVideos):
        def ground_truth(self) -> dict:
            return super().ground_truth() | {"annotations": None}

        def frames(self, *arguments) -> np.ndarray:  # type: ignore[no-untyped-def]
            raise AssertionError

    arguments = {"folder": tmp_path, "device": torch.device("cpu"), "watcher": Silent()}
    with pytest.raises(UserError, match="fake: annotations is null"):
        evaluate_model(FakeModel(), Unlabelled(), CONFIG, **arguments)  # type: ignore[arg-type]
