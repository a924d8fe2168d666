"""The layout that all formats share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from hand_made import CLEAN, DIAL, evaluation, evidence_of, report_table

from vislab.report.tables.frames import Evidence, ReportRow, table_frame
from vislab.report.tables.views import (
    BETTER,
    OPEN,
    SINGLED_OUT,
    UNRESOLVED,
    WORSE,
    TableText,
    View,
    build_view,
    format_measured,
)


def cells(view: View, section: int, row: int) -> dict[tuple[str, str], object]:
    line = view.sections[section].lines[row]
    return {(c.metric, c.sub): cell for c, cell in zip(view.columns, line.cells, strict=True)}


def difference_mark(*means: float) -> str:
    known = {(0, CLEAN): evidence_of(0.4, 0.4, 0.4, spread=0.05), (1, CLEAN): evidence_of(*means, spread=0.05, seed=1)}
    view = build_view(table_frame(report_table(datasets=(CLEAN,)), known), TableText("t"))
    return cells(view, 0, 1)["AP_difference", "measured"].mark  # type: ignore[attr-defined]


def test_sections_columns_and_lines(frame: pd.DataFrame, text: TableText) -> None:
    view = build_view(frame, text)
    assert [section.heading for section in view.sections] == [f"{DIAL} (the dial of the claim)", f"{CLEAN} (control)"]
    assert [(column.group, column.sub) for column in view.columns] == [
        ("params (M)", "reported"), ("params (M)", "measured"), ("AP", "reported"), ("AP", "measured"),
        ("Δ AP", "reported"), ("Δ AP", "measured"), ("AP50", "reported"), ("AP50", "measured"),
        ("train (min)", ""), ("eval (min)", ""), ("peak (GiB)", ""),
    ]  # fmt: skip
    assert [line.index for line in view.sections[0].lines] == [0, 1, 2]


def test_measured_and_reported_cells(frame: pd.DataFrame, text: TableText) -> None:
    found = cells(build_view(frame, text), 0, 0)
    assert found["AP", "reported"].value == "44.9"  # type: ignore[attr-defined]
    measured = found["AP", "measured"]
    assert measured.head() == "31.0 ± 1.0 (3)"  # type: ignore[attr-defined]
    assert measured.interval.startswith("[") and measured.interval.endswith("]")  # type: ignore[attr-defined]
    assert found["AP50", "reported"].value == "–"  # type: ignore[attr-defined]
    assert found["params_M", "measured"].head() == "49.31"  # type: ignore[attr-defined]


def test_single_seed_shows_its_count(frame: pd.DataFrame, text: TableText) -> None:
    assert cells(build_view(frame, text), 1, 0)["AP", "measured"].head() == "45.0 (1)"  # type: ignore[attr-defined]


def test_one_seed_is_said_to_say_nothing_about_training(text: TableText) -> None:
    def warned(*means: float) -> bool:
        known = {(0, CLEAN): evidence_of(*means, spread=0.05)}
        view = build_view(table_frame(report_table(datasets=(CLEAN,)), known), text)
        return any("one seed" in note for note in view.footnotes)

    assert warned(0.4) and not warned(0.4, 0.41, 0.42)


def test_places_go_to_the_measured_cells_and_are_explained(frame: pd.DataFrame, text: TableText) -> None:
    view = build_view(frame, replace(text, ranks={(1, DIAL, "AP"): 1, (0, DIAL, "AP"): 2}))
    first, second = cells(view, 0, 1), cells(view, 0, 0)
    assert (first["AP", "measured"].rank, second["AP", "measured"].rank) == (1, 2)  # type: ignore[attr-defined]
    assert first["AP", "reported"].rank == first["AP50", "measured"].rank == 0  # type: ignore[attr-defined]
    assert all(cell.rank == 0 for row in (0, 1) for cell in cells(view, 1, row).values())  # type: ignore[attr-defined]
    assert SINGLED_OUT in view.footnotes and OPEN not in view.footnotes


def test_no_place_is_said_where_there_is_a_choice(frame: pd.DataFrame, text: TableText) -> None:
    def notes(frame: pd.DataFrame, ranks: dict | None) -> set[str]:
        return {SINGLED_OUT, OPEN} & {*build_view(frame, replace(text, ranks=ranks)).footnotes}

    assert notes(frame, {}) == {OPEN} and notes(frame, None) == set()
    single = table_frame(report_table(datasets=(CLEAN,)), {(0, CLEAN): evidence_of(0.4, 0.5)})
    assert notes(single, {}) == set() and notes(table_frame(report_table(), {}), {}) == set()


def test_failed_cells_refer_to_one_footnote(frame: pd.DataFrame, text: TableText) -> None:
    view = build_view(frame, text)
    found = cells(view, 1, 1)
    assert (found["AP", "measured"].value, found["AP", "measured"].note) == ("failed", 1)  # type: ignore[attr-defined]
    assert found["AP50", "measured"].note == 1  # type: ignore[attr-defined]
    assert view.numbered == ("failed: the loss is not finite",)


def test_not_run_is_a_value(text: TableText) -> None:
    reasons = {(0, DIAL): "needs a GPU", (1, DIAL): "needs more", (0, CLEAN): "needs a GPU", (1, CLEAN): "needs a GPU"}
    view = build_view(table_frame(report_table(), {}), replace(text, reasons=reasons))
    assert cells(view, 0, 0)["AP", "measured"].value == "not run"  # type: ignore[attr-defined]
    assert cells(view, 0, 1)["AP", "measured"].note == 2  # type: ignore[attr-defined]
    assert view.numbered == ("needs a GPU", "needs more")
    assert cells(view, 0, 2)["AP", "measured"].value == "–"  # type: ignore[attr-defined]


def test_marks_follow_the_interval() -> None:
    assert difference_mark(0.6, 0.6, 0.6) == BETTER
    assert difference_mark(0.2, 0.2, 0.2) == WORSE
    assert difference_mark(0.401, 0.399, 0.4) == UNRESOLVED


def test_footnotes_explain_what_is_there(frame: pd.DataFrame, text: TableText) -> None:
    notes = " ".join(build_view(frame, text).footnotes)
    assert notes.startswith("Scale tiny: small numbers.")
    assert "bootstrap" in notes and "not resolved" in notes and "took from elsewhere" in notes
    nothing = table_frame(report_table(rows=(ReportRow(0, "a", True),), static=(), columns=("AP",)), {})
    assert build_view(nothing, TableText("t")).footnotes == ()


def test_all_undefined_column_and_one_row() -> None:
    import numpy as np
    from hand_made import evaluation

    rows = (ReportRow(0, "a", True),)
    table = report_table(rows=rows, static=(), columns=("AP",), datasets=(CLEAN,))
    view = build_view(table_frame(table, {(0, CLEAN): Evidence((evaluation(0, np.full(3, np.nan)),))}), TableText("t"))
    assert cells(view, 0, 0)["AP", ""].value == "undefined"  # type: ignore[attr-defined]


def test_table_of_static_cells_alone_has_one_section() -> None:
    view = build_view(table_frame(report_table(datasets=()), {}), TableText("t", reasons={(0, ""): "needs data"}))
    (section,) = view.sections
    assert section.heading == "" and len(section.lines) == 3
    assert view.numbered == ("needs data",)


def test_digits() -> None:
    assert format_measured("AP", 31.04) == "31.0"
    assert format_measured("params_M", 52.2206) == "52.22"
    assert format_measured("AP_difference", 1.04) == "+1.0"
    assert format_measured("AP_difference", -0.31) == "-0.3"
    assert format_measured("peak_memory_GiB", 1.234) == "1.23"


def test_differences_of_tracking_metrics_stand_beside_them_with_marks() -> None:
    """More MOTA is better, fewer identity switches are; a difference that the data cannot support is neither."""
    names = ("AP", "AP50", "MOTA", "IDs")
    known = {
        (0, CLEAN): Evidence((evaluation(0, np.array([0.1, 0.3]), names),)),
        (1, CLEAN): Evidence((evaluation(0, np.array([0.6, 0.6]), names),)),
    }
    table = report_table(datasets=(CLEAN,), tracking=("MOTA", "IDs"))
    view = build_view(table_frame(table, known), TableText("t"))
    groups = [column.group for column in view.columns]
    place = groups.index("MOTA")
    assert groups[place : place + 4] == ["MOTA", "Δ MOTA", "IDs", "Δ IDs"]
    line = view.sections[0].lines[1].cells
    assert [(line[place + i].value, line[place + i].mark) for i in (1, 3)] == [("+40.0", "↑"), ("+0.4", "↓")]
    assert any(note.startswith("Δ: ↑ better") for note in view.footnotes)


def test_whole_numbers_are_shown_as_they_are_printed() -> None:
    rows = (
        ReportRow(0, "a", False, {"params_M": 48, "AP": 44.0}, {"params_M": 48.25}),
        ReportRow(1, "b", False, {"params_M": 57, "AP": 36.1}, {"params_M": 57.116}),
    )
    table = report_table(columns=("params_M", "AP"), rows=rows, datasets=())
    view = build_view(table_frame(table, {}), TableText("t"))
    found = cells(view, 0, 0)
    assert found["params_M", "reported"].value == "48"  # type: ignore[attr-defined]
    assert found["params_M", "measured"].value == "48.25"  # type: ignore[attr-defined]
    assert found["AP", "reported"].value == "44.0"  # type: ignore[attr-defined]


def test_digits_follow_the_unit() -> None:
    shown = [format_measured(metric, 3.14159) for metric in ("AP", "params_M", "training_gpu_hours", "clip6_dims")]
    assert shown == ["3.1", "3.14", "3.142", "3"]


def test_rows_about_one_data_set_stand_in_its_section_only(frame: pd.DataFrame, text: TableText) -> None:
    apart = frame[(frame["row"] != 1) | (frame["dataset"] != CLEAN)]
    first, second = build_view(apart, text).sections
    assert [line.index for line in first.lines] == [0, 1, 2] and [line.index for line in second.lines] == [0, 2]
