"""Pictures side by side: rows and columns with titles, and a strip of text below."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

__all__ = ["build_sheet", "stack_sheets"]

_PAPER, _INK, _SOFT = (255, 255, 255), (27, 31, 36), (106, 115, 125)
_GAP, _MARGIN = 4, 10  # pixels
_TITLE_SIZE, _CAPTION_SIZE = 12, 14  # of the text, pixels


def build_sheet(
    rows: Sequence[Sequence[Image.Image]],
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    caption: str = "",
) -> Image.Image:
    """One picture of rows of pictures of one size. Titles and caption that are empty take no space.

    row_titles: one per row, written upwards at its left. column_titles: one per column, above it. A caption that is
    wider than the sheet is broken between words.
    """
    width, height = rows[0][0].size
    assert all(picture.size == (width, height) for row in rows for picture in row)
    top = _MARGIN + (_line_height(_TITLE_SIZE) if any(column_titles) else 0)
    left = _MARGIN + (_line_height(_TITLE_SIZE) if any(row_titles) else 0)
    columns = max(map(len, rows))
    right = left + columns * (width + _GAP) - _GAP
    bottom = top + len(rows) * (height + _GAP) - _GAP
    lines = _broken(caption, right - left)
    full_height = bottom + _MARGIN + (_GAP + len(lines) * _line_height(_CAPTION_SIZE) if lines else 0)
    sheet = Image.new("RGB", (right + _MARGIN, full_height), _PAPER)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            sheet.paste(picture, (left + c * (width + _GAP), top + r * (height + _GAP)))
    for c, title in enumerate(column_titles):
        _write(sheet, title, (left + c * (width + _GAP), _MARGIN // 2), width, _TITLE_SIZE, _SOFT)
    for r, title in enumerate(row_titles):
        sheet.paste(_upwards(title, height), (_MARGIN // 2, top + r * (height + _GAP)))
    for number, line in enumerate(lines):
        place = (left, bottom + _MARGIN // 2 + number * _line_height(_CAPTION_SIZE))
        _write(sheet, line, place, None, _CAPTION_SIZE, _INK)
    return sheet


def stack_sheets(sheets: Sequence[Image.Image]) -> Image.Image:
    """Sheets below each other, at their left edges."""
    result = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), _PAPER)
    top = 0
    for sheet in sheets:
        result.paste(sheet, (0, top))
        top += sheet.height
    return result


def _write(
    image: Image.Image, text: str, place: tuple[int, int], width: int | None, size: int, colour: tuple[int, int, int]
) -> None:
    """Text with its upper left corner at `place`, or centred over `width` pixels from there."""
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    shift = 0 if width is None else max(0, round((width - draw.textlength(text, font)) / 2))
    draw.text((place[0] + shift, place[1]), text, fill=colour, font=font)


def _upwards(text: str, length: int) -> Image.Image:
    strip = Image.new("RGB", (length, _line_height(_TITLE_SIZE)), _PAPER)
    _write(strip, text, (0, 0), length, _TITLE_SIZE, _SOFT)
    return strip.transpose(Image.Transpose.ROTATE_90)


def _broken(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` pixels, or of one word where that is wider."""
    font = ImageFont.load_default(_CAPTION_SIZE)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _line_height(size: int) -> int:
    return round(1.4 * size)
