"""The ground truth of real and synthetic data, fed back as predictions, is worth an AP of 1.

Exactly 1 up to the last digits of float64: the published evaluator adds 2^-52 to the denominator of a precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vislab.data import DatasetConfig, Split, VideoDataset, load_dataset
from vislab.engine.evaluate import measure
from vislab.metrics.inputs import read_ground_truth

SYNTHETIC = [
    "synthetic-ytvis19",
    "synthetic-ytvis21+leave=1",
    "synthetic-ovis",
    "synthetic-ovis+occlusion=1+lookalike=1",
    "synthetic-ytvis19+faint=0.1",
    "synthetic-coco",
]


def measured(dataset: VideoDataset, folder: Path) -> dict[str, Any]:
    truth = dataset.ground_truth()
    keys = ("video_id", "category_id", "segmentations")
    predictions = [{key: entry[key] for key in keys} | {"score": 0.5} for entry in truth["annotations"]]
    return measure(read_ground_truth(truth), predictions, folder)


def assert_perfect(found: dict[str, Any]) -> None:
    metrics = found["metrics"]
    assert [metrics[name] for name in ("AP", "AP50", "AP75", "AR10", "AR100")] == pytest.approx([1.0] * 5, abs=1e-14)
    sizes = [metrics[name] for name in ("APs", "APm", "APl", "ARs", "ARm", "ARl") if metrics[name] is not None]
    assert sizes and sizes == pytest.approx([1.0] * len(sizes), abs=1e-14)
    assert 0 < metrics["AR1"] <= 1  # one guess per video and category does not reach two of a kind


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("name", SYNTHETIC)
def test_synthetic(name: str, split: Split, tmp_path: Path) -> None:
    length = None if "coco" in name else 4
    dataset = load_dataset(DatasetConfig(name, 6, height=36, width=52, length=length, num_categories=8), split)
    found = measured(dataset, tmp_path)
    assert_perfect(found)
    assert set(found["visibility_iou"].values()) <= {1.0, None} and 1.0 in found["visibility_iou"].values()


def test_a_wrong_label_or_a_missing_instance_is_noticed(tmp_path: Path) -> None:
    """That the perfect score is not the only one which these data can give."""
    dataset = load_dataset(DatasetConfig("synthetic-ovis", 6, height=36, width=52, length=4, num_categories=8), "valid")
    truth = dataset.ground_truth()
    keys = ("video_id", "category_id", "segmentations")
    predictions = [{key: entry[key] for key in keys} | {"score": 0.5} for entry in truth["annotations"]]
    predictions[0]["category_id"] = predictions[0]["category_id"] % 8 + 1
    assert measure(read_ground_truth(truth), predictions, tmp_path)["metrics"]["AP"] < 0.999
    predictions[0]["segmentations"] = [None] * 4
    assert measure(read_ground_truth(truth), predictions, tmp_path)["metrics"]["AP"] < 0.999


@pytest.mark.parametrize("split", ["train", "valid"])
def test_real_videos(real_data: Path, split: Split, tmp_path: Path) -> None:
    dataset = load_dataset(DatasetConfig(str(real_data / "real-mini")), split)
    assert len(dataset) == 6
    found = measured(dataset, tmp_path)
    assert_perfect(found)
    assert found["visibility_iou"] is None  # real objects have no opacities
