"""Videos of the synthetic benchmark: pinned pixels, exact masks, and what each dial does."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest

from vislab import rle
from vislab.data import DatasetConfig
from vislab.data.synthetic import SyntheticVideos, videos
from vislab.data.synthetic.motion import Motion
from vislab.data.synthetic.shapes import SHAPES
from vislab.data.synthetic.videos import MIN_VISIBLE_PIXELS, tight_box

TINY = {"height": 96, "width": 160, "length": 12, "num_categories": 8}


def tiny(name: str, split: str = "valid", num_videos: int = 40, **changes: int) -> SyntheticVideos:
    return SyntheticVideos(DatasetConfig(name, num_videos, **{**TINY, **changes}), split)  # type: ignore[arg-type]


def sha(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


PINS = {
    "synthetic-ytvis19": ("bb5e03840181fbd0", "cd1a40956dfaac85"),
    "synthetic-ovis+deformation=1+faint=0.1+leave=1": ("1515f41ac2e1f7f6", "ef486dfb4bcb3d9d"),
    "synthetic-ytvis21+blur=1+speed=2+lookalike=1+noise_frames=0.3": ("5114e21421184bfb", "3beb8867a004b402"),
}
FULL_SIZE_PIN = ("86338c5c889a7e85", "f0eddcc6d63c6d15")


@pytest.mark.parametrize("name", PINS)
def test_pixels_and_masks_are_pinned(name: str) -> None:
    """If this fails on another machine the generator is not portable; if after a change, raise GENERATOR_VERSION."""
    dataset = tiny(name)
    assert (sha(dataset.frames(1, [0, 6, 11])), sha(dataset.annotations(1, [0, 6, 11]).masks)) == PINS[name]


def test_full_size_pixels_and_masks_are_pinned() -> None:
    dataset = SyntheticVideos(DatasetConfig("synthetic-coco"), "train")
    assert (sha(dataset.frames(100000, [0])), sha(dataset.annotations(100000, [0]).masks)) == FULL_SIZE_PIN


@pytest.mark.parametrize("direction", [-np.inf, np.inf])
def test_the_last_bit_of_sine_does_not_matter(monkeypatch: pytest.MonkeyPatch, direction: float) -> None:
    """Libraries round sin, cos and exp2 differently, also from one processor to the next."""
    name = "synthetic-ovis+deformation=1+scale=1+faint=0.1+leave=0.5+damage=0.5+blackout=0.2"
    expected = [tiny(name).frames(index, [0, 5, 11]) for index in range(4)]
    for function in ("sin", "cos", "exp2"):
        original = getattr(np, function)
        monkeypatch.setattr(np, function, lambda x, original=original: np.nextafter(original(x), direction))
    for index in range(4):
        np.testing.assert_array_equal(tiny(name).frames(index, [0, 5, 11]), expected[index])


def test_frames_do_not_depend_on_what_else_is_asked_for() -> None:
    everything = tiny("synthetic-ovis").frames(3, range(12))
    dataset = tiny("synthetic-ovis")
    dataset.frames(0, [5])
    np.testing.assert_array_equal(dataset.frames(3, [9, 4, 4]), everything[[9, 4, 4]])
    labels, some = dataset.annotations(3, range(12)), dataset.annotations(3, [9, 4, 4])
    kept = np.isin(labels.track_ids, some.track_ids)
    np.testing.assert_array_equal(labels.masks[kept][:, [9, 4, 4]], some.masks)
    np.testing.assert_array_equal(labels.visible_fraction[kept][:, [9, 4, 4]], some.visible_fraction)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.frames(3, [7]), everything[[7]])


def test_only_the_frames_asked_for_are_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    times = []
    original = videos.silhouette
    monkeypatch.setattr(videos, "silhouette", lambda *a: (times.append(a[2]), original(*a))[1])
    dataset = tiny("synthetic-ovis")
    dataset.frames(0, [3, 4, 5])
    dataset.annotations(0, [3, 4, 5])
    objects = len(dataset.scene(0).labels)
    assert sorted(times) == sorted([3, 4, 5] * objects)


def test_splits_seeds_and_presets_differ() -> None:
    frames = [
        tiny("synthetic-ovis", "train").frames(0, [0]),
        tiny("synthetic-ovis", "valid").frames(0, [0]),
        tiny("synthetic-ytvis19", "valid").frames(0, [0]),
        SyntheticVideos(DatasetConfig("synthetic-ovis", seed=1, **TINY), "train").frames(0, [0]),
    ]
    assert len({sha(frame) for frame in frames}) == 4


def test_shapes_and_types() -> None:
    dataset = tiny("synthetic-ovis", height=50, width=71)
    frames, labels = dataset.frames(2, [1, 2]), dataset.annotations(2, [1, 2])
    count = len(labels.labels)
    assert frames.shape == (2, 50, 71, 3) and frames.dtype == np.uint8
    assert labels.masks.shape == (count, 2, 50, 71) and labels.masks.dtype == bool
    assert labels.boxes.shape == (count, 2, 4) and labels.boxes.dtype == np.float32
    assert labels.present.shape == labels.visible_fraction.shape == (count, 2)
    assert labels.labels.dtype == labels.track_ids.dtype == np.int64
    assert labels.visible_fraction.dtype == np.float32 and not labels.iscrowd.any()
    assert set(labels.labels) <= set(range(8))
    nothing = dataset.annotations(2, [])
    assert dataset.frames(2, []).shape == (0, 50, 71, 3) and nothing.masks.shape == (0, 0, 50, 71)


@pytest.mark.parametrize("name", ["synthetic-ovis+occlusion=1", "synthetic-ytvis19+leave=1+objects=3+deformation=1"])
def test_masks_are_disjoint_and_boxes_tight(name: str) -> None:
    dataset = tiny(name)
    for index in range(4):
        found = dataset.annotations(index, range(12))
        assert (found.masks.sum(axis=0) <= 1).all()
        areas = found.masks.sum(axis=(2, 3))
        np.testing.assert_array_equal(found.present, areas > 0)
        assert (areas[found.present] >= MIN_VISIBLE_PIXELS).all()
        assert found.present.any(axis=1).all()
        for n, t in np.argwhere(found.present):
            y, x = np.nonzero(found.masks[n, t])
            np.testing.assert_array_equal(found.boxes[n, t], [x.min(), y.min(), x.max() + 1, y.max() + 1])
        assert (found.boxes[~found.present] == 0).all() and (found.visible_fraction[~found.present] == 0).all()


def test_masks_and_visible_fractions_match_a_plain_renderer() -> None:
    """float64, all objects on one large canvas: the outline at every pixel centre, nearest object wins."""
    dataset = tiny("synthetic-ovis+occlusion=0.9+deformation=0.5")
    pad, (height, width) = 60, (96, 160)
    y, x = np.mgrid[-pad : height + pad, -pad : width + pad] + 0.5
    for index in (0, 1):
        scene, found = dataset.scene(index), dataset.annotations(index, [6])
        insides = []
        for n, shape in enumerate(scene.shapes):
            pose = {name: value[n, 6] for name, value in vars(scene.poses).items()}
            along = ((x - pose["x"]) + 1j * (y - pose["y"])) * (pose["cos"] - 1j * pose["sin"]) / pose["radius"]
            b, angle = pose["bend"], np.angle(along)
            along *= 1 + b[0] * np.cos(2 * angle) + b[1] * np.sin(2 * angle)
            insides.append((along, b[2] * np.cos(3 * angle) + b[3] * np.sin(3 * angle), b, angle, shape))
        silhouettes = []
        for along, third, b, angle, shape in insides:
            second = b[0] * np.cos(2 * angle) + b[1] * np.sin(2 * angle)
            stretched = along * (1 + second + third) / (1 + second)
            silhouettes.append(SHAPES[shape].outline(stretched.real, stretched.imag) <= 0)
        covered = np.zeros_like(silhouettes[0])
        for n in range(len(silhouettes) - 1, -1, -1):
            visible = (silhouettes[n] & ~covered)[pad:-pad, pad:-pad]
            covered |= silhouettes[n]
            position = np.flatnonzero(found.track_ids == n)
            if not len(position):
                assert visible.sum() < MIN_VISIBLE_PIXELS + 2
                continue
            assert (found.masks[position[0], 0] ^ visible).sum() <= 2
            expected = visible.sum() / silhouettes[n].sum()
            assert found.visible_fraction[position[0], 0] == pytest.approx(expected, abs=0.005)


def test_faint_objects_keep_their_masks_and_lose_their_contrast() -> None:
    names = [f"synthetic-ytvis19+objects=1+faint={opacity}" for opacity in (0, 0.1, 1)]
    empty, faint, clear = (tiny(name) for name in names)
    ratios = []
    for index in range(6):
        opacities = faint.scene(index).opacities[0]
        assert set(opacities) == {0.1, 1.0} and (opacities < 1).sum() == round(0.6 * 12)
        np.testing.assert_array_equal(opacities < 1, empty.scene(index).opacities[0] == 0)
        masks = faint.annotations(index, range(12)).masks
        np.testing.assert_array_equal(masks, clear.annotations(index, range(12)).masks)
        views = [d.frames(index, range(12)).astype(float) for d in (empty, faint, clear)]
        np.testing.assert_array_equal(views[1][opacities == 1], views[2][opacities == 1])
        inside = masks[0] & (opacities < 1)[:, None, None]
        difference, full = (np.abs(view[inside] - views[0][inside]).sum() for view in views[1:])
        ratios.append(difference / full)
    assert 0.07 < np.mean(ratios) < 0.13


def test_faint_frames_are_the_same_at_every_opacity_and_leave_one_evident() -> None:
    weak, strong = (tiny(f"synthetic-ovis+faint={opacity}+faint_fraction=1") for opacity in (0.05, 0.2))
    for index in range(5):
        a, b = weak.scene(index).opacities, strong.scene(index).opacities
        np.testing.assert_array_equal(a < 1, b < 1)
        np.testing.assert_array_equal((a == 1).sum(axis=1), 1)
        found = weak.annotations(index, range(12))
        evident = found.visible_fraction[a[found.track_ids] == 1]
        np.testing.assert_allclose(evident, found.visible_fraction.max(axis=1), atol=0.1)


def test_dials_leave_the_rest_of_the_scene_alone() -> None:
    plain = tiny("synthetic-ytvis19+objects=3").scene(0)
    for dial in ("faint=0.1", "lookalike=1", "leave=1", "noise_frames=0.5", "blur=1", "damage=0.5", "blackout=0.3"):
        other = tiny(f"synthetic-ytvis19+objects=3+{dial}").scene(0)
        np.testing.assert_array_equal(other.motion.home, plain.motion.home)
        np.testing.assert_array_equal(other.motion.radius, plain.motion.radius)
        assert (other.tints, other.paints[0]) == (plain.tints, plain.paints[0])


def test_lookalikes_share_category_and_colours() -> None:
    scenes = [tiny("synthetic-ovis+lookalike=1").scene(index) for index in range(5)]
    assert all(len(set(scene.labels)) == 1 and len(set(scene.paints)) == 1 for scene in scenes)
    assert any(len(set(tiny("synthetic-ovis").scene(index).labels)) > 2 for index in range(5))


def test_objects_that_leave_come_back() -> None:
    dataset = tiny("synthetic-ytvis19+leave=1")
    for index in range(8):
        present = dataset.annotations(index, range(12)).present
        assert present[:, 0].all() and present[:, -1].all()
        assert not present[:, 4:8].all(axis=1).any()
    long = SyntheticVideos(DatasetConfig("synthetic-ytvis19+leave=1+deformation=1+scale=1", 3, 48, 80, 40), "train")
    for index in range(3):
        assert not long.annotations(index, range(40)).present[:, 18:22].all(axis=1).any()


def test_noise_frames_show_nothing_but_keep_their_masks() -> None:
    dataset, clear = tiny("synthetic-ytvis19+noise_frames=0.5"), tiny("synthetic-ytvis19")
    scene = dataset.scene(2)
    assert scene.noise.sum() == 6 and (scene.opacities[:, scene.noise] == 0).all()
    frames, original = dataset.frames(2, range(12)), clear.frames(2, range(12))
    np.testing.assert_array_equal(frames[~scene.noise], original[~scene.noise])
    assert frames[scene.noise].std() == pytest.approx(255 / 12**0.5, rel=0.01)
    np.testing.assert_array_equal(dataset.annotations(2, range(12)).masks, clear.annotations(2, range(12)).masks)
    assert (tiny("synthetic-ytvis19+noise_frames=1").scene(2).noise.sum()) == 11


def test_occlusion_scale_speed_deformation_and_blur_do_what_they_say() -> None:
    def hidden(name: str) -> float:
        dataset = tiny(name)
        parts = [dataset.annotations(index, [0, 6]) for index in range(12)]
        return 1 - float(np.mean(np.concatenate([p.visible_fraction[p.present] for p in parts])))

    assert hidden("synthetic-ovis+occlusion=0") < 0.05 < 0.15 < hidden("synthetic-ovis+occlusion=1")

    def motion(name: str) -> Motion:
        return tiny(name).scene(1).motion

    times = np.arange(12.0)
    still = motion("synthetic-ovis+speed=0+scale=0").poses(times)
    for values in (still.x, still.y, still.radius, still.cos):
        assert (np.ptp(values, axis=1) == 0).all()
    steps = [np.abs(np.diff(motion(f"synthetic-ovis+speed={s}").poses(times).x)).mean() for s in (1, 2)]
    assert steps[1] > 1.5 * steps[0]
    wide = motion("synthetic-ovis+scale=1").poses(np.arange(100.0)).radius
    assert (wide.max(axis=1) / wide.min(axis=1) > 1.9).all()
    assert not motion("synthetic-ovis").bend.any() and motion("synthetic-ovis+deformation=1").bend.any()
    assert np.abs(motion("synthetic-ovis+deformation=1").bend).sum(axis=1).max() < 0.35

    sharp, blurred = tiny("synthetic-ovis+speed=3"), tiny("synthetic-ovis+speed=3+blur=3")
    masks = sharp.annotations(1, [5]).masks
    np.testing.assert_array_equal(masks, blurred.annotations(1, [5]).masks)
    inside = masks.any(axis=0)[:, :, 1:]
    details = [np.square(np.diff(d.frames(1, [5]).astype(float), axis=2))[inside].mean() for d in (sharp, blurred)]
    assert details[1] < 0.6 * details[0]


def test_still_images_are_videos_of_one_frame() -> None:
    dataset = SyntheticVideos(
        DatasetConfig("synthetic-coco+faint=0.1+leave=1+noise_frames=1", 6, height=96, width=160), "train"
    )
    assert {dataset.info(index).length for index in range(6)} == {1}
    assert sum(len(dataset.annotations(index, [0]).labels) for index in range(6)) > 12
    assert all((dataset.scene(index).opacities == 1).all() for index in range(6))


def test_speed_and_sizes_follow_the_frame_height() -> None:
    small, large = tiny("synthetic-ovis"), tiny("synthetic-ovis", height=192, width=320)
    a, b = small.scene(4).poses, large.scene(4).poses
    np.testing.assert_allclose(b.x, 2 * a.x, atol=1 / 16)
    np.testing.assert_allclose(b.radius, 2 * a.radius, atol=1 / 16)


def test_ground_truth_says_what_annotations_say() -> None:
    dataset = tiny("synthetic-ovis+leave=1+faint=0.1", num_videos=3)
    truth = dataset.ground_truth()
    assert [video["id"] for video in truth["videos"]] == [1, 2, 3]
    assert truth["videos"][2]["file_names"][11] == "00002/00011.jpg"
    assert [a["id"] for a in truth["annotations"]] == list(range(1, len(truth["annotations"]) + 1))
    for index in range(3):
        found = dataset.annotations(index, range(12))
        entries = [a for a in truth["annotations"] if a["video_id"] == index + 1]
        assert len(entries) == len(found.labels)
        for n, entry in enumerate(entries):
            assert entry["category_id"] == found.labels[n] + 1 and entry["iscrowd"] == 0
            assert entry["opacities"] == dataset.scene(index).opacities[found.track_ids[n]].tolist()
            np.testing.assert_allclose(entry["visible_fractions"], found.visible_fraction[n], atol=1e-4)
            for t in range(12):
                code, mask = entry["segmentations"][t], found.masks[n, t]
                assert (code is None) == (entry["bboxes"][t] is None) == (entry["areas"][t] is None) == (not mask.any())
                if code is not None:
                    np.testing.assert_array_equal(rle.decode(code, 96, 160), mask)
                    assert entry["bboxes"][t] == list(rle.box(code)) and entry["areas"][t] == mask.sum()


def test_objects_that_are_never_visible_are_not_annotated() -> None:
    dataset = tiny("synthetic-ovis+occlusion=1+objects=12", height=48, width=80, num_videos=8)
    annotated = dataset.ground_truth()["annotations"]
    assert len(annotated) < 8 * 12
    assert all(any(entry["segmentations"]) for entry in annotated)


def test_videos_and_frames_that_do_not_exist() -> None:
    dataset = tiny("synthetic-ovis", num_videos=2)
    for call in (dataset.info, dataset.scene, lambda i: dataset.frames(i, [0])):
        for index in (-1, 2):
            with pytest.raises(IndexError, match="video"):
                call(index)
    for frame in (-1, 12):
        with pytest.raises(IndexError, match="frame"):
            dataset.frames(0, [frame])


def test_tight_box_of_single_pixels() -> None:
    mask = np.zeros((5, 7), bool)
    mask[4, 6] = True
    assert tight_box(mask) == (6, 4, 7, 5)
    mask[0, 2] = True
    assert tight_box(mask) == (2, 0, 7, 5)
