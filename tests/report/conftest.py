"""A table with every kind of cell, and the words around it."""

from __future__ import annotations

import pandas as pd
import pytest
from hand_made import CLEAN, DIAL, evidence_of, report_table

from vislab.report.tables.frames import Evidence, table_frame
from vislab.report.tables.views import TableText


@pytest.fixture
def frame() -> pd.DataFrame:
    """Row 1 beats row 0 on the dial, is not resolved from it on the clean set, where row 0 has one seed only."""
    known = {
        (0, DIAL): evidence_of(0.30, 0.32, 0.31),
        (1, DIAL): evidence_of(0.50, 0.53, 0.52),
        (0, CLEAN): evidence_of(0.45),
        (1, CLEAN): Evidence(failures=("the loss is not finite",)),
    }
    return table_frame(report_table(), known)


@pytest.fixture
def text() -> TableText:
    return TableText(
        "p T3: a title with 100 % & more",
        footnotes=("Scale tiny: small numbers.",),
        reasons={(1, CLEAN): "failed: the loss is not finite"},
        headings={DIAL: "the dial of the claim", CLEAN: "control"},
    )
