"""Identities on the frames of a video: numbers and colours that stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vislab import rle
from vislab.data import DatasetConfig, load_dataset
from vislab.errors import UserError
from vislab.report.videos.overlays import identity_colour
from vislab.report.videos.video_overlays import OverlayArtist

NAMES = ("cat", "dog")
SIZE = (64, 320)  # as wide as drawings are at least, so that nothing is enlarged


@dataclass(frozen=True)
class Found:
    track_id: int
    label: int
    score: float
    segmentation: rle.RLE | None


def found(track_id: int, column: int | None, score: float = 0.9, label: int = 0) -> Found:
    """A square of 20 pixels from a column on."""
    mask = np.zeros(SIZE, bool)
    if column is not None:
        mask[30:50, column : column + 20] = True
    return Found(track_id, label, score, None if column is None else rle.encode(mask))


def colour_at(picture: Image.Image, column: int) -> tuple[int, ...]:
    """Of the contour, at the lower end of a square."""
    return tuple(np.asarray(picture)[49, column + 10].tolist())


def black() -> np.ndarray:
    return np.zeros((*SIZE, 3), np.uint8)


def test_an_identity_keeps_its_colour_while_others_come_and_go() -> None:
    artist = OverlayArtist(NAMES)
    first = artist.draw(black(), [found(7, 40), found(3, 120, 0.8)])
    second = artist.draw(black(), [found(3, 130, 0.99), found(9, 220)])
    third = artist.draw(black(), [found(9, 220), found(7, 20, 0.31)])
    assert colour_at(first, 40) == colour_at(third, 20) == identity_colour(0)
    assert colour_at(first, 120) == colour_at(second, 130) == identity_colour(1)
    assert colour_at(second, 220) == colour_at(third, 220) == identity_colour(2)
    assert artist.num_identities == 3


def test_what_scores_too_little_is_not_drawn_and_gets_no_number() -> None:
    artist = OverlayArtist(NAMES, min_score=0.5, max_instances=1)
    frame = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(artist.draw(frame, [found(1, 40, 0.49), found(2, None)])), frame)
    assert artist.num_identities == 0
    picture = artist.draw(black(), [found(1, 40, 0.5), found(2, 120, 0.6)])
    assert colour_at(picture, 120) == identity_colour(0) and colour_at(picture, 40) == (0, 0, 0)


def labels_of(artist: OverlayArtist, monkeypatch: pytest.MonkeyPatch, frames: list[list[Found]]) -> list[list[str]]:
    labels: list[list[str]] = []

    def note(frame: np.ndarray, overlays: Any, scale: float) -> Image.Image:
        labels.append([overlay.label for overlay in overlays])
        return Image.fromarray(frame)

    monkeypatch.setattr("vislab.report.videos.video_overlays.draw_overlays", note)
    for instances in frames:
        artist.draw(black(), instances)
    return labels


def test_labels_are_number_category_and_score(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = labels_of(OverlayArtist(NAMES), monkeypatch, [[found(4, 40, 0.456, 1), found(5, 120)]])
    assert labels == [["1 cat 0.90", "2 dog 0.46"]]


def test_one_mask_under_two_categories_is_one_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of its tracks is better at the moment, or left alone; until their masks differ."""
    frames = [
        [found(1, 40, 0.7, 0), found(2, 40, 0.6, 1)],
        [found(1, 50, 0.6, 0), found(2, 50, 0.7, 1)],
        [found(2, 60, 0.7, 1)],
        [found(1, 70, 0.8, 0), found(2, 120, 0.7, 1)],
        [found(1, 70, 0.7, 0), found(2, 120, 0.8, 1)],
    ]
    labels = labels_of(OverlayArtist(NAMES), monkeypatch, frames)
    assert labels == [
        ["1 cat 0.70"],
        ["1 dog 0.70"],
        ["1 dog 0.70"],
        ["1 cat 0.80", "2 dog 0.70"],
        ["2 dog 0.80", "1 cat 0.70"],
    ]


@pytest.mark.parametrize(("width", "scale", "expected"), [(100, None, 320), (500, None, 500), (100, 2.5, 250)])
def test_small_videos_are_enlarged(width: int, scale: float | None, expected: int) -> None:
    assert OverlayArtist(NAMES, scale=scale).draw(np.zeros((50, width, 3), np.uint8), []).width == expected


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"min_score": 1.5}, "--min-score is 1.5"),
        ({"max_instances": 0}, "--max-instances is 0, expected at least 1"),
        ({"scale": 0.0}, "--enlarge is 0"),
    ],
)
def test_arguments_out_of_range(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        OverlayArtist(NAMES, **option)


def test_masks_of_real_video_lie_on_their_objects(real_data) -> None:  # type: ignore[no-untyped-def]
    """Every pixel of a labelled mask is drawn over, and nothing else but the line around it and the tag."""
    dataset = load_dataset(DatasetConfig(f"{real_data / 'real-mini'}+whole"), "valid")
    index = next(index for index in range(len(dataset)) if dataset.info(index).name == "bear")
    artist = OverlayArtist([category.name for category in dataset.categories])
    for frame in (0, 20):
        pixels, truth = dataset.frames(index, [frame])[0], dataset.annotations(index, [frame])
        mask = truth.masks[0, 0]
        code = rle.encode(mask)
        picture = np.asarray(artist.draw(pixels, [Found(int(truth.track_ids[0]), int(truth.labels[0]), 1.0, code)]))
        changed = (picture != pixels).any(axis=-1)
        assert changed[mask].mean() > 0.99 and changed[~mask].mean() < 0.05
        contour = (picture == identity_colour(0)).all(axis=-1)
        assert contour.sum() > 300 and artist.num_identities == 1
