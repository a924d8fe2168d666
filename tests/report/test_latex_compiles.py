"""The committed tables as LaTeX: they compile as they are, and fit a page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPORTS = Path(__file__).parents[2] / "reports"
TABLES = sorted(path for path in REPORTS.glob("**/*.tex"))
DOCUMENT = r"""\documentclass[10pt,twocolumn]{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\usepackage[margin=1in]{geometry}
\begin{document}
\typeout{TABLE}\input{PATH}\clearpage
\end{document}
"""


@pytest.mark.latex
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_every_table_compiles_and_fits(tmp_path: Path) -> None:
    assert TABLES
    before, after = DOCUMENT.split(r"\typeout{TABLE}")
    names = [str(path.relative_to(REPORTS)) for path in TABLES]
    body = [rf"\typeout{{TABLE {name}}}\input{{{path}}}\clearpage" for name, path in zip(names, TABLES, strict=True)]
    (tmp_path / "all.tex").write_text("\n".join([before, *body, after.partition("\n")[2]]))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=tmp_path, capture_output=True,
        text=True, encoding="latin-1", timeout=300,
    )  # fmt: skip
    said = done.stdout.replace("\n", " ")
    last = re.findall(r"TABLE (\S+)", said)[-1:]
    assert done.returncode == 0, f"{last}: {done.stdout[-1500:]}"
    wide = {
        part.split()[0]: max(found)
        for part in said.split("TABLE ")[1:]
        if (found := [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide", part)])
    }
    assert not wide, "wider than the page, by so many points"
