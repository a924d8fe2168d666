"""Text on a sheet: inks, places, line breaks."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vislab.report.tables.text_sheet import BAD, GOOD, INK, SOFT, Face, Sheet, text_width, wrapped

FACE = Face(17)


def pixels(sheet: Sheet, height: int = 60) -> np.ndarray:
    """(H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(sheet.png(height))).convert("RGB"))


def test_an_empty_sheet_is_white_and_of_its_size() -> None:
    found = pixels(Sheet(80), 30)
    assert found.shape == (30, 80, 3) and (found == 255).all()


def test_the_file_has_a_small_palette_and_its_resolution() -> None:
    picture = Image.open(io.BytesIO(Sheet(40).png(20)))
    assert picture.mode == "P" and len(picture.palette.getdata()[1]) <= 16 * 3
    assert picture.info["dpi"] == pytest.approx((200, 200), abs=0.1)


@pytest.mark.parametrize(
    ("ink", "colour"), [(INK, (27, 31, 36)), (SOFT, (106, 115, 125)), (GOOD, (11, 114, 133)), (BAD, (176, 42, 55))]
)
def test_rules_have_the_full_colour_of_their_ink(ink: int, colour: tuple[int, int, int]) -> None:
    sheet = Sheet(80)
    sheet.rule(10, 30, 5, 2, ink)
    found = pixels(sheet)
    rows, columns = np.nonzero((found != 255).any(2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 6, 10, 29)
    assert (found[5:7, 10:30] == colour).all()


def test_text_stays_between_its_line_and_within_its_width() -> None:
    sheet = Sheet(200)
    sheet.text(20, 10, "Ångström ±0.3", FACE)
    rows, columns = np.nonzero((pixels(sheet) != 255).any(2))
    assert rows.min() >= 10 - 4 and rows.max() < 10 + FACE.line_height
    assert columns.min() >= 19 and columns.max() <= 20 + text_width("Ångström ±0.3", FACE)


def test_overlapping_inks_stay_in_the_palette() -> None:
    sheet = Sheet(60)
    sheet.text(5, 5, "████", FACE, SOFT)
    sheet.rule(0, 60, 12, 3, BAD)
    assert (pixels(sheet)[13] == (176, 42, 55)).all()


def test_equal_sheets_give_equal_bytes() -> None:
    def drawn() -> bytes:
        sheet = Sheet(120)
        sheet.text(3, 3, "a ≈ b ↑", Face(17, bold=True), GOOD)
        return sheet.png(40)

    assert drawn() == drawn()


def test_letters_that_the_font_has_not_are_drawn_as_boxes() -> None:
    sheet = Sheet(80)
    sheet.text(5, 5, "漢$_x", FACE)
    assert (pixels(sheet) != 255).any()


@pytest.mark.parametrize("width", [60, 100, 200, 1000])
def test_lines_are_broken_between_words_and_fit(width: int) -> None:
    text = "the quick brown fox jumps over the lazy dog"
    lines = wrapped(text, FACE, width)
    assert " ".join(lines) == text
    assert all(text_width(line, FACE) <= width for line in lines)
    assert all(
        text_width(f"{line} {after.split()[0]}", FACE) > width - 4
        for line, after in zip(lines, lines[1:], strict=False)
    )


def test_words_that_are_too_long_are_broken_inside() -> None:
    lines = wrapped("to synthetic-ytvis19+objects=4+crossing=1 and on", FACE, 90)
    assert "".join(lines).replace(" ", "") == "tosynthetic-ytvis19+objects=4+crossing=1andon"
    assert all(text_width(line, FACE) <= 90 for line in lines)
    assert wrapped("", FACE, 10) == [] and wrapped("ab", FACE, 0) == ["a", "b"]
