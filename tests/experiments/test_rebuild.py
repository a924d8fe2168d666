"""Reports made again from finished runs: the same bytes, nothing trained, no number lost."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import reproduce_table
import taformer
from fake_launcher import FakeLauncher, finish
from reproduce_table import main

from vislab.records import RunStore, write_json
from vislab.report.tables.files import csv_text, read_table, table_path

CLEAN, FADING = "synthetic-ytvis19", "synthetic-ytvis19+faint=0.1"


@pytest.fixture(autouse=True)
def smoke_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce_table, "PAPERS", {"taformer": replace(taformer.PAPER, pretraining=None)})


@pytest.fixture(autouse=True)
def launcher(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    fake = FakeLauncher()
    monkeypatch.setattr(reproduce_table, "launch", fake)
    return fake


def run(tmp_path: Path, *arguments: str) -> int:
    places = ("--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports"))
    return main([*arguments, "--scale", "smoke", "--device", "cpu", *places])


def rebuild(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """What it says, line by line."""
    capsys.readouterr()
    assert run(tmp_path, *arguments, "--rebuild") == 0
    return capsys.readouterr().out.splitlines()


def reports(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "reports").rglob("*.*")}


def csv_path(tmp_path: Path) -> Path:
    return table_path(tmp_path / "reports", "smoke", "taformer", "T3")


@pytest.mark.parametrize(
    "more", [(), ("--seeds", "2"), ("--data", CLEAN, "--data", FADING), ("--rows", "0,2", "--seeds", "3")]
)
def test_the_same_bytes_come_out_and_nothing_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], launcher: FakeLauncher, more: tuple[str, ...]
) -> None:
    run(tmp_path, "taformer", "T3", *more)
    first = reports(tmp_path)
    for path in (tmp_path / "reports").rglob("T3.*"):
        if path.suffix != ".csv":
            path.write_bytes(b"old")
    launcher.launched.clear()
    assert rebuild(tmp_path, capsys) == ["taformer T3: numbers as before"]
    assert reports(tmp_path) == first and launcher.launched == []
    assert {"T3.csv", "T3.md", "T3.tex", "T3.html", "T3.png"} <= first.keys()


def test_only_what_is_named_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "taformer", "T3", "T4")
    assert len(rebuild(tmp_path, capsys)) == 2
    assert rebuild(tmp_path, capsys, "taformer", "T4") == ["taformer T4: numbers as before"]


def test_a_report_whose_runs_are_gone_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "taformer", "T3", "T5")
    first = reports(tmp_path)
    keys = read_table(csv_path(tmp_path)).query("metric == 'AP' and row == 3").iloc[0]
    shutil.rmtree(RunStore(tmp_path / "runs").eval_dir(keys["train_key"], keys["eval_key"]))
    said = {line.partition(":")[0]: line.partition(": ")[2] for line in rebuild(tmp_path, capsys)}
    assert said["taformer T3"] == (f"left as it is: 1 run is not in the store: {keys['train_key']}/{keys['eval_key']}")
    assert reports(tmp_path) == first and set(said) == {"taformer T3", "taformer T5"}


def test_a_broken_run_leaves_the_report_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "taformer", "T3")
    first = reports(tmp_path)
    next((tmp_path / "runs").rglob("matches.npz")).unlink()
    (said,) = rebuild(tmp_path, capsys)
    assert said.startswith("taformer T3: left as it is:") and "matches.npz" in said
    assert reports(tmp_path) == first


def test_numbers_of_another_declaration_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As after a change of the table: its runs are in the store, but are not those of its rows any more."""
    run(tmp_path, "taformer", "T3")
    frame = read_table(csv_path(tmp_path))
    ap = frame[(frame["metric"] == "AP") & (frame["dataset"] == FADING)].set_index("row")
    assert len(ap) == 4
    moved = frame["row"].eq(1) & frame["dataset"].eq(FADING) & frame["train_key"].ne("")
    csv_path(tmp_path).write_text(csv_text(frame.assign(train_key=frame["train_key"].mask(moved, ap["train_key"][2]))))
    finish(RunStore(tmp_path / "runs"), (ap["train_key"][2], ap["eval_key"][1]), 0)
    first = reports(tmp_path)
    (said,) = rebuild(tmp_path, capsys)
    assert f"of its numbers are not of what is declared now, such as AP of row 1 on {FADING}" in said
    assert reports(tmp_path) == first


def test_new_runs_are_taken_in(tmp_path: Path, capsys: pytest.CaptureFixture[str], launcher: FakeLauncher) -> None:
    run(tmp_path, "taformer", "T3", "--rows", "0")
    assert set(read_table(csv_path(tmp_path)).query("metric == 'AP' and row == 1")["status"]) == {"not-run"}
    places = ("--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "elsewhere"))
    main(["taformer", "T3", "--scale", "smoke", "--device", "cpu", *places])
    (said,) = rebuild(tmp_path, capsys)
    assert said.endswith(" cells changed")
    assert set(read_table(csv_path(tmp_path)).query("metric == 'AP'")["status"]) == {"measured"}


def test_failed_seeds_and_tables_without_a_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce_table, "launch", FakeLauncher(failing=[0]))
    run(tmp_path, "taformer", "T3")
    first = reports(tmp_path)
    assert rebuild(tmp_path, capsys) == ["taformer T3: numbers as before"] and reports(tmp_path) == first
    frame = read_table(csv_path(tmp_path))
    assert set(frame[frame["metric"] == "AP"]["status"]) == {"failed"}


def test_static_tables_at_paper_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ("--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports"), "--scale", "paper")
    main(["taformer", "T4", "--static", *places])
    first = reports(tmp_path)
    capsys.readouterr()
    assert main(["--rebuild", *places]) == 0
    assert capsys.readouterr().out == "taformer T4: numbers as before\n" and reports(tmp_path) == first


def test_own_data_is_found_by_the_path_that_its_runs_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = reproduce_table.rebuild_table.__globals__["plan_table"]

    def plan(*arguments: object, datasets: tuple[str, ...], **more: object) -> list:
        asked.extend(datasets)
        return real(*arguments, datasets=datasets, **more)

    run(tmp_path, "taformer", "T3", "--data", FADING)
    frame = read_table(csv_path(tmp_path))
    csv_path(tmp_path).write_text(csv_text(frame.replace({"dataset": {FADING: "videos"}})))
    for folder in {path.parents[1] for path in (tmp_path / "runs").rglob("eval/*")}:
        write_json(folder / "config.json", {"seed": 0})
        for result in folder.glob("eval/*"):
            write_json(result / "config.json", {"data": {"name": "/data/videos"}})
    monkeypatch.setitem(reproduce_table.rebuild_table.__globals__, "plan_table", plan)
    (said,) = rebuild(tmp_path, capsys)
    assert asked == ["/data/videos"] and said.startswith("taformer T3: left as it is: data set '/data/videos'")


def test_the_summary_is_made_again_with_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "taformer", "T3")
    run(tmp_path, "--summary")
    first = reports(tmp_path)
    assert len(rebuild(tmp_path, capsys, "taformer")) == 1
    said = rebuild(tmp_path, capsys)
    assert [Path(line).name for line in said[1:]] == ["summary.md", "summary.html"] and reports(tmp_path) == first


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "there are no reports to make again"),
        (["taformer", "T3"], "T3.csv: cannot be read as a table"),
        (["taformer", "T99"], "no table 'T99'"),
        (["taformer", "--rows", "1"], "--rows is of no use with --rebuild"),
        (["--static"], "--static is of no use with --rebuild"),
        (["--data", "x"], "--data is of no use with --rebuild"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    assert run(tmp_path, *arguments, "--rebuild") == 2
    assert sentence in capsys.readouterr().err
