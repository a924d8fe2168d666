"""LaTeX views: structure, escapes, and, where a TeX installation is there, a compiled page."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hand_made import DIAL

from vislab.report.tables.latex import escape, latex
from vislab.report.tables.views import TableText, build_view


def test_every_row_has_as_many_cells(frame: pd.DataFrame, text: TableText) -> None:
    view = build_view(frame, text)
    body = latex(view).split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\[3pt]") and "multicolumn" not in line]
    assert len(rows) == 6
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {10}
    assert [row.split(" & ")[0] for row in rows] == [str(line.index) for part in view.sections for line in part.lines]


def test_header_groups_span_their_columns(frame: pd.DataFrame, text: TableText) -> None:
    found = latex(build_view(frame, text))
    spans = sum(int(n) for n in re.findall(r"\\multicolumn\{(\d)\}\{c\}", found))
    assert spans == 8
    assert r"\cmidrule(lr){3-4}\cmidrule(lr){5-6}\cmidrule(lr){7-8}\cmidrule(lr){9-10}" in found
    assert r"\begin{tabular}{@{}rlrrrrrrrr@{}}" in found


def test_numbers(frame: pd.DataFrame, text: TableText) -> None:
    found = latex(build_view(frame, text))
    assert r"\shortstack[r]{31.0 $\pm$ 1.0 (3)\\{\tiny [" in found
    assert r"$\uparrow$" in found and "±" not in found and "Δ" not in found
    assert r"failed$^{1}$" in found and r"$^{1}$ failed: the loss is not finite\par" in found


def test_best_is_bold_and_second_underlined(frame: pd.DataFrame, text: TableText) -> None:
    found = latex(build_view(frame, replace(text, ranks={(1, DIAL, "AP"): 1, (0, DIAL, "AP"): 2})))
    assert r"\shortstack[r]{\textbf{51.7} $\pm$ 1.5 (3)\\{" in found
    assert r"\shortstack[r]{\underline{31.0} $\pm$ 1.0 (3)\\{" in found
    assert found.count(r"\textbf") == found.count(r"\underline") == 1


def test_special_characters_are_escaped(frame: pd.DataFrame, text: TableText) -> None:
    found = latex(build_view(frame, text))
    assert r"Baseline \& more\_[x] \textless{}b\textgreater{}\textbar{}\$" in found
    assert r"100 \% \& more" in found
    assert escape("a\\b{c}~^#\n漢") == r"a\textbackslash{}b\{c\}\textasciitilde{}\textasciicircum{}\# ?"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_compiles_as_it_is(frame: pd.DataFrame, text: TableText, tmp_path: Path) -> None:
    ranked = replace(text, ranks={(1, DIAL, "AP"): 1, (0, DIAL, "AP"): 2})
    (tmp_path / "table.tex").write_text(latex(build_view(frame, ranked)))
    page = (
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}"
        r"\begin{document}\input{table.tex}\end{document}"
    )
    (tmp_path / "page.tex").write_text(page)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
