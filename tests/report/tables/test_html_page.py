"""HTML views: well formed, self-contained, escaped."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from hand_made import DIAL
from html_checker import Checker

from vislab.report.tables.html_page import html_page
from vislab.report.tables.views import TableText, build_view


def test_page_is_well_formed_and_asks_for_nothing(frame: pd.DataFrame, text: TableText) -> None:
    page = html_page(build_view(frame, text))
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert not {name for name, _ in checker.attributes} & {"src", "href", "srcset"}
    assert "http" not in page and "url(" not in page and "@import" not in page


def test_cells(frame: pd.DataFrame, text: TableText) -> None:
    checker = Checker()
    checker.feed(html_page(build_view(frame, text)))
    body = [row for row in checker.rows if row]
    assert {len(row) for row in body} == {13} and len(body) == 6
    assert body[0][:2] == ["0", "Baseline"] and body[0][4] == "44.9" and body[0][5].startswith("31.0 ± 1.0 (3)[")
    assert "↑" in body[1][7]


def test_best_is_bold_and_second_underlined(frame: pd.DataFrame, text: TableText) -> None:
    page = html_page(build_view(frame, replace(text, ranks={(1, DIAL, "AP"): 1, (0, DIAL, "AP"): 2})))
    assert "<b>51.7</b> ± 1.5 (3)<span" in page and "<u>31.0</u> ± 1.0 (3)<span" in page
    assert page.count("<b>") == page.count("<u>") == 1


def test_special_characters_are_escaped(frame: pd.DataFrame, text: TableText) -> None:
    page = html_page(build_view(frame, text))
    assert "Baseline &amp; more_[x] &lt;b&gt;|$" in page and "<b>" not in page
    assert "<title>p T3: a title with 100 % &amp; more</title>" in page
