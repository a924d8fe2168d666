"""A table's view as one self-contained HTML page: opens offline, asks for nothing from outside."""

from __future__ import annotations

from html import escape
from itertools import groupby

from vislab.report.tables.ranking import BEST, SECOND
from vislab.report.tables.views import BETTER, UNRESOLVED, WORSE, Cell, Section, View

_MARK_CLASS = {BETTER: "better", WORSE: "worse", UNRESOLVED: "open"}
_RANKED = {BEST: "<b>{}</b>", SECOND: "<u>{}</u>"}

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #6a737d; --rule: #d0d7de; --band: #f6f8fa; --paper: #fff;
        --better: #0b7285; --worse: #b02a37; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #8d96a0; --rule: #30363d; --band: #161b22; --paper: #0d1117;
          --better: #66d9e8; --worse: #ff8787; } }
body { margin: 2.5rem auto; padding: 0 1.5rem; max-width: 80rem; color: var(--ink); background: var(--paper);
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.3rem; font-weight: 600; margin: 0 0 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap;
        border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
th, td { padding: .32rem .7rem; text-align: right; vertical-align: top; }
thead th { font-weight: 600; border-bottom: 1px solid var(--rule); }
thead th.group { text-align: center; border-bottom: 1px solid var(--rule); }
thead th.sub { font-weight: 400; color: var(--soft); font-size: .85em; }
th.label, td.label { text-align: left; white-space: normal; min-width: 14rem; }
td.index { color: var(--soft); }
tbody tr:hover td { background: var(--band); }
tr.section th { text-align: left; font-weight: 600; background: var(--band); border-top: 1px solid var(--rule); }
td.reported { color: var(--soft); }
.interval { display: block; color: var(--soft); font-size: .82em; }
.better { color: var(--better); font-weight: 700; } .worse { color: var(--worse); font-weight: 700; }
.open, .absent { color: var(--soft); }
footer { margin-top: 1.2rem; color: var(--soft); font-size: .88rem; max-width: 60rem; }
footer p { margin: .3rem 0; }
"""


def html_page(*views: View) -> str:
    """The whole page, one table under the other, with a newline at its end. The first one's title is the page's."""
    return whole_page(views[0].title, "\n".join(map(table_part, views)))


def whole_page(title: str, body: str, style: str = "") -> str:
    """A page around its parts. style: what it needs beyond the look of tables."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def table_part(view: View) -> str:
    """A table with its title above it and its notes below."""
    body = "\n".join(_section(section, view) for section in view.sections)
    notes = [f"<p><sup>{number}</sup> {escape(text)}</p>" for number, text in enumerate(view.numbered, 1)]
    notes += [f"<p>{escape(text)}</p>" for text in view.footnotes]
    return f"""<h1>{escape(view.title)}</h1>
<div class="scroll">
<table>
{_header(view)}
{body}
</table>
</div>
<footer>
{chr(10).join(notes)}
</footer>"""


def _header(view: View) -> str:
    groups, subs = [], []
    for _, members in groupby(view.columns, key=lambda column: column.metric):
        columns = list(members)
        if len(columns) == 1:
            groups.append(f'<th rowspan="2">{escape(columns[0].group)}</th>')
        else:
            groups.append(f'<th class="group" colspan="{len(columns)}">{escape(columns[0].group)}</th>')
            subs += [f'<th class="sub">{escape(column.sub)}</th>' for column in columns]
    corner = '<th rowspan="2"></th><th rowspan="2" class="label"></th>'
    return f"<thead>\n<tr>{corner}{''.join(groups)}</tr>\n<tr>{''.join(subs)}</tr>\n</thead>"


def _section(section: Section, view: View) -> str:
    rows = []
    if section.heading:
        span = len(view.columns) + 2
        rows.append(f'<tr class="section"><th colspan="{span}">{escape(section.heading)}</th></tr>')
    for line in section.lines:
        cells = [
            f'<td class="{column.sub or "measured"}">{_cell(cell)}</td>'
            for column, cell in zip(view.columns, line.cells, strict=True)
        ]
        head = f'<td class="index">{line.index}</td><td class="label">{escape(line.label)}</td>'
        rows.append(f"<tr>{head}{''.join(cells)}</tr>")
    return "<tbody>\n" + "\n".join(rows) + "\n</tbody>"


def _cell(cell: Cell) -> str:
    value = _RANKED.get(cell.rank, "{}").format(escape(cell.value)) + escape(cell.rest())
    if cell.note:
        value = f'<span class="absent">{value}</span><sup>{cell.note}</sup>'
    mark = f' <span class="{_MARK_CLASS[cell.mark]}">{cell.mark}</span>' if cell.mark else ""
    interval = f'<span class="interval">{escape(cell.interval)}</span>' if cell.interval else ""
    return f"{value}{mark}{interval}"
