"""The command: what it refuses, what it runs, and that a second call runs nothing."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import reproduce_table
import tables
import taformer
from fake_launcher import FakeLauncher, finish
from reproduce_table import main
from rich.console import Console

from vislab.data import DatasetConfig, VideoDataset, load_dataset
from vislab.engine import evaluate as engine_evaluate
from vislab.metrics import evaluate
from vislab.metrics.parallel import available_cores
from vislab.metrics.video_ap import match
from vislab.records import RunStore, write_json
from vislab.report.tables.files import read_table, table_path
from vislab.study.launch import Outcome
from vislab.study.plan import Job


@pytest.fixture(autouse=True)
def smoke_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of every scale start from fresh weights here, so that no test needs a weights file."""
    monkeypatch.setattr(reproduce_table, "PAPERS", {"taformer": replace(taformer.PAPER, pretraining=None)})


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    fake = FakeLauncher()
    monkeypatch.setattr(reproduce_table, "launch", fake)
    return fake


def run(tmp_path: Path, *arguments: str) -> int:
    return main(
        [*arguments, "--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports"), "--device", "cpu"]
    )


def frame(tmp_path: Path, table: str, scale: str = "smoke") -> pd.DataFrame:
    return read_table(table_path(tmp_path / "reports", scale, "taformer", table))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no PAPER given; expected one of taformer"),
        (["tafomer"], "no paper 'tafomer'; expected one of taformer"),
        (["taformer", "T9"], "no table 'T9'; its tables are T1, T2"),
        (["taformer", "T3", "--seeds", "0"], "--seeds is 0, expected 1 or more"),
        (["taformer", "T3", "--jobs", "-1"], "--jobs is -1, expected 1 or more"),
        (["taformer", "T3", "--rows", "1,x"], "--rows is '1,x', expected row numbers"),
        (["taformer", "T3", "--rows", "7"], "has no row 7 to run; its own rows are 0, 1, 2, 3"),
        (["taformer", "T1", "--rows", "11"], "has no row 11 to run; its own rows are 12, 18, 21"),
        (["taformer", "T3", "--scale", "paper"], "--scale paper needs --data PATH"),
        (["taformer", "T3", "--data", "no-such-folder"], "no-such-folder"),
        (["taformer", "T3", "--data", "synthetic-ytvis19+faint=7"], "faint='7'"),
        (["taformer", "T3", "--data", "a/set", "--data", "b/set"], "would both be called 'set'"),
        (["taformer", "--pretrain", "--scale", "smoke"], "nothing to pre-train"),
        (["taformer", "T3", "--metrics", "ap,idf1"], "there is no metric 'idf1'; expected any of ap, mot, hota"),
        (["taformer", "T3", "--metrics", ""], "there is no metric ''"),
        (["taformer", "T3", "--metrics", "mot", "--static"], "--metrics mot needs finished runs"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], launcher: FakeLauncher, arguments: list[str], sentence: str
) -> None:
    assert run(tmp_path, *arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("error: ") and error.count("\n") == 1
    assert not launcher.launched


@pytest.mark.parametrize(
    "arguments", [["--scale", "huge"], ["--device", "tpu"], ["--seeds", "x"], ["--launcher", "kubernetes"]]
)
def test_unknown_choices_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["taformer", *arguments])
    assert exit_.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    for option in (
        "--list",
        "--scale",
        "--seeds",
        "--data",
        "--device",
        "--rows",
        "--jobs",
        "--static",
        "--check",
        "--metrics",
        "IDF1",
        "HOTA",
        "T3",
    ):
        assert option in text


def test_a_table_is_run_written_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], launcher: FakeLauncher
) -> None:
    assert run(tmp_path, "taformer", "T3", "--scale", "smoke", "--seeds", "2") == 0
    assert len(launcher.launched) == 16
    found = frame(tmp_path, "T3")
    ap = found[found["metric"] == "AP"]
    assert list(ap["status"]) == ["measured"] * 8 and set(ap["n"]) == {2}
    assert set(ap["reported"]) == {44.9, 46.4, 47.0, 48.1}
    assert "Baseline + ST-Enc" in capsys.readouterr().out


def test_second_call_trains_nothing_and_gives_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], launcher: FakeLauncher
) -> None:
    run(tmp_path, "taformer", "T3", "--scale", "smoke")
    first = {path: path.read_bytes() for path in (tmp_path / "reports").rglob("*.*")}
    printed = capsys.readouterr().out
    launcher.launched.clear()
    assert run(tmp_path, "taformer", "T3", "--scale", "smoke") == 0
    assert launcher.launched == []
    assert {path: path.read_bytes() for path in (tmp_path / "reports").rglob("*.*")} == first
    assert printed.endswith(capsys.readouterr().out)


def test_tables_share_their_runs(tmp_path: Path, launcher: FakeLauncher) -> None:
    """T3's encoder row is T4's last one; T3 and T4 together have 4 + 3 - 1 trainings on each of two data sets."""
    run(tmp_path, "taformer", "T3", "T4", "--scale", "smoke")
    assert len(launcher.launched) == 12
    keys = [
        set(found.loc[(found["metric"] == "AP") & (found["row"] == row), "train_key"])
        for found, row in ((frame(tmp_path, "T3"), 1), (frame(tmp_path, "T4"), 2))
    ]
    assert keys[0] == keys[1]


def test_failed_rows_are_recorded_and_the_code_is_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce_table, "launch", FakeLauncher(failing=[0]))
    assert run(tmp_path, "taformer", "T6", "--scale", "smoke") == 1
    assert set(frame(tmp_path, "T6")["status"]) == {"failed", "static"}
    assert "it broke" in table_path(tmp_path / "reports", "smoke", "taformer", "T6", "md").read_text()


def test_one_failed_seed_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce_table, "launch", FakeLauncher(failing=[1]))
    assert run(tmp_path, "taformer", "T6", "--scale", "smoke", "--seeds", "2") == 1
    found = frame(tmp_path, "T6")
    assert set(found.loc[found["metric"] == "AP", "n"]) == {1}
    assert (
        "1 more seed failed: it broke" in table_path(tmp_path / "reports", "smoke", "taformer", "T6", "md").read_text()
    )


def test_rows_limit_what_is_trained_not_what_is_shown(tmp_path: Path, launcher: FakeLauncher) -> None:
    run(tmp_path, "taformer", "T7", "--scale", "smoke", "--rows", "0,3")
    assert len(launcher.launched) == 4
    found = frame(tmp_path, "T7")
    statuses = found[found["metric"] == "AP"].groupby("row")["status"].first().to_dict()
    assert statuses == {0: "measured", 1: "not-run", 2: "not-run", 3: "measured"}
    launcher.launched.clear()
    run(tmp_path, "taformer", "T7", "--scale", "smoke", "--rows", "1")
    assert len(launcher.launched) == 2
    assert (frame(tmp_path, "T7").query("metric == 'AP' and row == 3")["status"] == "measured").all()


def test_data_replaces_the_declared_sets(tmp_path: Path, launcher: FakeLauncher) -> None:
    run(tmp_path, "taformer", "T3", "--scale", "smoke", "--data", "synthetic-ytvis21")
    assert {job.dataset for job in launcher.launched} == {"synthetic-ytvis21"}
    assert set(frame(tmp_path, "T3")["dataset"]) == {"synthetic-ytvis21", ""}


def test_rows_that_cannot_run_say_why(tmp_path: Path, launcher: FakeLauncher) -> None:
    run(tmp_path, "taformer", "T1", "--scale", "smoke")
    assert len(launcher.launched) == 1
    found = frame(tmp_path, "T1")
    assert set(found.loc[(found["row"] == 21) & (found["metric"] == "AP"), "status"]) == {"not-run"}
    text = table_path(tmp_path / "reports", "smoke", "taformer", "T1", "md").read_text()
    assert "Swin-L is too large for this scale" in text


def test_ctrl_c_writes_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce_table, "launch", lambda *_, **__: Outcome(interrupted=True))
    assert run(tmp_path, "taformer", "T6", "--scale", "smoke") == 130
    assert "goes on from here" in capsys.readouterr().out
    assert "not run yet" in table_path(tmp_path / "reports", "smoke", "taformer", "T6", "md").read_text()


def test_static_needs_no_runs(tmp_path: Path, launcher: FakeLauncher, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "taformer", "T7", "--static", "--check") == 0
    assert not launcher.launched
    found = frame(tmp_path, "T7", "paper")
    static = found[found["metric"] == "params_M"]
    assert list(static["measured"].round(1)) == list(static["reported"]) == [50.4, 51.0, 51.6, 52.2]
    assert set(found.loc[found["metric"] == "AP", "status"]) == {"not-run"}
    assert "4 of 4 cells agree" in capsys.readouterr().out


def test_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--list") == 0
    assert "Temporal sampling points" in capsys.readouterr().out


def test_jobs_default_to_the_cores() -> None:
    request = reproduce_table.checked(reproduce_table.parser().parse_args(["taformer", "T3", "--device", "cpu"]))
    assert request.parallel == available_cores()
    assert isinstance(reproduce_table.wide_console(), Console)


CLEAN = "synthetic-ytvis19"
MOT, HOTA = ["IDF1", "MOTA", "IDP", "IDR", "IDs"], ["HOTA", "DetA", "AssA"]


@functools.cache
def clean_videos(config: DatasetConfig) -> tuple[VideoDataset, dict]:
    dataset = load_dataset(config, "valid")
    return dataset, dataset.ground_truth()


def predictions(truth: dict, seed: int) -> list[dict]:
    """Objects as they are, the first of them lost after its first frame; seed 1 misses the last one altogether."""
    keys = ("video_id", "category_id", "segmentations")
    found = [{key: entry[key] for key in keys} | {"score": 0.9} for entry in truth["annotations"]]
    first = found[0]["segmentations"]
    found[0]["segmentations"] = [first[0], *(None for _ in first[1:])]
    return found[: len(found) - seed]


class MeasuredLauncher(FakeLauncher):
    """Finishes runs with predictions of the videos that they are evaluated on."""

    def __call__(self, jobs: Sequence[Job], store: RunStore, *_: Any, **__: Any) -> Outcome:
        self.launched += jobs
        for job in jobs:
            for index, run in enumerate(job.runs):
                dataset, truth = clean_videos(run.evaluation.data)
                finish(store, job.keys(index), run.seed)
                folder = store.eval_dir(*job.keys(index))
                found = predictions(truth, run.seed)
                match(truth, found).save(folder / "matches.npz")
                write_json(folder / "predictions.json", found)
                record = store.result(*job.keys(index))
                write_json(folder / "result.json", record | {"data_fingerprint": dataset.fingerprint()})
        return Outcome()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> MeasuredLauncher:
    fake = MeasuredLauncher()
    monkeypatch.setattr(reproduce_table, "launch", fake)
    return fake


T3 = ("taformer", "T3", "--scale", "smoke", "--data", CLEAN, "--seeds", "2")


def reports(tmp_path: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (tmp_path / "reports").rglob("*.*")}


def text(tmp_path: Path) -> str:
    return table_path(tmp_path / "reports", "smoke", "taformer", "T3", "md").read_text()


def test_tracking_metrics_are_measured_without_training(
    tmp_path: Path, measured: MeasuredLauncher, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers are those of `vislab.evaluate` on the same files; nothing that was there is touched."""
    run(tmp_path, *T3)
    before = frame(tmp_path, "T3")
    files = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.*")}
    measured.launched.clear()
    assert run(tmp_path, *T3, "--metrics", "ap,mot,hota") == 0
    assert measured.launched == [] and "tracking 8/8" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in files} == files
    found = frame(tmp_path, "T3")
    kept = found[found["metric"].isin(before["metric"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)

    _, truth = clean_videos(taformer.base("smoke").evaluation.data)
    values = [evaluate(truth, predictions(truth, seed), ("mot", "hota"), replicates=0) for seed in (0, 1)]
    expected = (values[0].set_index("metric")["value"] + values[1].set_index("metric")["value"]) / 2
    for metric in (*MOT, *HOTA):
        cells = found[found["metric"] == metric]
        assert list(cells["row"]) == [0, 1, 2, 3] and set(cells["status"]) == {"measured"} and set(cells["n"]) == {2}
        unit = 1 if metric == "IDs" else 100
        assert cells["measured"].tolist() == pytest.approx([unit * expected[metric]] * 4, abs=1e-4)
        assert cells["reported"].isna().all() and cells["ci_low"].notna().all()
        differences = found[found["metric"] == f"{metric}_difference"]
        assert list(differences["row"]) == [1, 2, 3] and set(differences["measured"]) == {0}
    assert 0 < expected["IDR"] < 1 == expected["IDP"]


def test_without_metrics_the_output_is_what_it_was(
    tmp_path: Path, measured: MeasuredLauncher, capsys: pytest.CaptureFixture[str]
) -> None:
    """Byte for byte: before tracking was measured, afterwards, and with --metrics ap."""
    run(tmp_path, *T3)
    first = reports(tmp_path)
    printed = capsys.readouterr().out
    assert "IDF1" not in printed
    run(tmp_path, *T3, "--metrics", "mot")
    assert reports(tmp_path) != first
    for more in ([], ["--metrics", "ap"]):
        capsys.readouterr()
        run(tmp_path, *T3, *more)
        assert reports(tmp_path) == first and printed.endswith(capsys.readouterr().out)


def test_second_call_finds_everything_measured(
    tmp_path: Path, measured: MeasuredLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, *T3, "--metrics", "ap,mot")
    first = reports(tmp_path)
    monkeypatch.setattr(engine_evaluate, "load_dataset", lambda *_: pytest.fail("measured again"))
    assert run(tmp_path, *T3, "--metrics", "ap,mot") == 0
    assert reports(tmp_path) == first


def test_a_run_without_predictions_keeps_its_ap(tmp_path: Path, measured: MeasuredLauncher) -> None:
    run(tmp_path, *T3)
    cells = frame(tmp_path, "T3").query("metric == 'AP'").set_index("row")
    for train_key, eval_key in zip(cells.loc[2, "train_key"].split(), cells.loc[2, "eval_key"].split(), strict=True):
        (RunStore(tmp_path / "runs").eval_dir(train_key, eval_key) / "predictions.json").unlink()
    assert run(tmp_path, *T3, "--metrics", "ap,mot") == 0
    found = frame(tmp_path, "T3").query("row == 2").set_index("metric")
    assert found.loc["AP", "status"] == found.loc["AP_difference", "status"] == "measured"
    assert {found.loc[metric, "status"] for metric in MOT} == {"not-run"} == {found.loc["IDs_difference", "status"]}
    assert found.loc[MOT, "measured"].isna().all()
    assert "1. tracking not measured: " in text(tmp_path) and "predictions.json is gone" in text(tmp_path)
    assert str(tmp_path) not in text(tmp_path)


def test_one_seed_without_predictions_leaves_the_other(tmp_path: Path, measured: MeasuredLauncher) -> None:
    run(tmp_path, *T3)
    cells = frame(tmp_path, "T3").query("metric == 'AP'").set_index("row")
    keys = (cells.loc[1, "train_key"].split()[0], cells.loc[1, "eval_key"].split()[0])
    (RunStore(tmp_path / "runs").eval_dir(*keys) / "predictions.json").unlink()
    run(tmp_path, *T3, "--metrics", "mot")
    found = frame(tmp_path, "T3").query("row == 1").set_index("metric")
    assert list(found.loc[["AP", "IDF1", "IDF1_difference"], "n"]) == [2, 1, 1]
    assert f"Row 1 on {CLEAN}: IDF1, MOTA, IDP, IDR, IDs from 1 of 2 seeds" in text(tmp_path)


def test_rows_limit_what_is_measured(tmp_path: Path, measured: MeasuredLauncher) -> None:
    run(tmp_path, *T3)
    run(tmp_path, *T3, "--rows", "0,1", "--metrics", "mot")
    found = frame(tmp_path, "T3").query("metric == 'IDF1'")
    assert list(found["status"]) == ["measured", "measured", "not-run", "not-run"]
    assert "tracking not measured yet" in text(tmp_path)


def test_failed_and_missing_rows_have_no_tracking_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce_table, "launch", FakeLauncher(failing=[0]))
    assert run(tmp_path, *T3[:-1], "1", "--rows", "0", "--metrics", "mot") == 1
    found = frame(tmp_path, "T3").query("metric == 'IDF1'")
    assert list(found["status"]) == ["failed", "not-run", "not-run", "not-run"]
    assert "failed: it broke" in text(tmp_path) and "not run yet" in text(tmp_path)


def test_tables_with_tracking_columns_are_measured_unasked() -> None:
    table = replace(taformer.T3, columns=("IDF1",))
    assert tables.tracking_families(table, ()) == ("mot",)
    assert tables.tracking_families(taformer.T3, ()) == ()
    assert tables.tracking_families(table, ("hota",)) == ("mot", "hota")
