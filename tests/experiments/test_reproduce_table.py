"""The command: what it refuses, what it runs, and that a second call runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import reproduce_table
import taformer
from reproduce_table import main
from rich.console import Console

from vislab.metrics.video_ap import match
from vislab.records import RunStore, write_json
from vislab.report.files import read_table, table_path
from vislab.study.launch import Outcome, failure_path
from vislab.study.plan import Job


@pytest.fixture(autouse=True)
def smoke_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of every scale start from fresh weights here, so that no test needs a weights file."""
    monkeypatch.setattr(reproduce_table, "PAPERS", {"taformer": replace(taformer.PAPER, pretraining=None)})


class FakeLauncher:
    """Finishes every run with the same predictions; runs of the seeds in `failing` fail; remembers what it did."""

    def __init__(self, failing: Sequence[int] = ()) -> None:
        self.failing, self.launched = failing, list[Job]()

    def __call__(self, jobs: Sequence[Job], store: RunStore, *_: Any, **__: Any) -> Outcome:
        self.launched += jobs
        outcome = Outcome()
        for job in jobs:
            for index, run in enumerate(job.runs):
                if run.seed in self.failing:
                    outcome.failed[job.keys(index)] = "it broke"
                    write_json(failure_path(store, *job.keys(index)), {"error": "it broke"})
                else:
                    finish(store, job.keys(index), run.seed)
        return outcome


def finish(store: RunStore, keys: tuple[str, str], seed: int) -> None:
    folder = store.eval_dir(*keys)
    record = {"train_key": keys[0], "eval_key": keys[1], "seed": seed, "train_seconds": 60, "eval_seconds": 6}
    write_json(folder / "result.json", record | {"peak_memory_bytes": 2**30})
    mask = {"size": [2, 2], "counts": [0, 4]}
    truth = {
        "videos": [{"id": 1, "width": 2, "height": 2, "length": 1}, {"id": 2, "width": 2, "height": 2, "length": 1}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [
            {"id": i, "video_id": i, "category_id": 1, "iscrowd": 0, "segmentations": [mask], "areas": [4]}
            for i in (1, 2)
        ],
    }
    found = {"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [mask]}
    match(truth, [found]).save(folder / "matches.npz")


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
    "arguments", [["--scale", "huge"], ["--device", "tpu"], ["--seeds", "x"], ["--launcher", "slurm"]]
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
    assert request.parallel == reproduce_table.available_cores()
    assert isinstance(reproduce_table.wide_console(), Console)
