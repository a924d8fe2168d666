"""Transforms against pixel-by-pixel definitions; masks and boxes exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_videos import random_clip

from vislab.data import transforms
from vislab.data.transforms import ClipSample

SEEDS = st.integers(0, 2**32 - 1)


def clip_of(seed: int, **sizes: int) -> ClipSample:
    return random_clip(np.random.default_rng(seed), **sizes)


def plain_box(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]


def assert_consistent(clip: ClipSample) -> None:
    """Sizes agree and boxes are those of the masks."""
    assert clip.frames.dtype == np.uint8 and clip.masks.dtype == bool
    assert clip.masks.shape == (len(clip.labels), *clip.frames.shape[:3])
    assert clip.boxes.dtype == np.float32 and clip.boxes.shape == (*clip.masks.shape[:2], 4)
    for boxes, masks, present in zip(clip.boxes, clip.masks, clip.present, strict=True):
        assert boxes.tolist() == [plain_box(mask) for mask in masks]
        assert present.tolist() == [mask.any() for mask in masks]


def nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each output pixel centre (i + 0.5) lies in one source pixel; exact by fractions of integers."""
    rows = [math.floor((2 * i + 1) * mask.shape[0] / (2 * height)) for i in range(height)]
    columns = [math.floor((2 * j + 1) * mask.shape[1] / (2 * width)) for j in range(width)]
    return np.array([[mask[row, column] for column in columns] for row in rows])


@given(SEEDS, st.integers(1, 3), st.integers(0, 3), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_flip_is_a_mirror_and_its_own_inverse(seed: int, frames: int, instances: int, height: int, width: int) -> None:
    clip = clip_of(seed, frames=frames, instances=instances, height=height, width=width)
    flipped = transforms.flip(clip)
    assert_consistent(flipped)
    for x in range(width):
        assert np.array_equal(flipped.frames[:, :, x], clip.frames[:, :, width - 1 - x])
        assert np.array_equal(flipped.masks[..., x], clip.masks[..., width - 1 - x])
    twice = transforms.flip(flipped)
    assert np.array_equal(twice.frames, clip.frames) and np.array_equal(twice.masks, clip.masks)


def test_crop_takes_the_window_and_keeps_absent_instances() -> None:
    clip = clip_of(0, height=9, width=14)
    masks = np.zeros_like(clip.masks)
    masks[0, :, 0, 0] = True
    masks[1, 1:, 4:7, 5:8] = True
    cropped = transforms.crop(ClipSample(clip.frames, clip.labels, clip.track_ids, clip.iscrowd, masks), 3, 4, 5, 6)
    assert cropped.size == (5, 6)
    assert np.array_equal(cropped.frames, clip.frames[:, 3:8, 4:10])
    assert_consistent(cropped)
    assert cropped.boxes[1].tolist() == [[0, 0, 0, 0], [1, 1, 4, 4], [1, 1, 4, 4]]
    assert cropped.present.tolist() == [[False] * 3, [False, True, True]]
    assert transforms.visible_only(cropped).track_ids.tolist() == [51]


@pytest.mark.parametrize("window", [(-1, 0, 3, 3), (0, 0, 0, 3), (5, 0, 5, 3), (0, 12, 2, 3)])
def test_crop_outside_is_a_bug(window: tuple[int, int, int, int]) -> None:
    with pytest.raises(AssertionError):
        transforms.crop(clip_of(0, height=9, width=14), *window)


@given(SEEDS, st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_resized_masks_are_nearest_neighbours(seed: int, height: int, width: int) -> None:
    clip = clip_of(seed, frames=2, height=7, width=11)
    resized = transforms.resize(clip, height, width)
    assert resized.size == (height, width)
    assert_consistent(resized)
    assert np.array_equal(resized.masks[1, 0], nearest(clip.masks[1, 0], height, width))


def test_resize_agrees_for_image_and_mask() -> None:
    """A white disc stays where its mask is: the image thresholded at half differs from the mask on the outline only."""
    y, x = np.mgrid[:90, :130]
    mask = ((y - 40) ** 2 + (x - 70) ** 2 < 30**2)[None, None]
    frames = np.repeat(mask[0, ..., None] * np.uint8(255), 3, axis=-1)
    clip = ClipSample(frames, np.zeros(1, int), np.zeros(1, int), np.zeros(1, bool), mask)
    for size in [(45, 65), (33, 47), (180, 260)]:
        resized = transforms.resize(clip, *size)
        differ = (resized.frames[0, ..., 0] > 127) != resized.masks[0, 0]
        assert differ.sum() < 0.05 * resized.masks.sum()
        rows, columns = np.nonzero(resized.masks[0, 0])
        assert (
            abs((rows.mean() + 0.5) / size[0] - 40.5 / 90) < 0.006
            and abs((columns.mean() + 0.5) / size[1] - 70.5 / 130) < 0.006
        )


def test_resize_to_the_same_size_copies_nothing() -> None:
    clip = clip_of(0)
    assert transforms.resize(clip, *clip.size) is clip
    assert transforms.resize_frames(clip.frames, *clip.size) is clip.frames


@pytest.mark.parametrize(
    ("size", "short", "longest", "expected"),
    [
        ((720, 1280), 360, None, (360, 640)),
        ((1280, 720), 360, None, (640, 360)),
        ((720, 1280), 480, 640, (360, 640)),
        ((360, 638), 320, 576, (320, 567)),
        ((100, 100), 50, 50, (50, 50)),
        ((1, 1000), 10, 100, (1, 100)),
    ],
)
def test_scaled_size(size: tuple[int, int], short: int, longest: int | None, expected: tuple[int, int]) -> None:
    assert transforms.scaled_size(*size, short, longest) == expected


def plain_colour(
    pixel: np.ndarray, mean_grey: float, brightness: float, contrast: float, saturation: float
) -> np.ndarray:
    grey = pixel @ [0.299, 0.587, 0.114]
    pixel = saturation * pixel + (1 - saturation) * grey
    pixel = contrast * pixel + (1 - contrast) * mean_grey
    return np.clip(np.floor(brightness * pixel + 0.5), 0, 255)


@given(SEEDS, st.floats(0, 2), st.floats(0, 2), st.floats(0, 2))
@settings(max_examples=25, deadline=None)
def test_colour_is_the_three_steps_one_by_one(seed: int, brightness: float, contrast: float, saturation: float) -> None:
    clip = clip_of(seed, frames=2, height=3, width=4)
    jittered = transforms.adjust_colour(clip, brightness, contrast, saturation)
    pixels = clip.frames.reshape(-1, 3).astype(float)
    mean_grey = (pixels @ [0.299, 0.587, 0.114]).mean()
    expected = [plain_colour(pixel, mean_grey, brightness, contrast, saturation) for pixel in pixels]
    assert np.abs(jittered.frames.reshape(-1, 3) - np.array(expected)).max() <= 1  # float32 against float64
    assert jittered.masks is clip.masks


def test_colour_factors_of_one_change_nothing() -> None:
    clip = clip_of(4)
    assert np.array_equal(transforms.adjust_colour(clip, 1, 1, 1).frames, clip.frames)
    assert not transforms.adjust_colour(clip, 0, 1, 1).frames.any()
    grey = transforms.adjust_colour(clip, 1, 1, 0).frames
    assert np.array_equal(grey[..., 0], grey[..., 1]) and np.array_equal(grey[..., 0], grey[..., 2])


def plain_rotation(mask: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates each output pixel centre back, clockwise on the screen, and looks up the pixel it falls into."""
    height, width = mask.shape
    turned = np.zeros_like(mask)
    angle = math.radians(degrees)
    for row in range(height):
        for column in range(width):
            right, up = column + 0.5 - width / 2, height / 2 - (row + 0.5)
            source_right = right * math.cos(angle) + up * math.sin(angle)
            source_up = -right * math.sin(angle) + up * math.cos(angle)
            x, y = math.floor(source_right + width / 2), math.floor(height / 2 - source_up)
            if 0 <= x < width and 0 <= y < height:
                turned[row, column] = mask[y, x]
    return turned


@given(SEEDS, st.floats(-180, 180).filter(lambda degrees: 0.01 < degrees % 15 < 14.99))
@settings(max_examples=25, deadline=None)
def test_rotation_agrees_with_brute_force(seed: int, degrees: float) -> None:
    """Not by angles at which a point may come to lie on the border of two pixels, such as 30 degrees."""
    clip = clip_of(seed, frames=1, height=9, width=13)
    rotated = transforms.rotate(clip, [degrees])
    assert_consistent(rotated)
    for n in range(2):
        assert np.array_equal(rotated.masks[n, 0], plain_rotation(clip.masks[n, 0], degrees))


def test_rotation_by_right_angles_is_exact_for_image_and_mask() -> None:
    clip = clip_of(1, frames=3, height=10, width=10)
    rotated = transforms.rotate(clip, [0, 180, 90])
    for t, turns in enumerate((0, 2, 1)):
        inner = (slice(1, -1), slice(1, -1))  # cos 90 is 6e-17 in floats: border pixels may fall outside
        difference = rotated.frames[t][inner].astype(int) - np.rot90(clip.frames[t], turns)[inner]
        assert np.abs(difference).max() <= 1  # Pillow interpolates in fixed point
        assert np.array_equal(rotated.masks[0, t][inner], np.rot90(clip.masks[0, t], turns)[inner])


def test_rotation_moves_image_and_mask_alike() -> None:
    y, x = np.mgrid[:64, :96]
    mask = ((y - 24) ** 2 / 9**2 + (x - 60) ** 2 / 14**2 < 1)[None, None]
    frames = np.repeat(mask[0, ..., None] * np.uint8(200), 3, axis=-1)
    clip = ClipSample(frames, np.zeros(1, int), np.zeros(1, int), np.zeros(1, bool), mask)
    rotated = transforms.rotate(clip, [-20, -7.5, 3, 20])
    for picture, turned in zip(rotated.frames, rotated.masks[0], strict=True):
        assert ((picture[..., 1] > 100) != turned).sum() <= 0.04 * turned.sum()


def test_one_still_becomes_a_pseudo_video() -> None:
    clip = clip_of(2, frames=1)
    video = transforms.rotate(clip, [0.0, 0.0, 15.0, -15.0])
    assert len(video.frames) == 4 and video.masks.shape[1] == 4 and video.frame_indices == (0, 0, 0, 0)
    assert np.array_equal(video.frames[0], clip.frames[0]) and np.array_equal(video.masks[:, 1], clip.masks[:, 0])
    assert not np.array_equal(video.frames[2], video.frames[3])
    with pytest.raises(AssertionError):
        transforms.rotate(clip_of(2, frames=3), [1.0, 2.0])


def plain_jitter(mask: np.ndarray, height: int, width: int, factor: float, place: tuple[float, float]) -> np.ndarray:
    """Resizes all of the mask by nearest neighbour, then looks up every output pixel."""
    large = nearest(mask, max(1, math.floor(factor * height + 0.5)), max(1, math.floor(factor * width + 0.5)))
    top, left = (
        math.floor(share * (abs(have - want) + 1)) * (1 if have >= want else -1)
        for share, have, want in zip(place, large.shape, (height, width), strict=True)
    )
    inside = [
        [0 <= y + top < len(large) and 0 <= x + left < large.shape[1] for x in range(width)] for y in range(height)
    ]
    return np.array(
        [[inside[y][x] and large[y + top, x + left] for x in range(width)] for y in range(height)], bool
    )  # fmt: skip


@given(SEEDS, st.floats(0.05, 3), st.floats(0, 0.999), st.floats(0, 0.999), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_jittered_masks_agree_with_brute_force(
    seed: int, factor: float, top: float, left: float, height: int, width: int
) -> None:
    clip = clip_of(seed, frames=2, height=7, width=11)
    jittered = transforms.jitter(clip, height, width, [factor], [(top, left)])
    assert jittered.size == (height, width)
    assert_consistent(jittered)
    for n in range(2):
        for t in range(2):
            expected = plain_jitter(clip.masks[n, t], height, width, factor, (top, left))
            assert np.array_equal(jittered.masks[n, t], expected)


@pytest.mark.parametrize(
    ("factor", "place"), [(2.0, (0.3, 0.8)), (1.37, (0.99, 0.0)), (0.4, (0.5, 0.2)), (1.0, (0, 0))]
)
def test_jittered_images_are_the_window_of_the_resized_ones(factor: float, place: tuple[float, float]) -> None:
    clip = clip_of(6, frames=1, height=30, width=44)
    height, width = 24, 36
    jittered = transforms.jitter(clip, height, width, [factor], [place])
    scaled = round(factor * height), round(factor * width)
    large = transforms.resize_frames(clip.frames, *scaled)[0].astype(int)
    top, left = (int(share * (abs(a - b) + 1)) for share, a, b in zip(place, scaled, (height, width), strict=True))
    if factor >= 1:
        expected = large[top : top + height, left : left + width]
    else:
        expected = np.empty((height, width, 3), int)
        expected[:] = 124, 116, 104
        expected[top : top + scaled[0], left : left + scaled[1]] = large
    assert np.abs(jittered.frames[0] - expected).max() <= 1


def test_jitter_by_one_is_a_resize() -> None:
    clip = clip_of(7, frames=2, height=30, width=44)
    jittered, resized = transforms.jitter(clip, 15, 22, [1.0], [(0.9, 0.9)]), transforms.resize(clip, 15, 22)
    assert np.array_equal(jittered.frames, resized.frames) and np.array_equal(jittered.masks, resized.masks)


def test_jitter_moves_image_and_mask_alike() -> None:
    y, x = np.mgrid[:64, :96]
    mask = ((y - 30) ** 2 / 12**2 + (x - 50) ** 2 / 17**2 < 1)[None, None].repeat(3, axis=1)
    frames = np.repeat(mask[0, ..., None] * np.uint8(250), 3, axis=-1)
    clip = ClipSample(frames, np.zeros(1, int), np.zeros(1, int), np.zeros(1, bool), mask)
    jittered = transforms.jitter(clip, 64, 96, [0.5, 1.7, 1.0], [(0.1, 0.9), (0.6, 0.4), (0, 0)])
    for factor, picture, moved in zip((0.5, 1.7, 1.0), jittered.frames, jittered.masks[0], strict=True):
        assert ((picture[..., 1] > 125) != moved).sum() <= 0.08 * moved.sum()  # the outline; padding is below 125
        assert moved.sum() == pytest.approx(factor**2 * mask[0, 0].sum(), rel=0.05)


def test_frames_jittered_alike_or_each_for_itself() -> None:
    clip = clip_of(8, frames=3, height=20, width=20)
    still = ClipSample(*(getattr(clip, name) for name in ("frames", "labels", "track_ids", "iscrowd", "masks")))
    still.frames[:], still.masks[:] = still.frames[:1], still.masks[:, :1]
    alike = transforms.jitter(still, 20, 20, [1.5], [(0.2, 0.7)])
    assert np.array_equal(alike.frames[0], alike.frames[2]) and np.array_equal(alike.masks[:, 0], alike.masks[:, 1])
    apart = transforms.jitter(still, 20, 20, [1.5, 0.5, 1.5], [(0.2, 0.7), (0, 0), (0.9, 0.7)])
    assert np.array_equal(apart.frames[0], alike.frames[0])
    assert len({frame.tobytes() for frame in apart.frames}) == 3
    with pytest.raises(AssertionError):
        transforms.jitter(still, 20, 20, [1.0, 1.0], [(0, 0), (0, 0)])


def test_what_jitter_pushes_out_is_absent() -> None:
    clip = clip_of(9, frames=1, height=40, width=40)
    masks = np.zeros_like(clip.masks)
    masks[0, :, :4, :4] = True
    masks[1, :, 30:, 30:] = True
    clip = ClipSample(clip.frames, clip.labels, clip.track_ids, clip.iscrowd, masks)
    near = transforms.jitter(clip, 40, 40, [2.0], [(0.999, 0.999)])
    assert near.present.tolist() == [[False], [True]] and near.boxes[1, 0].tolist() == [20, 20, 40, 40]
    assert transforms.visible_only(near).track_ids.tolist() == [51]


def test_frame_numbers_go_on_where_the_source_stands_still() -> None:
    clip = clip_of(0)
    for indices, numbers in [((3, 7, 8), [3, 7, 8]), ((4, 4, 4), [0, 1, 2]), ((1, 0, 1), [0, 1, 2]), ((), [0, 1, 2])]:
        found = ClipSample(
            clip.frames, clip.labels, clip.track_ids, clip.iscrowd, clip.masks, "", indices
        ).frame_numbers  # fmt: skip
        assert found.dtype == np.int64 and found.tolist() == numbers


def test_no_instance_is_no_problem() -> None:
    clip = clip_of(3, frames=2, instances=0)
    for changed in (
        transforms.flip(clip),
        transforms.crop(clip, 1, 1, 4, 5),
        transforms.resize(clip, 5, 6),
        transforms.rotate(clip, [5.0, -5.0]),
        transforms.jitter(clip, 6, 8, [0.5], [(0.5, 0.5)]),
        transforms.visible_only(clip),
    ):
        assert_consistent(changed)


@given(SEEDS, st.sampled_from([(1, 1), (1, 17), (17, 1), (12, 16)]))
@settings(max_examples=20, deadline=None)
def test_mask_boxes_of_any_layout(seed: int, size: tuple[int, int]) -> None:
    masks = np.random.default_rng(seed).random((2, 3, *size)) < 0.1
    expected = np.array([[plain_box(mask) for mask in track] for track in masks], np.float32)
    for array in (masks, np.asfortranarray(masks), masks[..., ::-1][..., ::-1]):
        assert np.array_equal(transforms.mask_boxes(array), expected)
