"""A table's view as LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from vislab.report.tables.frames import COSTS
from vislab.report.tables.ranking import BEST, SECOND
from vislab.report.tables.views import BETTER, UNRESOLVED, WORSE, Cell, Column, View

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "Δ": r"$\Delta$", "–": "--", "×": r"$\times$", 
    "²": r"$^2$", "·": r"$\cdot$", "→": r"$\rightarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "λ": r"$\lambda$",
    BETTER: r"$\uparrow$", WORSE: r"$\downarrow$", UNRESOLVED: r"$\approx$",
}  # fmt: skip
_RANKED = {BEST: r"\textbf{%s}", SECOND: r"\underline{%s}"}


def latex(view: View) -> str:
    """A complete table environment, to be read with \\input; it needs the packages booktabs and, as a
    table that is wider than the page is made smaller, graphicx.

    What a run cost is left out: a page has no room for it, and the other formats have it.
    """
    shown = [index for index, column in enumerate(view.columns) if column.metric not in COSTS]
    columns = [view.columns[index] for index in shown]
    width = len(columns) + 2  # a row's number and label before them
    lines = [
        r"% needs \usepackage{booktabs,graphicx} and \usepackage[T1]{fontenc}",
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{escape(view.title)}}}",
        r"\scriptsize",
        r"\setlength{\tabcolsep}{2.5pt}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}rl{'r' * len(columns)}@{{}}}}",
        r"\toprule",
        *_header(columns),
    ]
    for section in view.sections:
        lines.append(r"\midrule")
        if section.heading:
            lines.append(rf"\multicolumn{{{width}}}{{@{{}}l}}{{\textit{{{escape(section.heading)}}}}} \\ \addlinespace")
        for line in section.lines:
            cells = [str(line.index), escape(line.label), *(_cell(line.cells[index]) for index in shown)]
            lines.append(rf"{' & '.join(cells)} \\[3pt]")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    notes = [f"$^{{{number}}}$ {escape(text)}" for number, text in enumerate(view.numbered, 1)]
    notes += [escape(text) for text in view.footnotes]
    if notes:
        lines += ["", r"\medskip", r"\begin{minipage}{\linewidth}", r"\raggedright"]
        lines += [rf"{note}\par" for note in notes]
        lines += [r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table*}", ""])


def escape(text: str) -> str:
    """Text that LaTeX prints as it is; characters outside of its fonts become a question mark."""
    text = " ".join(text.split())
    return "".join(_SPECIAL.get(c) or (c if ord(c) < 0x180 else "?") for c in text)


def _header(shown: Sequence[Column]) -> list[str]:
    """Metrics over "reported" and "measured", with a rule under each metric that has both."""
    groups, rules, start = ["", ""], [], 3
    for _, members in groupby(shown, key=lambda column: column.metric):
        columns = list(members)
        groups.append(rf"\multicolumn{{{len(columns)}}}{{c}}{{{escape(columns[0].group)}}}")
        if len(columns) > 1:
            rules.append(rf"\cmidrule(lr){{{start}-{start + len(columns) - 1}}}")
        start += len(columns)
    subs = ["", "", *(column.sub for column in shown)]
    return [rf"{' & '.join(groups)} \\", "".join(rules), rf"{' & '.join(subs)} \\"]


def _cell(cell: Cell) -> str:
    """The number, and its interval below it, where there is room."""
    note = f"$^{{{cell.note}}}$" if cell.note else ""
    mark = f" {escape(cell.mark)}" if cell.mark else ""
    value = _RANKED.get(cell.rank, "%s") % _number(cell.value)
    head = " ".join(part for part in (value, _number(cell.rest())) if part) + note + mark
    return rf"\shortstack[r]{{{head}\\{{\tiny {_number(cell.interval)}}}}}" if cell.interval else head


def _number(text: str) -> str:
    """Escaped, with minus signs instead of hyphens."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escape(text))
