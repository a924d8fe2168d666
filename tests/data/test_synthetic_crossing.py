"""The dial `crossing`: who meets whom, who hides whom, and that nothing else changes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from vislab.data import DatasetConfig
from vislab.data.synthetic import SyntheticVideos
from vislab.data.synthetic.crossing import filled_radius
from vislab.data.synthetic.shapes import SHAPES

FRAMES = 12


def tiny(dials: str, *, preset: str = "synthetic-ytvis19", **changes: int) -> SyntheticVideos:
    size = {"height": 96, "width": 160, "length": FRAMES, "num_categories": 8} | changes
    return SyntheticVideos(DatasetConfig(f"{preset}+{dials}", 30, **size), "valid")


def sha(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def whole_video(dataset: SyntheticVideos, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Presence (N, T) and visible fractions (N, T) of all objects of the scene, also those never visible."""
    length = dataset.info(index).length
    found = dataset.annotations(index, range(length))
    present = np.zeros((len(dataset.scene(index).labels), length), bool)
    visible = np.zeros(present.shape)
    present[found.track_ids], visible[found.track_ids] = found.present, found.visible_fraction
    return present, visible


def longest_gap(present: np.ndarray) -> int:
    """Frames in a row without the object."""
    return max(map(len, "".join("x" if here else "-" for here in present).split("x")))


def test_pixels_and_masks_are_pinned() -> None:
    dataset = tiny("objects=4+crossing=1+lookalike=0.3+deformation=0.5")
    pixels, masks = dataset.frames(1, [0, 6, 11]), dataset.annotations(1, [0, 6, 11]).masks
    assert (sha(pixels), sha(masks)) == ("32c042adff456fa2", "2ac27c73ea6f8236")


def test_the_far_object_is_hidden_for_some_frames_in_the_middle() -> None:
    dataset = tiny("objects=2+crossing=1")
    for index in range(len(dataset)):
        (far, near), _ = whole_video(dataset, index)
        assert near.all()
        assert far[:2].all() and far[-2:].all()
        assert 2 <= longest_gap(far) <= 6
        assert (~far).sum() == longest_gap(far)


@pytest.mark.parametrize(
    "dials",
    ["objects=2+crossing=1+deformation=1+scale=1", "objects=2+crossing=1+blur=2+speed=3", "objects=2+crossing=1"],
)
@pytest.mark.parametrize(
    "changes",
    [{"length": 12}, {"length": 40}, {"height": 160, "width": 96}, {"num_categories": 40}],
    ids=lambda changes: "-".join(changes),
)
def test_one_frame_at_least_shows_nothing_of_it_whatever_the_other_dials(dials: str, changes: dict[str, int]) -> None:
    dataset = tiny(dials, **changes)
    for index in range(8):
        assert longest_gap(whole_video(dataset, index)[0][0]) >= 2


def test_they_exchange_sides() -> None:
    for changes in ({}, {"height": 160, "width": 96}):
        dataset = tiny("objects=4+crossing=1", **changes)
        for index in range(10):
            poses = dataset.scene(index).poses
            along = poses.x if dataset.info(index).width > dataset.info(index).height else poses.y
            before, after = along[0::2, 0] - along[1::2, 0], along[0::2, -1] - along[1::2, -1]
            assert (np.sign(before) == -np.sign(after)).all() and (np.abs(before) > 20).all()


def test_categories_differ_and_the_near_one_is_solid() -> None:
    dataset = tiny("objects=4+crossing=1")
    labels = np.array([dataset.scene(index).labels for index in range(30)]).reshape(-1, 2)
    assert (labels[:, 0] != labels[:, 1]).all()
    assert len(set(labels[:, 0])) == 8
    assert {SHAPES[label // 2].name for label in labels[:, 1]} == {"disc", "square"}
    one_category = tiny("objects=2+crossing=1", num_categories=1)
    assert whole_video(one_category, 0)[0].shape == (2, FRAMES)


def test_lookalikes_that_cross_are_identical() -> None:
    dataset = tiny("objects=4+crossing=1+lookalike=1")
    for index in range(10):
        scene = dataset.scene(index)
        assert len(set(scene.labels)) == len(set(scene.paints)) == 1
        assert longest_gap(whole_video(dataset, index)[0][0]) >= 2


def test_who_crosses_does_not_leave_and_the_others_do() -> None:
    dataset = tiny("objects=4+crossing=0.5+leave=1")
    met, left = 0, 0
    for index in range(len(dataset)):
        motion = dataset.scene(index).motion
        pairs = [] if motion.crossings is None else [*motion.crossings.far, *motion.crossings.near]
        np.testing.assert_array_equal(motion.leaves, [n not in pairs for n in range(4)])
        met, left = met + len(pairs), left + int(motion.leaves.sum())
    assert met + left == 120 and 30 < met < 90


def test_the_odd_object_and_videos_without_crossings_are_as_they_were() -> None:
    plain, crossed = tiny("objects=3"), tiny("objects=3+crossing=1")
    for index in range(6):
        before, after = plain.scene(index), crossed.scene(index)
        assert before.labels[2] == after.labels[2] and before.paints == after.paints
        for name in ("x", "y", "radius"):
            np.testing.assert_array_equal(getattr(before.poses, name)[2], getattr(after.poses, name)[2])
    for dials, changes in (("objects=1+crossing=1", {}), ("objects=2+crossing=1", {"length": 4}), ("crossing=0", {})):
        other = dials.split("+")[0].replace("crossing=0", "scale=0.2")
        pair = tiny(dials, **changes), tiny(other, **changes)
        np.testing.assert_array_equal(pair[0].frames(0, range(4)), pair[1].frames(0, range(4)))


def test_short_videos_show_everyone_before_and_after() -> None:
    dataset = tiny("objects=2+crossing=1", length=5)
    for index in range(len(dataset)):
        present, visible = whole_video(dataset, index)
        assert present[:, 0].all() and present[:, -1].all() and not present[0, 1:4].all()
        assert visible[0, [0, -1]].max() > 0.5


def test_most_pairs_are_hidden_where_two_clips_overlap() -> None:
    """What the dial is for: of clips of 6 frames, 4 apart, the overlaps 4, 5 and 8, 9 say nothing of a hidden object;
    each clip for itself sees nearly all."""
    for preset in ("synthetic-ytvis19", "synthetic-ovis"):
        dataset = tiny("objects=2+crossing=1", preset=preset)
        hidden = [~whole_video(dataset, index)[0][0] for index in range(len(dataset))]
        assert np.mean([(h[4] and h[5]) or (h[8] and h[9]) for h in hidden]) > 0.5
        assert np.mean([h[start : start + 6].all() for h in hidden for start in (0, 4, 6)]) < 0.02


def test_filled_radius_is_a_disc_inside_the_shape() -> None:
    angles = np.linspace(0, 2 * np.pi, 200)
    for position, shape in enumerate(SHAPES):
        radius = filled_radius(position)
        if radius > 0:
            parts = radius * np.linspace(0, 0.999, 20)[:, None]
            assert (shape.outline(parts * np.cos(angles), parts * np.sin(angles)) <= 0).all()
