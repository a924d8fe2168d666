"""How consistently finished runs track at every score threshold (`metrics.score_levels`), row by row of a table."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vislab.errors import UserError
from vislab.metrics.best_tracks import distinct_tracks
from vislab.metrics.frame_overlap import SCORE_THRESHOLD
from vislab.metrics.inputs import GroundTruth, Instance
from vislab.metrics.mot import MotCounts, mot_instances
from vislab.metrics.numbers import bounds, is_count
from vislab.metrics.score_levels import ScoreLevels, most_tracks, score_levels, tracks_per_object
from vislab.metrics.statistics import bootstrap, paired_difference
from vislab.report.runs.chosen_runs import shared_videos
from vislab.report.runs.stored_runs import Group
from vislab.report.runs.video_panels import predictions

__all__ = ["MEASURES", "RowLevels", "describe_rows", "row_levels"]

MEASURES = ("IDF1", "MOTA", "IDs")
_STEPS = tuple(2.0 ** (step / 2) for step in range(-4, 14))  # a quarter of a track per object and more


@dataclass(frozen=True)
class RowLevels:
    """A row's runs, which differ in their seed, on the same videos.

    levels: of each run, all at the same ratios. usual: of each run, every track that scores 0.3 or more, as tables have
    it; usual_ratio: how many these are per labelled object, mean over runs.
    """

    label: str
    levels: tuple[ScoreLevels, ...]
    usual: tuple[MotCounts, ...]
    usual_ratio: float

    @property
    def ratios(self) -> tuple[float, ...]:
        return self.levels[0].ratios

    def equal(self) -> tuple[MotCounts, ...]:
        """Of each run at as many tracks as there are labelled objects, or at all of its tracks if they are fewer."""
        place = self.ratios.index(min(1.0, self.ratios[-1]))
        return tuple(each.counts[place] for each in self.levels)

    def best(self) -> tuple[MotCounts, ...]:
        """Of each run at the threshold that is best on other videos; raises UserError for a single video."""
        return tuple(each.best_on_others() for each in self.levels)


def row_levels(groups: Sequence[Group]) -> list[RowLevels]:
    """Of rows that were evaluated on the same videos; of rows that are the same runs, the first.

    Raises UserError where videos differ, predictions are gone, or a run found no track at all.
    """
    distinct: dict[tuple[tuple[str, str], ...], Group] = {}
    for group in groups:
        distinct.setdefault(tuple(group.keys), group)
    videos = shared_videos([run for group in groups for run in group.runs])
    return [_row(group, [predictions(run, videos) for run in group.runs], videos.truth) for group in distinct.values()]


def _row(group: Group, found: Sequence[Sequence[Instance]], truth: GroundTruth) -> RowLevels:
    most = min(most_tracks(truth, each) for each in found)
    if most == 0:
        raise UserError(f"row {group.label} on {group.dataset}: a run of it found no track, nothing to compare")
    ratios = (*(step for step in _STEPS if step < most), most)
    usual = [[each for each in distinct_tracks(run) if each.score >= SCORE_THRESHOLD] for run in found]
    return RowLevels(
        group.label,
        tuple(score_levels(truth, run, ratios) for run in found),
        tuple(mot_instances(truth, run) for run in found),
        sum(tracks_per_object(truth, run) for run in usual) / len(usual),
    )


def describe_rows(rows: Sequence[RowLevels]) -> Iterator[str]:
    """Lines of text: each measure with its 95 % interval over videos under three rules, and what the first row differs
    from the others by, in percentage points; IDs are numbers of switches."""
    yield f"every track that scores {SCORE_THRESHOLD:g} or more, as in the table"
    yield from _rule([row.usual for row in rows], [f"{row.label} ({row.usual_ratio:.2f} per object)" for row in rows])
    labels = [row.label for row in rows]
    yield "as many tracks as there are labelled objects, those that score highest"
    yield from _rule([row.equal() for row in rows], labels)
    yield "the score threshold of highest IDF1 on every second video for the others"
    yield from _rule([row.best() for row in rows], labels)


def _rule(rows: Sequence[Sequence[MotCounts]], labels: Sequence[str]) -> Iterator[str]:
    for label, counts in zip(labels, rows, strict=True):
        yield f"  {label}: " + ", ".join(_value(name, counts) for name in MEASURES)
        if counts is not rows[0]:
            yield "    against the first: " + ", ".join(_difference(name, counts, rows[0]) for name in MEASURES)


def _value(name: str, counts: Sequence[MotCounts]) -> str:
    found = bootstrap(counts, name, bounds=bounds(name))
    return f"{name} {_number(name, found.value)} [{_number(name, found.ci_low)}, {_number(name, found.ci_high)}]"


def _difference(name: str, counts: Sequence[MotCounts], others: Sequence[MotCounts]) -> str:
    found = paired_difference(counts, others, name)
    show = functools.partial(_number, name, sign="+")
    return f"{name} {show(found.difference)} [{show(found.ci_low)}, {show(found.ci_high)}]"


def _number(name: str, value: float, sign: str = "") -> str:
    return f"{value if is_count(name) else 100 * value:{sign}.1f}"
