"""Does a table come out as the paper's did? Order of its rows, signs of its differences, and what could be seen at all.

Shape letters: R replicates, N rows, P pairs of rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from vislab.errors import UserError
from vislab.metrics.statistics import mean_over_drawn_runs, percentile_interval, video_draws
from vislab.records import atomic_path
from vislab.report.tables.frames import DECIMALS, Evidence, difference_of

REPLICATES, SEED = 1000, 0  # as in `metrics.statistics`
# standard errors of a normal estimate whose 95 % interval leaves zero out in 80 % of repetitions
_SEEN = 1.959964 + 0.841621
_INTERVAL = 2 * 1.959964  # standard errors in a 95 % interval


@dataclass(frozen=True)
class Agreement:
    """One metric of a table on one data set; rows copied by the paper are left out.

    Of rows that are the very same runs, which say the same twice, only the first counts, and so do its differences.
    rows: N, those that are both reported and measured. tau: Kendall's tau-b of their order, -1 to 1, NaN for fewer
    than two, with its interval. compared: differences to a baseline row that the paper reports as not zero; same_sign:
    those whose measured sign is the same; resolved, opposite: those that the data resolve, as the paper has them and
    against it. visible: the difference that would be resolved in 80 % of repetitions, in the metric's unit (median).
    """

    paper: str
    table: str
    scale: str
    dataset: str
    metric: str
    rows: int
    tau: float
    tau_low: float
    tau_high: float
    compared: int
    same_sign: int
    resolved: int
    opposite: int
    visible: float


COLUMNS = tuple(field.name for field in fields(Agreement))
FILE = "agreement.csv"


def agreements(frame: pd.DataFrame, evidence: Mapping[tuple[int, str], Evidence]) -> list[Agreement]:
    """Of every metric that the table compares with a baseline, on every data set. frame, evidence: as `table_frame`
    makes and takes them. Metrics of which less than two rows are both reported and measured are left out, and so are
    they where all these rows are the same runs."""
    found = []
    for metric in frame["metric"].unique():
        differences = frame[frame["metric"] == difference_of(metric)]
        cells = frame[(frame["metric"] == metric) & (frame["status"] == "measured")].dropna(subset=["reported"])
        for dataset, every in cells.groupby("dataset", sort=False):
            again = every.duplicated(["train_key", "eval_key"])
            lines, repeated = every[~again], every.loc[again, "row"]
            if len(differences) and len(lines) > 1:
                compared = differences[(differences["dataset"] == dataset) & (differences["status"] == "measured")]
                compared = compared[~compared["row"].isin(repeated)]
                found.append(_agreement(str(metric), str(dataset), lines, compared, evidence))
    return found


def _agreement(
    metric: str,
    dataset: str,
    lines: pd.DataFrame,
    differences: pd.DataFrame,
    evidence: Mapping[tuple[int, str], Evidence],
) -> Agreement:
    first = lines.iloc[0]
    tau, low, high = _order(metric, dataset, lines, evidence)
    stated = differences[differences["reported"].notna() & (differences["reported"] != 0)]
    sign = np.sign(stated["reported"].to_numpy())
    resolved = np.where(stated["ci_low"] > 0, 1, np.where(stated["ci_high"] < 0, -1, 0))
    widths = differences["ci_high"] - differences["ci_low"]
    return Agreement(
        paper=str(first["paper"]),
        table=str(first["table"]),
        scale=str(first["scale"]),
        dataset=dataset,
        metric=metric,
        rows=len(lines),
        tau=tau,
        tau_low=low,
        tau_high=high,
        compared=len(stated),
        same_sign=int((np.sign(stated["measured"].to_numpy()) == sign).sum()),
        resolved=int((resolved == sign).sum()),
        opposite=int((resolved == -sign).sum()),
        visible=round(float(widths.median()) / _INTERVAL * _SEEN, DECIMALS) if len(widths) else math.nan,
    )


def _order(
    metric: str, dataset: str, lines: pd.DataFrame, evidence: Mapping[tuple[int, str], Evidence]
) -> tuple[float, float, float]:
    """Kendall's tau, and its interval over the draws of videos and seeds that the table's intervals come from."""
    reported = lines["reported"].to_numpy()
    tau = float(kendall_tau(reported, lines["measured"].to_numpy()[None])[0])
    known = [evidence[int(row), dataset].evaluations for row in lines["row"]]
    sources = [[run.sources[metric] for run in runs if metric in run.sources] for runs in known]
    videos = [source.resampled.video_ids for runs in sources for source in runs]
    if any(not np.array_equal(ids, videos[0]) for ids in videos):
        return round(tau, DECIMALS), math.nan, math.nan
    draws = video_draws(len(videos[0]), REPLICATES, SEED)
    means = []
    for runs in sources:
        drawn = [source.resampled.summaries(draws, [source.statistic])[source.statistic] for source in runs]
        means.append(mean_over_drawn_runs(np.stack(drawn), SEED))
    low, high = percentile_interval(kendall_tau(reported, np.stack(means, axis=1)))
    return round(tau, DECIMALS), round(low, DECIMALS), round(high, DECIMALS)


def kendall_tau(reported: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of one order with each of several: (N,), (R, N) -> (R,).

    NaN where either has no two different numbers, or a number is NaN.
    """
    first, second = np.triu_indices(len(reported), 1)
    ours, theirs = np.sign(measured[:, first] - measured[:, second]), np.sign(reported[first] - reported[second])
    with np.errstate(invalid="ignore", divide="ignore"):
        return (ours * theirs).sum(1) / np.sqrt((ours**2).sum(1) * (theirs**2).sum())


def sentence(agreement: Agreement) -> str:
    """A footnote."""
    found = agreement
    where = f" on {found.dataset}" if found.dataset else ""
    parts = []
    if found.compared:
        parts.append(
            f"{found.same_sign} of {found.compared} differences have the paper's sign ({found.resolved} resolved, "
            f"{found.opposite} resolved against it)"
        )
    if not math.isnan(found.tau):
        interval = "" if math.isnan(found.tau_low) else f" [{found.tau_low:.2f}, {found.tau_high:.2f}]"
        parts.append(f"Kendall's tau of the order of {found.rows} rows {found.tau:.2f}{interval}")
    if not math.isnan(found.visible):
        parts.append(f"a difference of {found.visible:.1f} would be resolved in 4 of 5 repetitions")
    return f"Agreement with the paper{where}, {found.metric}: {'; '.join(parts)}."


def update(folder: Path, table: str, found: Sequence[Agreement]) -> None:
    """Replace a table's lines in the agreement.csv of a paper, sorted by table; the file is written whole or not at
    all. folder: reports/SCALE/PAPER."""
    path, kept = folder / FILE, read(folder)
    kept = kept[kept["table"] != table]
    new = pd.DataFrame([vars(each) for each in found], columns=list(COLUMNS))
    if kept.empty and new.empty and not path.exists():
        return
    whole = pd.concat([each for each in (kept, new) if len(each)] or [new])
    with atomic_path(path) as temporary:
        whole.sort_values("table", kind="stable").to_csv(temporary, index=False, lineterminator="\n")


def read(folder: Path) -> pd.DataFrame:
    """The agreement.csv of a paper; no lines where there is none. Raises UserError for another file."""
    path = folder / FILE
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    try:
        frame = pd.read_csv(path, dtype={"dataset": str, "table": str})
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if tuple(frame.columns) != COLUMNS:
        raise UserError(f"{path}: its columns are {', '.join(frame.columns)}; expected {', '.join(COLUMNS)}")
    return frame
