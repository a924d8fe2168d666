"""The best and the worst videos: chosen by their own AP, drawn with labels and predictions."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from report_store import EVAL, KEYS, make_store

from vislab.errors import UserError
from vislab.metrics.matches import Matches
from vislab.records import RunStore
from vislab.report.runs.labelled_videos import labelled_videos
from vislab.report.runs.stored_runs import StoredRun
from vislab.report.runs.video_panels import Ranked, best_and_worst, predictions, video_figure


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return make_store(tmp_path_factory.mktemp("runs"))


def test_videos_are_ranked_by_their_own_ap_and_stand_once(store: RunStore) -> None:
    run = StoredRun(store, KEYS[0], EVAL)
    matches = Matches.load(run.eval_folder / "matches.npz")
    alone = {
        int(video): matches.summary((matches.video_ids == video).astype(np.int64))["AP"] for video in matches.video_ids
    }
    found = best_and_worst([run], 2)
    assert [each.best for each in found] == [True, True, False, False]
    assert sorted(each.video_id for each in found) == sorted(alone)
    assert all(each.value == pytest.approx(alone[each.video_id]) for each in found)
    assert found[0].value >= found[1].value >= found[3].value >= found[2].value
    assert found[2].value < 1, "three objects were not found"
    assert len(best_and_worst([run], 9)) == 4 and best_and_worst([run], 0) == []


def test_a_figure_shows_labels_and_predictions_of_every_run(store: RunStore) -> None:
    full, poor = StoredRun(store, KEYS[2], EVAL), StoredRun(store, KEYS[0], EVAL)
    videos = labelled_videos(full)
    first = next(iter(videos.truth.videos))
    shown = {"full": predictions(full, videos), "p<oor": predictions(poor, videos)}
    text = video_figure(Ranked(first, 0.5, True), videos, shown)
    assert "AP of this video alone 50.0" in text and "p&lt;oor" in text
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), dtype=int)
        for content in re.findall(r"base64,([^\"]+)", text)
    ]
    image, truth, found, missed = (pictures[start] for start in range(0, 12, 3))  # frame 0 of three
    assert image.shape == (180, 240, 3)
    assert np.abs(truth - image).mean() > 1, "labels are drawn"
    assert np.abs(missed - image).mean() < np.abs(found - image).mean()


def test_gone_data_is_a_mistake_of_the_user(store: RunStore) -> None:
    run = StoredRun(store, KEYS[0], EVAL)
    run.result["data_fingerprint"] = "0ther"
    with pytest.raises(UserError, match="evaluated on data with fingerprint 0ther, but synthetic-ytvis19 now has"):
        labelled_videos(run)
