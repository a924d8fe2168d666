from __future__ import annotations

import numpy as np
from PIL import Image

from vislab.report.videos.sheets import build_sheet, stack_sheets


def picture(value: int, width: int = 30, height: int = 20) -> Image.Image:
    return Image.new("RGB", (width, height), (value, 0, 200))


def places(sheet: Image.Image, value: int) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of the pixels of one picture."""
    rows, columns = np.nonzero((np.asarray(sheet) == (value, 0, 200)).all(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_pictures_stand_in_rows_and_columns() -> None:
    sheet = build_sheet([[picture(1), picture(2)], [picture(3), picture(4)]])
    boxes = [places(sheet, value) for value in (1, 2, 3, 4)]
    assert all((x2 - x1, y2 - y1) == (30, 20) for x1, y1, x2, y2 in boxes)
    assert boxes[0][:2] == (boxes[2][0], boxes[1][1]) and boxes[3][:2] == (boxes[1][0], boxes[2][1])
    assert boxes[1][0] == boxes[0][2] + 4 and boxes[2][1] == boxes[0][3] + 4


def test_titles_and_caption_take_space_of_their_own() -> None:
    plain = build_sheet([[picture(1)] * 3] * 2)
    full = build_sheet([[picture(1)] * 3] * 2, ["a", "b"], ["0", "1", "2"], "a caption of many words " * 4)
    assert full.width > plain.width and full.height > plain.height + 3 * 14
    assert np.count_nonzero((np.asarray(full) == (1, 0, 200)).all(axis=2)) == 6 * 30 * 20


def test_a_ragged_last_row_and_stacking() -> None:
    sheet = build_sheet([[picture(1), picture(2)], [picture(3)]])
    stack = stack_sheets([sheet, build_sheet([[picture(5)]])])
    assert stack.size == (sheet.width, sheet.height + 40)
    assert places(stack, 3)[0] == places(stack, 1)[0] == places(stack, 5)[0]
