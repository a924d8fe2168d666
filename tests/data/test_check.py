"""`vislab data check`: counts, warnings and faults that only a full read finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_videos

from vislab.data.check import check
from vislab.errors import UserError


def rewrite(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_summary_counts(tmp_path: Path) -> None:
    file = tiny_videos.write_flat(tmp_path)
    rewrite(file, lambda d: d["annotations"][0].update(iscrowd=1))
    rewrite(file, lambda d: d["categories"].append({"id": 1, "name": "unused"}))
    summary = check(tmp_path)
    assert summary == check(file)
    assert (summary.videos, summary.frames, summary.annotations, summary.masks) == (4, 12, 4, 8)
    assert (summary.null_frames, summary.crowd, summary.lengths) == (4, 1, (3, 3.0, 3))
    assert summary.categories == {"disc": 2, "ring": 2, "unused": 0} and summary.sizes == {(18, 12): 4}
    assert summary.warnings == () and summary.files == ((str(file), 4, 4),)
    text = "\n".join(summary.lines())
    assert "annotations  4 (1 crowd)" in text and "masks        8 (4 null frames)" in text and "18x12 (4)" in text


def test_train_and_valid_are_added_up_also_without_labels(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("valid", 2)):
        tiny_videos.write_flat(tmp_path / split, count)
    rewrite(tmp_path / "valid" / "instances.json", lambda d: d.pop("annotations"))
    summary = check(tmp_path)
    assert (summary.videos, summary.annotations) == (6, 4)
    assert [counts[1:] for counts in summary.files] == [(4, 4), (2, 0)]


def test_warnings_for_what_is_odd_but_usable(tmp_path: Path) -> None:
    file = tiny_videos.write_flat(tmp_path)
    rewrite(file, lambda d: d["annotations"][1]["areas"].__setitem__(2, 50))
    rewrite(file, lambda d: d["annotations"][2].update(segmentations=[None] * 3, areas=[None] * 3, bboxes=[None] * 3))
    first, second = check(tmp_path).warnings
    assert "instances.json: annotation 101: areas[2] is 50, but the mask has 29 pixels" in first
    assert "annotation 102: segmentations has no visible pixel in any frame" in second
    assert sum(line.startswith("warning") for line in check(tmp_path).lines()) == 2


def test_many_warnings_are_cut_short(tmp_path: Path) -> None:
    file = tiny_videos.write_flat(tmp_path, 8)
    rewrite(file, lambda d: [a.update(areas=[1, 1, 1]) for a in d["annotations"]])
    lines = [line for line in check(tmp_path).lines() if line.startswith("warning")]
    assert len(lines) == 11 and lines[-1].endswith("and 6 more")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda path: path.unlink(),
            r"instances.json: video 12: file_names\[1\] is 'clip2/00001.png', expected a file",
        ),
        (
            lambda path: path.write_bytes(b"no image"),
            r"00001.png: video 12: file_names\[1\] cannot be read as an image",
        ),
        (
            lambda path: tiny_videos.Image.new("RGB", (4, 4)).save(path),
            r"00001.png: video 12: file_names\[1\] has 4x4 pixels, expected 18x12",
        ),
    ],
)
def test_faulty_frames_are_found(tmp_path: Path, spoil: Callable[[Path], Any], told: str) -> None:
    tiny_videos.write_flat(tmp_path)
    spoil(tmp_path / "JPEGImages" / "clip2" / "00001.png")
    with pytest.raises(UserError, match=told):
        check(tmp_path)


def test_real_data(real_data: Path) -> None:
    summary = check(real_data / "real-mini")
    assert (summary.videos, summary.frames, summary.masks, summary.null_frames) == (12, 450, 974, 1)
    assert summary.warnings == () and summary.categories["backpack"] == 3 and summary.sizes[640, 360] == 10
