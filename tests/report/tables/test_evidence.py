"""What the store knows: real matches on disk, failures, remembered replicates."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vislab.metrics.frame_overlap import DEFAULT_RULES, SCORE_THRESHOLD
from vislab.metrics.hota import HotaCounts
from vislab.metrics.matches import Matches
from vislab.metrics.mot import MotCounts
from vislab.metrics.statistics import bootstrap, video_draws
from vislab.metrics.video_ap import match
from vislab.records import RunStore, read_json, write_json
from vislab.report.tables.evidence import fill_run_numbers, gather, joined, run_devices, tracking_counts
from vislab.report.tables.frames import Evaluation, Evidence, ReportRow, ReportTable, Source, table_frame


def matches(seed: int) -> Matches:
    """Ten videos of two frames with one object each, found exactly with a random score, or missed."""
    rng = np.random.default_rng(seed)
    square = {"size": [4, 4], "counts": [0, 8, 8]}
    other = {"size": [4, 4], "counts": [8, 8]}
    videos = [{"id": i, "width": 4, "height": 4, "length": 2} for i in range(10)]
    truth = [
        {"id": i, "video_id": i, "category_id": 1, "iscrowd": 0, "segmentations": [square] * 2, "areas": [8, 8]}
        for i in range(10)
    ]
    found = [
        {"video_id": i, "category_id": 1, "score": float(rng.random()), "segmentations": [mask] * 2}
        for i in range(10)
        for mask in ([square] if rng.random() < 0.6 else [other])
    ]
    return match({"videos": videos, "categories": [{"id": 1, "name": "x"}], "annotations": truth}, found)


def finish(store: RunStore, seed: int) -> tuple[str, str]:
    keys = (f"train{seed}", f"eval{seed}")
    folder = store.eval_dir(*keys)
    record = {
        "train_key": keys[0], "eval_key": keys[1], "seed": seed, "train_seconds": 120.0, "eval_seconds": 30.0,
        "peak_memory_bytes": 2**30,
    }  # fmt: skip
    write_json(folder / "result.json", record)
    matches(seed).save(folder / "matches.npz")
    return keys


def test_finished_seeds_failures_and_missing_ones(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    keys = [finish(store, 0), finish(store, 1), ("train2", "eval2"), ("train3", "eval3")]
    write_json(store.eval_dir("train2", "eval2") / "failure.json", {"error": "no memory"})
    write_json(store.eval_dir("train1", "eval1") / "failure.json", {"error": "an earlier attempt"})
    found = gather(store, keys, ("params_M", "AP", "AP50", "AR10"))
    assert [evaluation.seed for evaluation in found.evaluations] == [0, 1]
    assert found.failures == ("no memory",)
    first = found.evaluations[0]
    assert set(first.sources) == {"AP", "AP50", "AR10"}
    costs = {"train_minutes": 2.0, "eval_minutes": 0.5, "peak_memory_GiB": 1.0, "training_gpu_hours": 1 / 30}
    assert first.costs == pytest.approx(costs)
    assert gather(store, [("a", "b")], ("AP",)).status == "not-run"


def test_numbers_of_runs_are_means_without_an_interval(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    keys = [finish(store, 0), finish(store, 1)]
    other = read_json(store.eval_dir(*keys[1]) / "result.json")
    write_json(store.eval_dir(*keys[1]) / "result.json", other | {"train_seconds": 240.0})
    rows = (ReportRow(0, "a", True, {"training_gpu_hours": 48}), ReportRow(1, "b", True), ReportRow(2, "c", False))
    table = ReportTable("p", "T1", "tiny", ("AP", "training_gpu_hours"), rows, ("clean",))
    known = {(0, "clean"): gather(store, keys, ("AP", "training_gpu_hours"))}
    plain = table_frame(table, known)
    filled = fill_run_numbers(plain, known)
    cells = filled[filled["metric"] == "training_gpu_hours"].set_index("row")
    assert cells.loc[0, ["measured", "std", "n"]].tolist() == pytest.approx([0.05, np.sqrt(2) / 60, 2], abs=1e-4)
    assert cells.loc[0, "train_key"] == "train0 train1" and cells.loc[0, "eval_key"] == "eval0 eval1"
    assert cells[["ci_low", "ci_high"]].isna().all(axis=None) and cells["measured"].isna().tolist() == [
        False,
        True,
        True,
    ]
    assert cells["status"].tolist() == ["measured", "not-run", "reported-only"]
    rest = filled[filled["metric"] != "training_gpu_hours"]
    pd.testing.assert_frame_equal(rest, plain[plain["metric"] != "training_gpu_hours"])


def test_frames_per_second_leave_out_reading(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    keys = [finish(store, 0), finish(store, 1)]
    path = store.eval_dir(*keys[0]) / "result.json"
    write_json(path, read_json(path) | {"n_frames": 40, "infer_seconds": 3.0, "read_seconds": 1.0})
    first, second = gather(store, keys, ("AP",)).evaluations
    assert first.costs["FPS"] == 20.0 and "FPS" not in second.costs
    table = ReportTable("p", "T6", "tiny", ("FPS",), (ReportRow(0, "a", True, {"FPS": 22.3}),), ("clean",))
    known = {(0, "clean"): gather(store, keys[:1], ())}
    filled = fill_run_numbers(table_frame(table, known), known)
    assert filled.loc[filled["metric"] == "FPS", ["reported", "measured"]].values.tolist() == [[22.3, 20.0]]


def test_evaluations_that_fill_different_columns_are_one_row() -> None:
    def part(eval_key: str, seeds: tuple[int, ...], costs: dict[str, float]) -> Evidence:
        sources = {"AP": Source(matches(0), "AP"), "AP50": Source(matches(0), "AP50")}
        return Evidence(tuple(Evaluation(seed, "t", f"{eval_key}{seed}", sources, costs) for seed in seeds), ("no",))

    plain, refined = part("plain", (0, 1), {"FPS": 20.0, "eval_minutes": 1.0}), part("refined", (1, 2), {"FPS": 10.0})
    columns = {"refined_AP": "AP", "refined_AP50": "AP50", "speed": "FPS"}
    known = joined([(plain, {"frame_AP": "AP"}), (refined, columns)])
    (only,) = known.evaluations  # the seed that has both
    assert only.seed == 1 and known.failures == ("no",)
    assert {name: (s.statistic, s.eval_key) for name, s in only.sources.items()} == {
        "frame_AP": ("AP", "plain1"), "refined_AP": ("AP", "refined1"), "refined_AP50": ("AP50", "refined1")
    }  # fmt: skip
    assert only.costs == {"FPS": 20.0, "eval_minutes": 1.0, "speed": 10.0}
    rows = ReportRow(0, "a", True, {"frame_AP": 30.1}), ReportRow(1, "b", True, {"frame_AP": 31.2}, baseline=0)
    table = ReportTable("p", "T2", "tiny", ("frame_AP", "refined_AP"), rows, ("clean",))
    frame = table_frame(table, {(0, "clean"): known, (1, "clean"): known}).set_index(["row", "metric"])
    assert frame.loc[(0, "frame_AP"), "eval_key"] == "plain1" and frame.loc[(0, "refined_AP"), "eval_key"] == "refined1"
    change = frame.loc[(1, "frame_AP_difference")]
    assert change["reported"] == pytest.approx(1.1) and change["measured"] == 0 and change["eval_key"] == "plain1"


def test_devices_of_finished_runs(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    keys = [finish(store, seed) for seed in range(4)]
    for number, environment in enumerate(({"device": "cpu", "threads": 1}, {"device": "NVIDIA H100", "threads": 4})):
        for key in keys[2 * number : 2 * number + 1]:
            path = store.eval_dir(*key) / "result.json"
            write_json(path, read_json(path) | {"env": environment})
    assert run_devices(store, [*keys, ("no", "run")]) == ("NVIDIA H100", "cpu, 1 thread")


def test_intervals_are_those_of_the_matches(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    found = gather(store, [finish(store, 0), finish(store, 1)], ("AP", "AP50"))
    remembered = [evaluation.sources["AP50"].resampled for evaluation in found.evaluations]
    assert bootstrap(remembered, "AP50") == bootstrap([matches(0), matches(1)], "AP50")


def test_replicates_are_remembered_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path)
    keys, draws = finish(store, 0), video_draws(10, 50, 0)
    first = gather(store, [keys], ("AP", "AP50")).evaluations[0].sources["AP"].resampled.summaries(draws, ["AP"])

    def fail(*_: object) -> None:
        raise AssertionError("computed again")

    again = gather(store, [keys], ("AP", "AP50")).evaluations[0].sources["AP"].resampled
    with monkeypatch.context() as patched:
        patched.setattr(Matches, "summaries", fail)
        assert np.array_equal(again.summaries(draws, ["AP"])["AP"], first["AP"])
        again.summaries(draws, ["AP50"])
    other = video_draws(10, 50, 1)
    assert np.array_equal(again.summaries(other, ["AP"])["AP"], matches(0).summaries(other, ["AP"])["AP"])


def test_a_remembered_evaluation_is_not_read(tmp_path: Path) -> None:
    """Points, replicates and videos all come from the file beside it, in another process too."""
    store = RunStore(tmp_path)
    keys = [finish(store, 0), finish(store, 1)]
    first = table_of(gather(store, keys, ("AP", "AP50")))
    for pair in keys:
        path = store.eval_dir(*pair) / "matches.npz"
        times = path.stat()
        path.write_bytes(b"not an archive")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    pd.testing.assert_frame_equal(table_of(gather(store, keys, ("AP", "AP50"))), first)


def test_what_is_older_than_the_evaluation_is_computed_anew(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    keys = finish(store, 0)
    first = table_of(gather(store, [keys], ("AP",)))
    folder = store.eval_dir(*keys)
    os.utime(folder / "bootstrap.npz", ns=(0, 0))
    matches(1).save(folder / "matches.npz")
    second = table_of(gather(store, [keys], ("AP",)))
    assert second["measured"].iloc[0] == pytest.approx(100 * matches(1).summary()["AP"], abs=1e-3)
    assert second["measured"].iloc[0] != first["measured"].iloc[0]


def table_of(known: Evidence) -> pd.DataFrame:
    table = ReportTable("p", "T1", "tiny", ("AP",), (ReportRow(0, "a", True),), ("clean",))
    return table_frame(table, {(0, "clean"): known})


def test_draws_are_told_apart_also_where_an_array_is_used_again(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    known = gather(store, [finish(store, 0)], ("AP",)).evaluations[0].sources["AP"].resampled
    draws = video_draws(10, 50, 0).copy()
    first = known.summaries(draws, ["AP"])["AP"].copy()
    draws[:] = video_draws(10, 50, 1)
    assert not np.array_equal(known.summaries(draws, ["AP"])["AP"], first)


def store_counts(folder: Path, counts: MotCounts | HotaCounts, **changes: object) -> None:
    """As the engine leaves them."""
    arrays = {field.name: getattr(counts, field.name) for field in fields(counts)}
    name = "mot" if isinstance(counts, MotCounts) else "hota"
    np.savez(folder / f"{name}.npz", **(DEFAULT_RULES | arrays | changes))


def mot_counts() -> MotCounts:
    """Of two videos; in the first 10 objects, 8 detections, all of them matches, one a switch."""
    columns = {field.name: np.array([0, 0]) for field in fields(MotCounts)}
    found = {
        "objects": [10, 0],
        "detections": [8, 0],
        "matches": [8, 0],
        "switches": [1, 0],
        "identity_matches": [6, 0],
    }
    return MotCounts(**(columns | {"video_ids": np.array([1, 2])} | {k: np.array(v) for k, v in found.items()}))


def test_tracking_metrics_come_from_stored_counts(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    keys = finish(store, 0)
    store_counts(store.eval_dir(*keys), mot_counts())
    sources = gather(store, [keys], ("AP", "IDF1", "IDs", "HOTA")).evaluations[0].sources
    assert set(sources) == {"AP", "IDF1", "IDs"}
    values = {name: sources[name].resampled.summaries(None, [name])[name][0] for name in ("IDF1", "IDs")}
    assert values == {"IDF1": pytest.approx(12 / 18), "IDs": 1}
    assert set(gather(store, [keys], ("AP",)).evaluations[0].sources) == {"AP"}


def test_hota_counts_are_read(tmp_path: Path) -> None:
    arrays = {field.name: np.arange(2.0)[:, None] for field in fields(HotaCounts)} | {"video_ids": np.array([4, 5])}
    store_counts(tmp_path, HotaCounts(**arrays))
    found = tracking_counts(tmp_path, "hota")
    assert isinstance(found, HotaCounts) and found.video_ids.tolist() == [4, 5]


@pytest.mark.parametrize(
    "changes", [{"score_threshold": SCORE_THRESHOLD + 0.1}, {"each_track_once": False}, {"older_field": np.zeros(2)}]
)
def test_counts_by_other_rules_do_not_count(tmp_path: Path, changes: dict[str, object]) -> None:
    assert tracking_counts(tmp_path, "mot") is None
    store_counts(tmp_path, mot_counts(), **changes)
    assert tracking_counts(tmp_path, "mot") is None
