"""Tables whose rows turn one knob, drawn as curves: K_inter, clip length, messenger tokens, loss weight."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import ifr
import refinevis
import taformer
import tevit
from figures import TableFigure

from vislab.report.figures.knob_plots import draw_knob
from vislab.study.declare import Table

_TRACKED = ("AP", "AP50", "AP75", "IDF1", "MOTA", "IDs")


def _curve(table: Table, knob: str, places: Mapping[int, float], metrics: tuple[str, ...] = ("AP",)) -> TableFigure:
    draw = partial(draw_knob, knob=knob, places=places, metrics=metrics)
    return TableFigure(table.caption, table.id, draw)


CURVES: dict[str, dict[str, TableFigure]] = {
    "taformer": {"T7": _curve(taformer.T7, "$K_{inter}$", {0: 1, 1: 2, 2: 3, 3: 4})},
    "ifr": {"F4": _curve(ifr.F4, r"$\lambda_e$", dict(enumerate(ifr.CROSS_FRAME_WEIGHTS)), _TRACKED)},
    "tevit": {
        "T8": _curve(tevit.T8, "messenger tokens, in the paper's numbers", {0: 8, 1: 16, 2: 32}),
        "T9": _curve(tevit.T9, "frames of a training clip", {0: 2, 1: 3, 2: 5, 3: 7}),
    },
    "refinevis": {"T3": _curve(refinevis.T3, "window W of refinement", dict(enumerate(refinevis.WINDOWS)))},
}
