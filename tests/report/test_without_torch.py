"""From a run store to all files of a table, in a process of its own: torch is never imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tables"]
from test_evidence import finish
from vislab.records import RunStore
from vislab.report.tables import agreement
from vislab.report.tables.evidence import gather
from vislab.report.tables.files import write_table
from vislab.report.tables.frames import ReportRow, ReportTable, table_frame
from vislab.report.tables.ranking import ranks
from vislab.report.tables.views import TableText

folder = Path(sys.argv[2])
store = RunStore(folder / "runs")
keys = [finish(store, seed) for seed in range(4)]
rows = (ReportRow(0, "a", True, {"AP": 1.0}), ReportRow(1, "b", True, {"AP": 2.0}, baseline=0))
known = {(row, "clean"): gather(store, keys[row::2], ("AP",)) for row in (0, 1)}
frame = table_frame(ReportTable("p", "T1", "tiny", ("AP",), rows, ("clean",)), known)
found = agreement.agreements(frame, known)
write_table(frame, TableText("t", tuple(map(agreement.sentence, found)), ranks=ranks(frame, known)), folder)
agreement.update(folder / "tiny" / "p", "T1", found)
print(sorted(path.name for path in (folder / "tiny").rglob("*.*")))
print([name for name in ("torch", "transformers") if name in sys.modules])
"""


def test_tables_are_made_without_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(HERE), str(tmp_path)]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files, imported = done.stdout.splitlines()
    assert files == "['T1.csv', 'T1.html', 'T1.md', 'T1.png', 'T1.tex', 'agreement.csv']"
    assert imported == "[]"
