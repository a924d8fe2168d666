from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_fakes import FakeModel, FakeVideos

from vislab.data import DatasetConfig
from vislab.engine import evaluate
from vislab.engine.config import EvalConfig
from vislab.engine.evaluate import Untracked, add_tracking, evaluate_model, measure
from vislab.engine.progress import Silent
from vislab.errors import UserError
from vislab.metrics.frame_overlap import DEFAULT_RULES
from vislab.metrics.hota import hota_instances
from vislab.metrics.inputs import read_ground_truth, read_results
from vislab.metrics.matches import Matches
from vislab.metrics.mot import mot_instances
from vislab.records import write_json
from vislab.rle import encode

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


def test_stills_have_the_sizes_of_coco(tmp_path: Path) -> None:
    """A mask of 40 x 40 pixels is small in a video."""
    segment = encode(np.ones((40, 40), bool))
    for length, defined in ((1, "APm"), (2, "APs")):
        truth = {
            "videos": [{"id": 1, "width": 40, "height": 40, "length": length}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0}
                | {"segmentations": [segment] * length, "areas": [1600] * length}
            ],
        }
        found = measure(read_ground_truth(truth), perfect(truth), tmp_path)["metrics"]
        assert [name for name in ("APs", "APm", "APl") if found[name] is not None] == [defined]


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
    assert 0 <= found["read_seconds"] <= found["infer_seconds"] <= found["eval_seconds"]
    assert found["n_frames"] == 4 + 5 + 6 and found["peak_memory_bytes"] > 2**20
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


class Steps:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, int, int]] = []

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        self.updates.append((stage, step, total))

    def notice(self, text: str) -> None:
        raise AssertionError(text)


def switching(truth: dict) -> list[dict]:
    """As the ground truth, but the two objects of the first video change places after its first frame."""
    found = perfect(truth)
    first, second = (entry["segmentations"] for entry in found[:2])
    found[0]["segmentations"], found[1]["segmentations"] = first[:1] + second[1:], second[:1] + first[1:]
    return found


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Untracked:
    monkeypatch.setattr(evaluate, "load_dataset", lambda config, split: FakeVideos())
    folder = tmp_path / "train0" / "eval" / "eval0"
    write_json(folder / "predictions.json", switching(FakeVideos().ground_truth()))
    write_json(folder / "result.json", {"data_fingerprint": FakeVideos().fingerprint()})
    return Untracked(CONFIG, folder, ("mot", "hota"))


def test_tracking_is_measured_from_what_lies_in_the_folder(finished: Untracked) -> None:
    steps = Steps()
    assert add_tracking([finished], steps) == {}
    assert steps.updates[-1] == ("tracking", 1, 1) and steps.updates[0][1] == 0
    truth = read_ground_truth(FakeVideos().ground_truth())
    detections = read_results(switching(FakeVideos().ground_truth()), truth)
    for name, expected in (("mot", mot_instances(truth, detections)), ("hota", hota_instances(truth, detections))):
        with np.load(finished.folder / f"{name}.npz", allow_pickle=False) as stored:
            assert {*stored.files} == {field.name for field in fields(expected)} | {*DEFAULT_RULES}
            assert all(np.array_equal(stored[field.name], getattr(expected, field.name)) for field in fields(expected))
    with np.load(finished.folder / "mot.npz", allow_pickle=False) as stored:
        assert stored["switches"].tolist() == [2, 0, 0]


def test_only_the_wanted_family_is_written(finished: Untracked) -> None:
    add_tracking([Untracked(CONFIG, finished.folder, ("hota",))], Steps())
    assert (finished.folder / "hota.npz").exists() and not (finished.folder / "mot.npz").exists()


def test_without_predictions_there_is_a_reason_and_no_ground_truth_is_made(
    finished: Untracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeVideos, "ground_truth", lambda self: pytest.fail("made for nothing"))
    (finished.folder / "predictions.json").unlink()
    steps = Steps()
    reason = add_tracking([finished], steps)[finished.folder]
    assert reason.startswith("train0/eval/eval0/predictions.json is gone") and steps.updates[-1][1:] == (1, 1)
    assert not list(finished.folder.glob("*.npz"))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("result.json", {"data_fingerprint": "0123"}, "train0/eval/eval0 was measured on data with fingerprint 0123"),
        ("predictions.json", [{"video_id": 10}], "train0/eval/eval0/predictions.json: [0].score is missing"),
    ],
)
def test_other_data_and_broken_predictions_are_refused(
    finished: Untracked, name: str, content: object, sentence: str
) -> None:
    """Reasons stand in reports, so they do not say where the run store is."""
    write_json(finished.folder / name, content)
    reason = add_tracking([finished], Steps())[finished.folder]
    assert reason.startswith(sentence) and str(finished.folder.parents[2]) not in reason


def test_ground_truth_is_made_once_for_all_runs_on_it(finished: Untracked, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    truth = FakeVideos().ground_truth()
    monkeypatch.setattr(FakeVideos, "ground_truth", lambda self: made.append(self) or truth)
    other = finished.folder.with_name("eval1")
    for name in ("predictions.json", "result.json"):
        write_json(other / name, json.loads((finished.folder / name).read_text()))
    assert add_tracking([finished, Untracked(CONFIG, other, ("mot",))], Steps()) == {}
    assert len(made) == 1 and (other / "mot.npz").read_bytes() == (finished.folder / "mot.npz").read_bytes()
