"""The dials `damage` and `blackout`: what is missing, when, and what the ground truth says about it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vislab.data import DatasetConfig
from vislab.data.synthetic import SyntheticVideos
from vislab.data.synthetic.damage import blackout, border_patches, missing_part
from vislab.data.synthetic.motion import Poses
from vislab.data.synthetic.randomness import Stream
from vislab.data.synthetic.raster import inside_frame, silhouette
from vislab.data.synthetic.shapes import SHAPES

FRAMES = 12


def tiny(dials: str, *, preset: str = "synthetic-ytvis19", **changes: int) -> SyntheticVideos:
    size = {"height": 96, "width": 160, "length": FRAMES, "num_categories": 8} | changes
    return SyntheticVideos(DatasetConfig(f"{preset}+{dials}", 30, **size), "valid")


def sha(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def lengths_of_runs(dark: np.ndarray) -> list[int]:
    return [len(run) for run in "".join("x" if d else "-" for d in dark).split("-") if run]


def damaged_frames(dataset: SyntheticVideos, index: int) -> np.ndarray:
    """(N, T) bool."""
    return (dataset.scene(index).patches[..., 2] > 0).any(axis=-1)


PINS = {
    "damage=0.5+deformation=1": ("9b686293d0813672", "8a8a029516aec34d"),
    "blackout=0.3+leave=1": ("2f42f9062141116e", "027a810ea7c526f5"),
}


@pytest.mark.parametrize("dials", PINS)
def test_pixels_and_opacities_are_pinned(dials: str) -> None:
    dataset = tiny(dials, preset="synthetic-ovis")
    found = dataset.annotations(1, range(FRAMES))
    assert (sha(dataset.frames(1, [0, 6, 11])), sha(dataset.opacities(1, found))) == PINS[dials]


def test_a_share_of_the_frames_is_damaged_and_the_others_are_as_they_were() -> None:
    dataset, plain = tiny("objects=1+damage=0.5"), tiny("objects=1")
    for index in range(10):
        (damaged,) = damaged_frames(dataset, index)
        assert damaged.sum() == FRAMES // 2
        frames, whole = dataset.frames(index, range(FRAMES)), plain.frames(index, range(FRAMES))
        np.testing.assert_array_equal((frames != whole).any(axis=(1, 2, 3)), damaged)
        a, b = dataset.annotations(index, range(FRAMES)), plain.annotations(index, range(FRAMES))
        np.testing.assert_array_equal(a.masks, b.masks)
        np.testing.assert_array_equal(a.visible_fraction, b.visible_fraction)
    assert all((~damaged_frames(tiny("damage=1"), index)).sum(axis=1).max() == 1 for index in range(5))


def test_patches_show_what_is_behind_and_nothing_else_changes() -> None:
    """Of every pixel: the whole picture's or, in the patches, the one without the object, shadow included."""
    views = [tiny(f"objects=1+{dials}").frames(0, range(FRAMES)) for dials in ("damage=0.5", "faint=1", "faint=0")]
    scene = tiny("objects=1+damage=0.5").scene(0)
    gone = tiny("objects=1+faint=0").scene(0).opacities[0] == 0
    for t in np.flatnonzero(damaged_frames(tiny("objects=1+damage=0.5"), 0)[0] & gone):
        bitten, whole, empty = (view[t].astype(int) for view in views)
        shape = silhouette(scene.poses, 0, int(t), int(scene.shapes[0]))
        part = missing_part(shape, scene.patches[0, t])
        assert part is not None
        missing = np.zeros(bitten.shape[:2], np.float32)
        window, crop = inside_frame(shape, 96, 160)
        missing[window] = part[crop]
        np.testing.assert_array_equal(bitten[missing == 1], empty[missing == 1])
        np.testing.assert_array_equal(bitten[missing == 0], whole[missing == 0])
        mixed = (missing > 0) & (missing < 1)
        expected = whole + missing[..., None] * (empty - whole)
        assert np.abs(bitten - expected)[mixed].max() <= 10  # coverage and shadow are mixed one after the other


def test_opacity_of_a_damaged_frame_is_the_share_of_the_mask_that_is_drawn() -> None:
    dataset = tiny("objects=1+damage=0.6+occlusion=0")
    empty = tiny("objects=1+faint=0+faint_fraction=1")
    seen = []
    for index in range(8):
        found = dataset.annotations(index, range(FRAMES))
        (opacities,), damaged = dataset.opacities(index, found), damaged_frames(dataset, index)[0]
        np.testing.assert_array_equal(opacities < 1, damaged)
        gone = empty.scene(index).opacities[0] == 0
        for t in np.flatnonzero(damaged & gone):
            same = (dataset.frames(index, [t]) == empty.frames(index, [t])).all(axis=-1)[0]
            assert same[found.masks[0, t]].mean() == pytest.approx(1 - opacities[t], abs=0.06)
        seen.extend(opacities[damaged])
    assert 0.6 < np.mean(seen) < 0.75 and min(seen) > 0.2
    record = dataset.ground_truth()["annotations"][0]
    assert record["opacities"] == dataset.opacities(0, dataset.annotations(0, range(FRAMES)))[0].tolist()


def test_patches_lie_on_the_border_of_every_shape_and_around_it() -> None:
    shapes = np.arange(len(SHAPES))
    damaged = np.ones((len(shapes), 40), bool)
    damaged[:, 7] = False
    patches = border_patches(Stream("test"), shapes, damaged)
    used = patches[..., 2] > 0
    assert not used[:, 7].any() and set(used.sum(axis=-1)[damaged]) == {2, 3, 4}
    for shape, own, there in zip(SHAPES, patches, used, strict=True):
        x, y, radius = own[there].T
        assert radius.min() >= 0.3 and radius.max() <= 0.5
        near = shape.outline(x, y)
        assert near.max() < 1e-3 and near.min() > -0.04  # inside by at most a step of the search
        angles = np.arctan2(y, x)
        assert np.histogram(angles, 8, (-np.pi, np.pi))[0].min() > 0.05 * len(angles)


def test_a_whole_object_has_no_missing_part() -> None:
    one = np.ones((1, 1))
    shape = silhouette(Poses(20 * one, 20 * one, 10 * one, one, 0 * one, np.zeros((1, 1, 4))), 0, 0, 0)
    assert missing_part(shape, np.zeros((4, 3))) is None and missing_part(shape, np.zeros((0, 3))) is None
    part = missing_part(shape, np.array([[0.86, 0.0, 0.3], [0, 0, 0]]))
    assert part is not None and part.dtype == np.float32 and part.min() == 0 and part.max() == 1
    assert part.sum() == pytest.approx(np.pi * 3**2, rel=0.05)


def test_damage_follows_the_object_under_motion_blur() -> None:
    sharp, blurred = tiny("objects=1+damage=0.5+speed=0"), tiny("objects=1+damage=0.5+speed=0+blur=1")
    for t in range(FRAMES):
        a, b = sharp.frames(0, [t]).astype(int), blurred.frames(0, [t])
        assert np.abs(a - b).max() <= 12  # sizes still swing a little


def test_an_object_goes_out_in_short_runs_after_two_frames_in_view() -> None:
    dataset, plain = tiny("objects=1+blackout=0.3"), tiny("objects=1+faint=0+faint_fraction=1")
    runs = []
    for index in range(20):
        dark = dataset.scene(index).opacities[0] == 0
        assert dark.sum() == round(0.3 * FRAMES) and not dark[:2].any()
        runs += lengths_of_runs(dark)
        found = dataset.annotations(index, range(FRAMES))
        np.testing.assert_array_equal(dataset.opacities(index, found)[0] == 0, dark)
        np.testing.assert_array_equal(found.masks, tiny("objects=1").annotations(index, range(FRAMES)).masks)
        for t in np.flatnonzero(dark & (plain.scene(index).opacities[0] == 0))[:1]:
            np.testing.assert_array_equal(dataset.frames(index, [t]), plain.frames(index, [t]))
    assert set(runs) == {1, 2, 3}


def test_the_first_two_frames_are_those_in_view() -> None:
    for index in range(10):
        dataset = tiny("blackout=1", preset="synthetic-ovis")
        found = dataset.annotations(index, range(FRAMES))
        for row, visible in zip(dataset.opacities(index, found), found.visible_fraction, strict=True):
            lit = visible[row == 1]
            assert (lit > 0.4 * visible.max()).sum() >= 2  # as estimated on a coarse raster
            assert not row.min() or (row == 0).sum() >= 1


@given(st.integers(1, 40), st.floats(0, 1), st.integers(0, 5), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_blackouts_are_as_many_as_asked_for_or_as_fit(length: int, share: float, hidden: int, seed: int) -> None:
    visible = np.where(np.arange(length) < hidden, 0.1, 1.0)
    dark = blackout(Stream("test", seed), visible, share)
    assert not dark[: min(length, hidden + 2)].any() or hidden >= length
    assert all(run <= 3 for run in lengths_of_runs(dark))
    room = max(0, length - hidden - 2) if hidden < length else None
    if room is not None:
        fitting = max(sum(map(len, f"{'xxx-' * length}"[:room].split("-"))), 0)
        assert dark.sum() == min(int(share * length + 0.5), fitting)


def test_who_is_never_in_view_never_goes_out() -> None:
    for visible in (np.zeros(9), np.full(9, -1.0), np.array([1.0]), np.array([0, 1.0, 0, 0, 0])):
        assert not blackout(Stream("test"), visible, 0.5).any()


def test_all_dials_of_visibility_together() -> None:
    dials = "faint=0.2+noise_frames=0.2+damage=0.5+blackout=0.2"
    dataset, alone = tiny(dials), tiny("blackout=0.2")
    for index in range(4):
        scene = dataset.scene(index)
        found = dataset.annotations(index, range(FRAMES))
        opacities = dataset.opacities(index, found)
        assert (opacities[:, scene.noise] == 0).all() and set(np.unique(scene.opacities)) <= {0, 0.2, 1}
        assert ((opacities >= 0) & (opacities <= scene.opacities[found.track_ids])).all()
        assert dataset.frames(index, [3]).shape == (1, 96, 160, 3)
    assert any((alone.scene(index).opacities == 0).any() for index in range(4))


def test_stills_stay_whole() -> None:
    dataset = tiny("damage=1+blackout=1", preset="synthetic-coco", length=1)
    plain = tiny("objects=0", preset="synthetic-coco", length=1)
    for index in range(5):
        np.testing.assert_array_equal(dataset.frames(index, [0]), plain.frames(index, [0]))
