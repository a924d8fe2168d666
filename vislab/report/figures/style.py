"""How figures look, and how they are written: sizes of a paper's columns, colours, type that publishers accept.

Colours are those of Okabe and Ito; series differ in line style, marker and hatching too, so that print without colour
will do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from vislab.errors import UserError
from vislab.records import atomic_path
from vislab.report.videos.overlays import PALETTE

COLUMN_WIDTH, COLUMN_HEIGHT = 3.25, 2.3  # inches; a column of CVPR, ICCV and ECCV takes it
PAGE_WIDTH = 6.9  # inches; a page of theirs
COLOURS = [tuple(channel / 255 for channel in PALETTE[index]) for index in (6, 4, 5, 2)]
LINES, HATCHES = ("-", "--", "-.", ":"), ("", "////", "....", "xx")
MARKERS = "osD^"
TYPE: Any = {"pdf.fonttype": 42}  # TrueType: searchable, and accepted by every publisher
PLOT: Any = TYPE | {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "lines.linewidth": 1.3,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 300,
}
PICTURE: Any = TYPE | {"font.size": 7, "axes.titlesize": 7, "savefig.dpi": 200}  # frames of video with marks on them


def line_look(number: int) -> dict[str, Any]:
    """Colour and line style of the series with this number, unlike those of the 15 before it."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number // len(COLOURS) % len(LINES)]}


def write_figure(figure: Figure, folder: Path, name: str, style: Any = PICTURE) -> list[Path]:
    """Write NAME.pdf and NAME.png; equal figures give equal bytes. Raises UserError for what cannot be written."""
    written = []
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        path = folder / f"{name}.{kind}"
        try:
            with matplotlib.rc_context(style), atomic_path(path) as temporary:
                figure.savefig(temporary, format=kind, metadata=metadata)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
        written.append(path)
    return written
