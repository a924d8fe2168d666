"""The count of frames on a terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vislab.report.videos.frame_bar import frame_bar


@pytest.mark.parametrize("length", [3, 2, None])
def test_lines_in_a_log_come_every_ten_seconds(length: int | None) -> None:
    text, now = io.StringIO(), [0.0]
    with frame_bar(length, Console(file=text, width=200), lambda: now[0]) as advance:
        for seconds in (6.0, 12.0, 13.0):
            now[0] = seconds
            advance()
    assert text.getvalue() == f"frame 2/{length or '?'}  0.17/s\n"


def test_a_terminal_shows_a_bar_that_goes_away() -> None:
    text = io.StringIO()
    with frame_bar(None, Console(file=text, force_terminal=True, width=100)) as advance:
        advance()
        advance()
    assert "frames" in text.getvalue() and "2/?" in text.getvalue()
    assert text.getvalue().endswith("\x1b[2K"), "its line is cleared"
