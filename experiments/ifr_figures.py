"""IFR's figures 1 and 5, from two rows of its table T3: where identities go wrong, the baseline's result above IFR's.

    python experiments/plot_figures.py ifr Fig1 Fig5 --scale tiny
    python experiments/plot_figures.py ifr Fig5 --scale tiny --trained-on synthetic-ytvis21 --seed 1 --video 3

Two other rows can be named with --rows, the first to be compared with the second; models are called what tells their
labels in the table apart. What is drawn is found in the two results alone. All that is found is printed, the second
model's own failures too, under two rules:
with as many of each model's best tracks as a video has labelled objects, matched by masks, which is what the figures
show; and as in T3, with all tracks that score 0.3 or more, matched by boxes. There a model that scores low has few
tracks to confuse.

Shape letters: T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import ifr
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from store_figures import Choice, StoreFigure, chosen_groups, rows_with_runs

from vislab import rle
from vislab.errors import UserError
from vislab.metrics.best_tracks import best_tracks
from vislab.metrics.frame_overlap import SCORE_THRESHOLD
from vislab.metrics.identity_events import (
    FATES,
    KINDS,
    IdentityEvent,
    Kind,
    VideoIdentities,
    count_fates,
    find_identities,
)
from vislab.metrics.inputs import Instance
from vislab.records import RunStore
from vislab.report.figures.track_strips import Strip, StripRow, draw_strips, identity_tracks
from vislab.report.runs.chosen_runs import one_video, run_of_seed, shared_videos
from vislab.report.runs.labelled_videos import LabelledVideos
from vislab.report.runs.stored_runs import Group
from vislab.report.runs.video_panels import predictions
from vislab.report.videos.tracks import Track

_FRAMES = 6
_WORDS: dict[Kind, str] = {"change": "identity change", "switch": "identity switch", "loss": "loss", "merge": "merge"}
_PAIRS = tuple((row.baseline, row.index) for row in ifr.T3.rows if row.baseline is not None)

Identities = Mapping[int, VideoIdentities]  # by a video's id
Example = tuple[int, IdentityEvent, int]  # a video's id, what happens in it, and the first frame that is shown


@dataclass(frozen=True)
class Pair:
    """Two models on the same videos, such as the baseline and IFR.

    names: what they are called. results: all that they found. sides: the identities of each one's best tracks, matched
    by masks. shown: ids of the videos that may be drawn.
    """

    names: tuple[str, str]
    videos: LabelledVideos
    results: tuple[list[Instance], list[Instance]]
    sides: tuple[Identities, Identities]
    shown: tuple[int, ...]


def kinds_of_inconsistency(store: RunStore, frame: pd.DataFrame, choice: Choice) -> Figure:
    """Fig. 1: of each kind one object that it happens to with the first model, outlined in white; prints the counts.

    One that the second keeps, if there is any; else one that it fails at too, else one that it does not find. Of these
    the object that is largest before and after.
    """
    pair = compared(store, frame, choice)
    print("\n".join(summary(pair)))
    examples = {kind: _largest(pair, kind) for kind in KINDS}
    strips = [_strip_of_kind(pair, *example) for example in examples.values() if example is not None]
    if not strips:
        where, first = pair.videos.dataset.name, pair.names[0]
        raise UserError(f"{where}: nothing happens to an identity with {first}, nothing to draw")
    return draw_strips(strips)


def sequences(store: RunStore, frame: pd.DataFrame, choice: Choice) -> Figure:
    """Fig. 5: the video in which the second model has fewer events than the first by most, that of the median
    difference (of an even number the one less in favour) and the one in which it has more by most; of each the frames
    with most events.

    Only videos in which something happens with either are counted. White lines: the objects that it happens to.
    """
    pair = compared(store, frame, choice)
    counts = {video_id: [len(side[video_id].events) for side in pair.sides] for video_id in pair.shown}
    ranked = sorted((own - base, video_id) for video_id, (base, own) in counts.items() if base + own)
    if not ranked:
        raise UserError(f"{pair.videos.dataset.name}: nothing happens to an identity, nothing to draw")
    fewer, more = (sum(sign * own > sign * base for base, own in counts.values()) for sign in (-1, 1))
    first, second = pair.names
    print(f"of {len(counts)} videos {second} has fewer events than {first} in {fewer}, more in {more}")
    places = {f"most in favour of {second}": 0, "median": len(ranked) // 2, f"most against {second}": len(ranked) - 1}
    reasons: dict[int, str] = {}
    for why, place in places.items():
        reasons.setdefault(ranked[place][1], f" ({why} of {len(ranked)} videos)" if choice.video is None else "")
    return draw_strips([_strip_of_video(pair, video_id, why) for video_id, why in reasons.items()])


def compared(store: RunStore, frame: pd.DataFrame, choice: Choice) -> Pair:
    """Two rows of the table. Raises UserError for rows, runs or a video that are not there."""
    groups = _two_rows(store, frame, choice)
    runs = [run_of_seed(group, choice.seed) for group in groups]
    videos = shared_videos(runs)
    truth = videos.truth
    before, after = (predictions(run, videos) for run in runs)
    base, own = (find_identities(truth, best_tracks(truth, found), "mask") for found in (before, after))
    which = " and ".join(f"row {group.label}" for group in groups)
    objects = sum(not instance.is_crowd for instance in truth.instances)
    print(f"{which}, seed {choice.seed}: {objects} objects in {len(truth.videos)} videos of {groups[0].dataset}")
    indices = range(len(videos.dataset)) if choice.video is None else [one_video(videos, choice.video)]
    known = (videos.dataset.info(index) for index in indices)
    shown = tuple(info.id for info in known if info.length >= _FRAMES and info.id in base.keys() & own.keys())
    if not shown:
        raise UserError(f"{groups[0].dataset}: no video with objects has {_FRAMES} frames or more")
    return Pair(_names([group.label for group in groups]), videos, (before, after), (base, own), shown)


def summary(pair: Pair) -> list[str]:
    """How often each kind happens in all videos, in lines; under T3's rule too."""
    base, own = (find_identities(pair.videos.truth, found, "box", SCORE_THRESHOLD) for found in pair.results)
    return [
        "the best tracks of each model, as many as objects, matched by masks:",
        *_counts(pair.names, pair.sides),
        f"all tracks that score {SCORE_THRESHOLD} or more, matched by boxes, as in T3:",
        *_counts(pair.names, (base, own)),
    ]


def _counts(names: tuple[str, str], sides: tuple[Identities, Identities]) -> Iterator[str]:
    """Both ways, and by what becomes of the object with the other model."""
    for name, other, own, others in zip(names, names[::-1], sides, sides[::-1], strict=True):
        counts = count_fates(own, others)
        tracks = sum(len(video.found) for video in own.values())
        yield f"  {name}, {tracks} tracks; the object is kept by {other}, failed at too, not found:"
        for kind in KINDS:
            fates = [counts[kind, fate] for fate in FATES]
            yield f"    {_WORDS[kind]:16}{sum(fates):5} = {' + '.join(map(str, fates))}"


def _two_rows(store: RunStore, frame: pd.DataFrame, choice: Choice) -> list[Group]:
    """The rows that were chosen, else the first baseline and IFR of T3 that both have runs."""
    if choice.rows is not None and (len(choice.rows) != 2 or choice.rows[0] == choice.rows[1]):
        raise UserError(f"--rows is {','.join(map(str, choice.rows))}, expected two rows to compare, such as 0,2")
    having = rows_with_runs(frame, choice)
    rows = choice.rows or next((pair for pair in _PAIRS if {*pair} <= {*having}), None)
    if rows is None:
        raise UserError(f"IFR and its baseline are not both measured: there are runs of rows {having}")
    first, second = chosen_groups(store, frame, replace(choice, rows=rows))
    if first.keys == second.keys:
        raise UserError(f"rows {rows[0]} and {rows[1]} are the same runs at this scale, nothing to compare")
    return [first, second]


def _names(labels: Sequence[str]) -> tuple[str, str]:
    """What two rows are called: of their labels, number first, the method and what only one of them has.

    "0 Mask2Former, ResNet-50, YTVIS-19" and "2 Ours, ResNet-50, YTVIS-19" are "Mask2Former" and "Ours".
    """
    one, two = (label.partition(" ")[2].split(", ") for label in labels)
    first, second = (
        " ".join([own[0], *(part for part in own[1:] if part not in other)]) for own, other in ((one, two), (two, one))
    )
    return (first, second) if first != second else (f"row {labels[0]}", f"row {labels[1]}")


def _largest(pair: Pair, kind: Kind) -> Example | None:
    """The example of a kind that Fig. 1 draws."""
    base, own = pair.sides
    found = []
    for video_id in pair.shown:
        for event in base[video_id].events:
            if event.kind == kind and event.frame - event.before < _FRAMES:
                areas = base[video_id].truths[event.owner].mask_areas
                fate = FATES.index(own[video_id].fate(event))
                found.append((fate, -int(min(areas[event.before], areas[event.frame])), video_id, event))
    if not found:
        return None
    *_, video_id, event = min(found, key=lambda example: example[:3])
    middle = (event.before + event.frame + 1) // 2
    return video_id, event, min(max(middle - _FRAMES // 2, 0), len(base[video_id].partners) - _FRAMES)


def _strip_of_kind(pair: Pair, video_id: int, event: IdentityEvent, first: int) -> Strip:
    titles = []
    for name, other, own, others in zip(pair.names, pair.names[::-1], pair.sides, pair.sides[::-1], strict=True):
        counts = count_fates(own, others)
        total, kept = sum(counts[event.kind, fate] for fate in FATES), counts[event.kind, "kept"]
        titles.append(f"{name}: {total} in all videos; in {kept} of them {other} keeps the object")
    titles[0] = f"{_WORDS[event.kind]}, video {_video_name(pair, video_id)}; {titles[0]}"
    return _strip(pair, video_id, first, titles, event.owner)


def _strip_of_video(pair: Pair, video_id: int, why: str) -> Strip:
    sides = [side[video_id] for side in pair.sides]
    happening = np.bincount([e.frame for side in sides for e in side.events], minlength=len(sides[0].partners))
    first = int(np.convolve(happening, np.ones(_FRAMES, int), "valid").argmax())
    titles = []
    for name, side in zip(pair.names, sides, strict=True):
        matched = int((side.partners >= 0).any(axis=0).sum())
        titles.append(f"{name}: {matched} of {len(side.truths)} objects found, events in the video: {len(side.events)}")
    titles[0] = f"video {_video_name(pair, video_id)}{why}; {titles[0]}"
    return _strip(pair, video_id, first, titles)


def _video_name(pair: Pair, video_id: int) -> str:
    return pair.videos.dataset.info(pair.videos.indices[video_id]).name


def _strip(pair: Pair, video_id: int, first: int, titles: Sequence[str], owner: int | None = None) -> Strip:
    """owner: the object that the strip is about; None: all of them."""
    frames = range(first, first + _FRAMES)
    rows = [
        _row(title, identity_tracks(pair.videos.truth, side[video_id].found, video_id), side[video_id], frames, owner)
        for title, side in zip(titles, pair.sides, strict=True)
    ]
    return Strip(pair.videos.dataset.frames(pair.videos.indices[video_id], frames), frames, rows)


def _row(title: str, tracks: list[Track], side: VideoIdentities, frames: range, owner: int | None) -> StripRow:
    events = [[e for e in side.events if e.frame == t and owner in (None, e.owner)] for t in frames]
    outlined = [{e.owner for e in found} if owner is None else {owner} for found in events]
    return StripRow(
        title,
        tracks,
        on_top=[[n for n in side.partners[t].tolist() if n >= 0] for t in frames],
        outlined=[[*_masks(side, owners, t)] for owners, t in zip(outlined, frames, strict=True)],
        marks=[", ".join(dict.fromkeys(e.kind for e in found)) for found in events],
    )


def _masks(side: VideoIdentities, owners: Iterable[int], frame: int) -> Iterator[np.ndarray]:
    """Labelled masks (H, W) bool of objects, where they are visible."""
    for owner in owners:
        code = side.truths[owner].track[frame]
        if code is not None:
            yield rle.decode_checked(code)


FIGURES: dict[str, StoreFigure] = {
    "Fig1": StoreFigure("identities that change, switch, are lost or merge, beside IFR", kinds_of_inconsistency, "T3"),
    "Fig5": StoreFigure("videos with the identities of the baseline and of IFR", sequences, "T3"),
}
