"""IFR's figures 1 and 5 from results in which it is known what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ifr
import ifr_figures
import numpy as np
import pandas as pd
import pytest
from ifr_figures import FIGURES
from plot_figures import main
from store_figures import Choice

from vislab import rle
from vislab.config import to_dict
from vislab.data import DatasetConfig, load_dataset
from vislab.errors import UserError
from vislab.records import RunStore, write_json
from vislab.report.figures.track_strips import Strip
from vislab.report.tables.files import csv_text
from vislab.report.tables.frames import COLUMNS

DATA = DatasetConfig("synthetic-ytvis19+objects=2", num_videos=6, height=64, width=96, length=10, num_categories=4)
NAME = DATA.name
AT = 5  # the frame in which something happens
Tracks = list[list[Any]]  # of one video: of each track a mask or None for each frame


def change(one: list[Any], two: list[Any]) -> Tracks:
    return [[*one[:AT], *[None] * (10 - AT)], [*[None] * AT, *one[AT:]], two]


def switch(one: list[Any], two: list[Any]) -> Tracks:
    return [[*one[:AT], *two[AT:]], [*two[:AT], *one[AT:]]]


def loss(one: list[Any], two: list[Any]) -> Tracks:
    return [[*one[:AT], None, *one[AT + 1 :]], two]


def merge(one: list[Any], two: list[Any]) -> Tracks:
    """The larger object's track takes the smaller one in."""
    small, large = sorted((one, two), key=lambda track: int(decoded(track[AT]).sum()))
    both = rle.encode(decoded(one[AT]) | decoded(two[AT]))
    return [[*small[:AT], *[None] * (10 - AT)], [*large[:AT], both, *large[AT + 1 :]]]


def decoded(mask: Any) -> np.ndarray:
    return np.zeros((64, 96), bool) if mask is None else rle.decode(mask, 64, 96, "test")


def right(one: list[Any], two: list[Any]) -> Tracks:
    return [one, two]


def results(*videos: Any) -> list[dict[str, Any]]:
    """What a model finds in each video, made of its two objects."""
    truth = load_dataset(DATA, "valid").ground_truth()
    found = []
    for number, (record, make) in enumerate(zip(truth["videos"], videos, strict=True)):
        objects = [own for own in truth["annotations"] if own["video_id"] == record["id"]]
        for n, track in enumerate(make(*(own["segmentations"] for own in objects))):
            score = 0.9 - 0.01 * n - 0.001 * number
            found.append({"video_id": record["id"], "category_id": 1, "score": score, "segmentations": track})
    return found


BASELINE = (change, switch, loss, right, right, merge)
OWN = (right, right, right, right, loss, right)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Evaluations of the two models on the same videos."""
    store, dataset = RunStore(tmp_path / "runs"), load_dataset(DATA, "valid")
    for key, videos in (("base", BASELINE), ("own", OWN)):
        folder, evaluation = store.eval_dir(key, "eval"), {"data": to_dict(DATA), "split": "valid"}
        write_json(store.train_dir(key) / "config.json", {"seed": 0, "scale": "tiny", "evaluation": evaluation})
        write_json(folder / "config.json", evaluation)
        write_json(folder / "result.json", {"data_fingerprint": dataset.fingerprint()})
        (folder / "predictions.json").write_text(json.dumps(results(*videos)))
    return store


def report(*rows: tuple[int, str]) -> pd.DataFrame:
    """Of T3; rows: number and training key."""
    common = {"paper": "ifr", "table": "T3", "metric": "IDs", "scale": "tiny", "n": 1, "status": "measured"}
    labels = {row.index: row.label for row in ifr.T3.rows}
    lines = [
        common | {"row": row, "label": labels[row], "dataset": NAME, "train_key": key, "eval_key": "eval"}
        for row, key in rows
    ]
    return pd.DataFrame(lines, columns=list(COLUMNS))


FRAME = report((0, "base"), (2, "own"))


def strips(monkeypatch: pytest.MonkeyPatch, name: str, store: RunStore, choice: Choice = Choice()) -> list[Strip]:  # noqa: B008
    """What a figure passes on to be drawn."""
    caught: list[list[Strip]] = []
    monkeypatch.setattr(ifr_figures, "draw_strips", caught.append)
    FIGURES[name].of("T3", store, choice).draw(FRAME)
    return caught[0]


def test_each_kind_is_found_where_it_happens(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = strips(monkeypatch, "Fig1", store)
    kinds = {"identity change": (0, 1), "identity switch": (1, 2), "loss": (2, 1), "merge": (5, 1)}
    for strip, (words, (video, count)) in zip(found, kinds.items(), strict=True):
        above, below = strip.rows
        kind = words.removeprefix("identity ")
        assert above.title.startswith(f"{words}, video 0000{video}; Mask2Former: {count} in all videos; in {count} ")
        assert below.title.startswith(f"Ours: {1 if kind == 'loss' else 0} in all videos; in ")
        assert above.marks[strip.numbers.index(AT)] == kind and [*above.marks].count("") == 5
        assert set(below.marks) == {""} and len(strip.numbers) == 6 and AT - 1 in strip.numbers
        truth = load_dataset(DATA, "valid")
        np.testing.assert_array_equal(strip.frames, truth.frames(video, strip.numbers))
        masks = truth.annotations(video, strip.numbers).masks
        assert any(np.array_equal(np.stack([own for (own,) in above.outlined]), each) for each in masks)
        assert len(above.tracks) == 2 == len(below.tracks)
    text = capsys.readouterr().out
    assert "row 0 Mask2Former, ResNet-50, YTVIS-19 and row 2 Ours, ResNet-50, YTVIS-19, seed 0: 12 objects in 6" in text
    assert "  Mask2Former, 12 tracks; the object is kept by Ours, failed at too, not found:" in text
    baseline, own, *_ = text.split("kept by ")[1:]
    for line in (
        "identity change     1 = 1 + 0 + 0",
        "identity switch     2 = 2 + 0 + 0",
        "merge               1 = 1 +",
    ):
        assert line in baseline
    assert "loss                1 = 1 + 0 + 0" in own and "identity change     0" in own


def test_videos_from_most_in_favour_to_most_against(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = strips(monkeypatch, "Fig5", store)
    starts = [
        f"video 0000{video} ({why} of 5 videos); Mask2Former: 2 of 2 objects found, events in the video: {count}"
        for video, why, count in ((1, "most in favour of Ours", 2), (2, "median", 1), (4, "most against Ours", 0))
    ]
    assert [strip.rows[0].title for strip in found] == starts
    assert found[2].rows[1].title == "Ours: 2 of 2 objects found, events in the video: 1"
    assert [[mark for mark in row.marks if mark] for strip in found for row in strip.rows] == [
        ["switch"], [], ["loss"], [], [], ["loss"],
    ]  # fmt: skip
    at = found[0].numbers.index(AT)
    assert [len(masks) for masks in found[0].rows[0].outlined] == [2 if t == at else 0 for t in range(6)]
    assert "of 6 videos Ours has fewer events than Mask2Former in 4, more in 1" in capsys.readouterr().out


def test_a_named_video_is_the_only_one(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    (strip,) = strips(monkeypatch, "Fig5", store, Choice(video="2"))
    assert strip.rows[0].title.startswith("video 00002; Mask2Former: ")
    (only,) = strips(monkeypatch, "Fig1", store, Choice(video="00005"))
    assert only.rows[0].title.startswith("merge, video 00005; Mask2Former: 1 in all videos")


def test_the_other_way_round_with_rows_in_another_order(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (strip,) = strips(monkeypatch, "Fig1", store, Choice(rows=(2, 0)))
    above, below = (row.title for row in strip.rows)
    assert above == "loss, video 00004; Ours: 1 in all videos; in 1 of them Mask2Former keeps the object"
    assert below == "Mask2Former: 1 in all videos; in 1 of them Ours keeps the object"
    capsys.readouterr()
    found = strips(monkeypatch, "Fig5", store, Choice(rows=(2, 0)))
    assert found[0].rows[0].title.startswith("video 00004 (most in favour of Mask2Former of 5 videos); Ours: 2 of 2")
    assert "of 6 videos Mask2Former has fewer events than Ours in 1, more in 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ((0, 2), ("Mask2Former", "Ours")),
        ((2, 4), ("Ours ResNet-50", "Ours Swin-L 200 queries")),
        ((3, 4), ("Ours", "Ours 200 queries")),
    ],
)
def test_models_are_called_what_tells_their_labels_apart(
    store: RunStore, rows: tuple[int, int], names: tuple[str, str]
) -> None:
    frame = report((rows[0], "base"), (rows[1], "own"))
    assert ifr_figures.compared(store, frame, Choice(rows=rows)).names == names
    alike = frame.assign(label="Ours")
    numbered = ifr_figures.compared(store, alike, Choice(rows=rows)).names
    assert numbered == (f"row {rows[0]} Ours", f"row {rows[1]} Ours")


@pytest.mark.parametrize(
    ("figure", "frame", "choice", "sentence"),
    [
        ("Fig1", FRAME, Choice(video="9"), "no video '9'; expected positions from 0 to 5"),
        ("Fig1", FRAME, Choice(video="3"), "nothing happens to an identity with Mask2Former, nothing"),
        ("Fig5", FRAME, Choice(video="3"), "nothing happens to an identity, nothing to draw"),
        ("Fig1", FRAME, Choice(seed=4), "row 0 Mask2Former, .* on .*: no run with seed 4; its seeds are 0"),
        ("Fig1", FRAME, Choice(rows=(0,)), "--rows is 0, expected two rows to compare, such as 0,2"),
        ("Fig1", FRAME, Choice(rows=(2, 2)), "--rows is 2,2, expected two rows to compare"),
        ("Fig5", report((2, "own"), (3, "own")), Choice(rows=(2, 3)), "rows 2 and 3 are the same runs at this scale"),
        ("Fig5", FRAME, Choice(rows=(0, 5)), "--rows: ifr T3 has no run of row 5 on"),
        ("Fig5", report((0, "base"), (1, "own")), Choice(), r"are not both measured: there are runs of rows \[0, 1\]"),
        ("Fig5", FRAME, Choice(dataset="synthetic-ovis"), "ifr T3 is not measured on synthetic-ovis, but on"),
    ],
)
def test_mistakes_get_one_sentence(
    store: RunStore, figure: str, frame: pd.DataFrame, choice: Choice, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        FIGURES[figure].of("T3", store, choice).draw(frame)


def test_command_draws_both(store: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--runs", str(store.root), "--reports", str(tmp_path / "reports")]
    assert main(["ifr", "fig1", "Fig5", *options]) == 2
    assert "make it with: reproduce_table.py ifr T3 --scale tiny" in capsys.readouterr().err
    path = tmp_path / "reports" / "tiny" / "ifr" / "T3.csv"
    path.parent.mkdir(parents=True)
    path.write_text(csv_text(FRAME))
    assert main(["ifr", "fig1", "Fig5", "--video", "2", *options]) == 0
    folder, written = tmp_path / "reports/tiny/ifr/figures", capsys.readouterr().out
    for name in ("Fig1.pdf", "Fig1.png", "Fig5.pdf", "Fig5.png"):
        assert str(folder / name) in written and (folder / name).stat().st_size
