"""Figures of any table and of benchmarks: which runs they are drawn from, and what is said without any."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import store_figures
from matplotlib.figure import Figure
from plot_figures import main
from store_figures import Choice

from vislab.records import RunStore, write_json
from vislab.report.runs.stored_runs import Group
from vislab.report.tables.files import csv_text
from vislab.report.tables.frames import COLUMNS

DATA = "synthetic-ytvis19"


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """A report of two rows, two seeds of the first one, and the runs behind it."""
    lines = []
    for row, seeds in ((0, "ab"), (1, "c")):
        keys = {"train_key": " ".join(f"train{seed}" for seed in seeds), "eval_key": " ".join("eval" for _ in seeds)}
        common = {"paper": "taformer", "table": "T3", "row": row, "label": f"row <{row}>", "scale": "tiny", "n": 1}
        for metric, value in (("AP", 30.0 + row), ("train_minutes", 2.0 + row)):
            numbers = {"metric": metric, "measured": value, "ci_low": value - 1, "ci_high": value + 1}
            lines.append(common | keys | numbers | {"dataset": DATA, "status": "measured"})
    frame = pd.DataFrame(lines, columns=list(COLUMNS))
    report = tmp_path / "reports" / "tiny" / "taformer" / "T3.csv"
    report.parent.mkdir(parents=True)
    report.write_text(csv_text(frame))
    store = RunStore(tmp_path / "runs")
    for number, seed in enumerate("abc", 1):
        write_json(store.eval_dir(f"train{seed}", "eval") / "result.json", {})
        line = {"step": 2, "loss": float(number), "losses": {"dice": 1.0}, "learning_rate": 0.1, "gradient_norm": 1.0}
        (store.train_dir(f"train{seed}") / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return ["--runs", str(store.root), "--reports", str(tmp_path / "reports")]


def test_figures_of_a_table_are_called_after_it(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["taformer", "Curves", "costs", "--table", "T3", *folders]) == 0
    written = [tmp_path / "reports/tiny/taformer/figures" / f"T3-{name}" for name in ("curves", "costs")]
    expected = [f"{path}.{kind}" for path in written for kind in ("pdf", "png")]
    assert capsys.readouterr().out.split() == expected and all(Path(path).stat().st_size for path in expected)


def test_curves_are_of_the_rows_runs(folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caught = []
    monkeypatch.setattr(store_figures, "draw_losses", caught.append)
    frame = pd.read_csv(tmp_path / "reports/tiny/taformer/T3.csv")
    store_figures.ANY_TABLE["curves"].of("T3", RunStore(tmp_path / "runs"), Choice()).draw(frame)
    ((dataset, series),) = caught[0].items()
    assert dataset == DATA and [each.label for each in series] == ["0 row <0>", "1 row <1>"]
    assert [[journal.loc[2, "loss"] for journal in each.journals] for each in series] == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["taformer", "curves"], "curves: --table is missing: say of which table of taformer, such as --table T3"),
        (["taformer", "errors", "--table", "T99"], "no table 'T99'; its tables are T1, T2"),
        (["taformer", "costs", "--table", "T4"], "T4.csv: there is no such report"),
        (["taformer", "overlays", "--table", "T3", "--rows", "1,2"], f"no run of row 2 on {DATA}, but of 0, 1"),
        (["taformer", "overlays", "--table", "T3", "--rows", "1-2"], "--rows is '1-2', expected row numbers separated"),
        (["taformer", "overlays", "--table", "T3", "--trained-on", "x"], f"T3 is not measured on x, but on {DATA}"),
        (["taformer", "costs", "--table", "T3", "--checkpoint", "x"], "T3-costs is drawn from a table's report and"),
        (["bench"], "there is no benchmark; make one with: vislab bench msda"),
    ],
)
def test_mistakes_get_one_sentence(
    arguments: list[str], sentence: str, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *folders]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("error: ") and error.count("\n") == 1


def test_overlays_are_of_the_chosen_rows_in_their_order(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught = []

    def draw(groups: list[Group], *options: object) -> Figure:
        caught.append(([group.label for group in groups], *options))
        return Figure()

    monkeypatch.setattr(store_figures, "draw_table_overlays", draw)
    options = ["--rows", "1,0", "--seed", "2", "--video", "7", "--min-score", "0.5", "--trained-on", DATA]
    assert main(["taformer", "overlays", "--table", "T3", *folders, *options]) == 0
    assert main(["taformer", "Overlays", "--table", "t3", *folders, "--out", str(tmp_path)]) == 0
    labels = ["0 row <0>", "1 row <1>"]
    assert caught == [(labels[::-1], 2, "7", 0.5), (labels, 0, None, None)]
    assert (tmp_path / "T3-overlays.png").is_file()


def test_a_table_without_any_run(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "reports" / "tiny" / "taformer" / "T3.csv"
    report.write_text(report.read_text().replace("measured,train", "not-run,train"))
    for figure in ("overlays", "curves"):
        assert main(["taformer", figure, "--table", "T3", *folders]) == 2
        assert "no row of taformer T3 is measured; run it with reproduce_table.py" in capsys.readouterr().err


def test_runs_that_are_gone_are_named(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "trainb" / "eval" / "eval" / "result.json").unlink()
    assert main(["taformer", "curves", "--table", "T3", *folders]) == 2
    error = capsys.readouterr().err
    assert "has no evaluation eval of run trainb, which is behind" in error
    assert "make it with: reproduce_table.py" in error


def test_benchmarks_are_drawn_beside_their_files(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "reports" / "bench" / "msda-cpu.csv"
    file.parent.mkdir()
    file.write_text("case,competitor,ratio,reference\na,slow,1,slow\na,fast,3,slow\n")
    assert main(["bench", *folders]) == 0
    assert sorted(path.name for path in file.parent.iterdir()) == ["msda-cpu.csv", "msda-cpu.pdf", "msda-cpu.png"]
