"""Pages about runs: whole, self-contained, honest about what is missing, the same for the same store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from html_checker import VOID, Checker
from report_store import EVAL, KEYS, make_store

from vislab.errors import UserError
from vislab.records import read_json, write_json
from vislab.report.runs.run_report import write_run_report, write_table_report
from vislab.report.tables.evidence import gather
from vislab.report.tables.frames import Evidence, ReportRow, ReportTable, table_frame
from vislab.report.tables.views import TableText, build_view


class PageChecker(Checker):
    """Void elements of HTML, and of the drawings in it, which close themselves."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.attributes += attrs
        else:
            super().handle_starttag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs


def quiet(_: str) -> None:
    pass


def checked_page(path: Path) -> str:
    """The page, closed as it was opened and asking for nothing."""
    text = path.read_text(encoding="utf-8")
    checker = PageChecker()
    checker.feed(text)
    assert not checker.open and VOID
    for name, value in checker.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert value is not None and value.startswith(("#", "data:image/jpeg;base64,")), (name, value)
    assert "<script" not in text and "@import" not in text
    assert "url(" not in text.replace("url(#", ""), "clips of drawings only"
    return text


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are what takes the time; they have tests of their own."""
    monkeypatch.setattr("vislab.report.runs.run_page.inline_svg", lambda figure: "<svg></svg>")


def test_a_page_about_one_run_is_made_without_torch(tmp_path: Path) -> None:
    store = make_store(tmp_path / "runs")
    code = (
        "import sys; from vislab.__main__ import main; code = main(sys.argv[1:]); "
        "sys.exit(code or bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    arguments = ["report", "bbbb", "--runs", str(store.root), "--videos", "1"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(store.train_dir(KEYS[2]) / "report.html")
    text = checked_page(store.train_dir(KEYS[2]) / "report.html")
    for expected in (
        "SeqFormer on synthetic-ytvis19: run bbbb", "100.0 (1)", "Among the best: video", "Among the worst: video",
        "<code>hidden_dim</code>", "c0ffeec0ffee with changes", "abababababab", "1,234", "packages.torch",
        "auxiliary losses", "ground truth", "prediction", "var(--ink)",
    ):  # fmt: skip
        assert expected in text, expected


@pytest.mark.usefixtures("undrawn")
def test_equal_stores_give_equal_bytes(tmp_path: Path) -> None:
    store = make_store(tmp_path / "runs")
    pages = [write_run_report(["bbbb"], store.root, None, 1, quiet).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.usefixtures("undrawn")
def test_seeds_and_models_are_compared(tmp_path: Path) -> None:
    store = make_store(tmp_path / "runs")
    with pytest.raises(UserError, match="--out is missing"):
        write_run_report([*KEYS], store.root, None, 1, quiet)
    text = checked_page(write_run_report([*KEYS], store.root, tmp_path / "page.html", 1, quiet))
    assert "2 models on synthetic-ytvis19" in text and "Δ AP" in text
    assert "temporal &lt;none&gt;" in text and "<none>" not in text
    assert "<code>model.temporal.type</code>" in text
    assert "mean over seeds; bands" in text


@pytest.mark.usefixtures("undrawn")
def test_what_is_missing_is_said(tmp_path: Path) -> None:
    store = make_store(tmp_path / "runs")
    unfinished, moved = store.train_dir(KEYS[0]), store.eval_dir(KEYS[2], EVAL)
    (unfinished / "trained.json").unlink()
    (unfinished / "eval" / EVAL / "result.json").unlink()
    write_json(unfinished / "eval" / EVAL / "failure.json", {"error": "loss <dice> is not finite"})
    text = checked_page(write_run_report([KEYS[0]], store.root, None, 1, quiet))
    assert f"Run {KEYS[0]} is not finished." in text and "failed: loss &lt;dice&gt; is not finite" in text
    assert "Among the best" not in text
    write_json(moved / "result.json", read_json(moved / "result.json") | {"data_fingerprint": "before"})
    text = checked_page(write_run_report([KEYS[2]], store.root, None, 1, quiet))
    assert "Not shown: evaluated on data with fingerprint before" in text and "100.0 (1)" in text


@pytest.mark.usefixtures("undrawn")
def test_a_tables_page_stands_beside_its_files(tmp_path: Path) -> None:
    store = make_store(tmp_path / "runs")
    rows = (ReportRow(0, "Base & line", True), ReportRow(1, "Ours", True, baseline=0), ReportRow(2, "Copied", False))
    table = ReportTable("p", "T1", "smoke", ("AP",), rows, ("synthetic-ytvis19",))
    known = {
        (row, "synthetic-ytvis19"): gather(store, [(key, EVAL) for key in keys], ("AP",))
        for row, keys in ((0, KEYS[:2]), (1, KEYS[2:]))
    }
    frame = table_frame(table, known)
    view = build_view(frame, TableText("p T1: <title>", ("a note",)))
    path = write_table_report(frame, view, store, tmp_path / "reports", quiet)
    assert path == tmp_path / "reports" / "smoke" / "p" / "T1-report.html"
    text = checked_page(path)
    assert "p T1: &lt;title&gt;" in text and "a note" in text and "0 Base &amp; line" in text
    assert text.count(f"<code>{KEYS[1]}</code>") == 1
    nothing: pd.DataFrame = table_frame(table, {(0, "synthetic-ytvis19"): Evidence()})
    assert write_table_report(nothing, view, store, tmp_path / "reports", quiet) is None


def test_mistakes_get_one_sentence(tmp_path: Path) -> None:
    store = make_store(tmp_path / "runs")
    with pytest.raises(UserError, match="--videos is -1, expected 0 or more"):
        write_run_report(["bbbb"], store.root, None, -1, quiet)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_run_report(["bbbb"], store.root, tmp_path / "file" / "page.html", 1, quiet)
