"""Overlays of a table's rows: which video, which tracks, which words above them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from report_store import EVAL, KEYS, make_store

from vislab.errors import UserError
from vislab.metrics.matches import Matches
from vislab.records import RunStore, read_json, write_json
from vislab.report.figures.table_overlays import draw_table_overlays
from vislab.report.runs.chosen_runs import shared_videos
from vislab.report.runs.stored_runs import Group, StoredRun

DATA = "synthetic-ytvis19"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return make_store(tmp_path / "runs")


def groups(store: RunStore) -> list[Group]:
    """Two seeds of a model that misses three objects, and one that finds all."""
    runs = [StoredRun(store, key, EVAL) for key in KEYS]
    return [Group("0 poor", DATA, tuple(runs[:2])), Group("1 full", DATA, tuple(runs[2:]))]


def titles(figure: Figure) -> list[str]:
    return [title for axes in figure.axes if (title := axes.get_title(loc="left"))]


def of_video(store: RunStore, key: str, index: int) -> float:
    matches = Matches.load(store.eval_dir(key, EVAL) / "matches.npz")
    return matches.summary((np.arange(4) == index).astype(np.int64))["AP"]


def test_the_video_of_median_ap_below_its_ground_truth(store: RunStore) -> None:
    means = [(of_video(store, KEYS[0], index) + of_video(store, KEYS[2], index)) / 2 for index in range(4)]
    median = np.argsort(means, kind="stable")[1]
    figure = draw_table_overlays(groups(store))
    first, poor, full = titles(figure)
    assert first == f"ground truth: video 0000{median} of {DATA} (median AP); models of seed 0"
    for title, key in ((poor, KEYS[0]), (full, KEYS[2])):
        assert f": AP {100 * of_video(store, key, median):.1f} in this video, " in title
    assert full.startswith("1 full: AP 100.0 in this video, 100.0 in all; its ") and re.search(
        r"track(s, scores|, score) 0\.8", full
    )
    assert len(figure.axes) == 3 * 3, "three frames are all that the video has"


def test_a_named_video_and_a_least_score(store: RunStore) -> None:
    videos = shared_videos([StoredRun(store, KEYS[0], EVAL)])
    figure = draw_table_overlays(groups(store)[1:], video="00003", min_score=0.5)
    objects = sum(own.video_id == videos.dataset.info(3).id for own in videos.truth.instances)
    first, full = titles(figure)
    assert first == f"ground truth: video 00003 of {DATA}; models of seed 0"
    assert full.endswith(f"{objects} tracks, scores from 0.5")
    assert titles(draw_table_overlays(groups(store), video="3", min_score=1))[1].endswith("; 0 tracks, scores from 1")
    truth, found = figure.axes[:3], figure.axes[3:]
    for one, other in zip(truth, found, strict=True):
        np.testing.assert_array_equal(one.images[0].get_array(), other.images[0].get_array())


def test_what_is_missed_is_not_drawn(store: RunStore) -> None:
    """The first three objects; on a video that has some of them."""
    figure = draw_table_overlays(groups(store), video="0")
    truth, poor = (np.asarray(figure.axes[place].images[0].get_array(), int) for place in (0, 3))
    assert np.abs(truth - poor).max() > 20


def test_rows_that_share_an_evaluation_are_drawn_once(store: RunStore) -> None:
    poor, full = groups(store)
    again = [poor, full, Group("2 full again", DATA, full.runs)]
    assert [title.split(":")[0] for title in titles(draw_table_overlays(again, video="1"))[1:]] == [
        "0 poor",
        "1 full, and 1 more",
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seed": 1}, "row 1 full on synthetic-ytvis19: no run with seed 1; its seeds are 0"),
        ({"video": "9"}, "no video '9'; expected positions from 0 to 3 or names such as '00000'"),
        ({"video": "0,1"}, "--video 0,1 names 2 videos, expected one"),
        ({"min_score": 1.5}, "--min-score is 1.5, expected a number from 0 to 1"),
    ],
)
def test_mistakes_get_one_sentence(store: RunStore, options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        draw_table_overlays(groups(store), **options)


def test_data_that_differs_and_predictions_that_are_gone(store: RunStore) -> None:
    path = store.eval_dir(KEYS[2], EVAL) / "result.json"
    write_json(path, read_json(path) | {"data_fingerprint": "0ther"})
    with pytest.raises(UserError, match=f"runs {KEYS[0]} and {KEYS[2]} were evaluated on different {DATA}"):
        draw_table_overlays(groups(store))
    (store.eval_dir(KEYS[0], EVAL) / "predictions.json").unlink()
    with pytest.raises(UserError, match="predictions.json: cannot be read"):
        draw_table_overlays(groups(store)[:1])
