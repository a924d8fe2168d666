"""Training clips: determined by (seed, step, sample) alone, always legal, never without an instance."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_videos import HEIGHT, WIDTH, MemoryVideos, write_flat

from vislab.data import DatasetConfig, load_dataset, sampling
from vislab.data.collate import collate
from vislab.data.sampling import SamplingConfig, clip_frames, random_stream, training_batch, training_clip
from vislab.data.transforms import ClipSample
from vislab.errors import UserError

PLAIN = SamplingConfig(clip_length=3, flip=0.0)
EVERYTHING = SamplingConfig(clip_length=3, clip_stride=2, short_sides=(24, 40), max_side=64, crop=0.5, colour=0.4)


def assert_same(a: ClipSample, b: ClipSample) -> None:
    assert a.video == b.video and a.frame_indices == b.frame_indices
    assert np.array_equal(a.frames, b.frames) and np.array_equal(a.masks, b.masks)


@pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        EVERYTHING,
        SamplingConfig(clip_length=3, rotation_degrees=20),
        SamplingConfig(clip_length=3, jitter=(0.3, 2.0)),
    ],
)
def test_a_clip_depends_on_seed_step_and_sample_only(config: SamplingConfig) -> None:
    videos = MemoryVideos([5, 9, 3, 1, 7])
    first = [training_clip(videos, config, 1, 2, sample) for sample in range(6)]
    for sample in (5, 0, 3):
        assert_same(training_clip(videos, config, 1, 2, sample), first[sample])
    keys = {(clip.video, clip.frame_indices) for clip in first}
    assert len(keys) > 1


def test_seed_step_and_sample_are_different_axes() -> None:
    draws = {tuple(random_stream(*key).random(4)) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0, 1)]}
    assert len(draws) == 5


def test_stream_is_fixed_for_ever() -> None:
    """First double of Philox4x64-10, key (seed, 0), counter (0, attempt, sample, step), by an implementation here."""
    for key in [(0, 0, 0, 0), (7, 123456, 31, 2), (2**63 + 5, 1, 2, 0)]:
        seed, step, sample, attempt = key
        word = philox_4x64_10([1, attempt, sample, step], [seed, 0])[0]  # numpy counts up before the first block
        assert random_stream(*key).random() == (word >> 11) * 2.0**-53


def philox_4x64_10(counter: list[int], key: list[int]) -> list[int]:
    """Salmon et al., SC 2011, section 3.3, with the published multipliers and Weyl constants."""
    low_bits = 2**64 - 1
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
        a, b, c, d = (second >> 64) ^ b ^ k0, second & low_bits, (first >> 64) ^ d ^ k1, first & low_bits
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & low_bits, (k1 + 0xBB67AE8584CAA73B) & low_bits
    return [a, b, c, d]


BITS = {  # of the batch that seed 3, step 7 gave before there was `jitter`
    PLAIN: "84f8a1af1764012d",
    EVERYTHING: "ed442b39f9f1e0e4",
    SamplingConfig(clip_length=3, rotation_degrees=20.0): "825541fb92008976",
}


@pytest.mark.parametrize("config", BITS)
def test_clips_have_the_bits_that_runs_were_trained_on(config: SamplingConfig) -> None:
    dataset = load_dataset(DatasetConfig("synthetic-ytvis19", 4, 48, 80, 6, 8), "train")
    batch = training_batch(dataset, config, batch_size=3, seed=3, step=7)
    content = hashlib.sha256(batch.images.numpy().tobytes())
    for target in batch.targets:
        content.update(target.masks.numpy().tobytes())
    assert content.hexdigest()[:16] == BITS[config]


def test_a_batch_is_its_samples_however_it_is_divided() -> None:
    videos = MemoryVideos([5, 9, 3])
    whole = training_batch(videos, PLAIN, batch_size=4, seed=3, step=7)
    ranks = [training_batch(videos, PLAIN, batch_size=2, seed=3, step=7, first_sample=first) for first in (0, 2)]
    assert torch.equal(whole.images, torch.cat([batch.images for batch in ranks]))
    again = collate([training_clip(videos, PLAIN, 3, 7, sample) for sample in range(4)])
    assert torch.equal(whole.images, again.images)
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(whole.targets, again.targets, strict=True))


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_clip_frames_are_legal(length: int, clip_length: int, stride: int, seed: int) -> None:
    frames = clip_frames(length, clip_length, stride, np.random.default_rng(seed))
    assert len(frames) == clip_length and all(0 <= t < length for t in frames)
    gaps = np.diff(frames)
    if length >= clip_length:
        assert all((gaps >= 1) & (gaps <= stride))
    elif length > 1:
        assert all(np.abs(gaps) == 1)
    else:
        assert frames == [0] * clip_length


def test_every_legal_clip_of_stride_one_is_equally_likely() -> None:
    rng = np.random.default_rng(0)
    counts = Counter(tuple(clip_frames(6, 3, 1, rng)) for _ in range(4000))
    assert sorted(counts) == [(0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5)]
    assert min(counts.values()) > 850


def test_gaps_up_to_the_stride_all_occur_and_shrink_in_short_videos() -> None:
    rng = np.random.default_rng(0)
    assert {int(gap) for _ in range(200) for gap in np.diff(clip_frames(30, 4, 3, rng))} == {1, 2, 3}
    assert {int(gap) for _ in range(200) for gap in np.diff(clip_frames(8, 4, 3, rng))} == {1, 2}
    assert clip_frames(4, 4, 3, rng) == [0, 1, 2, 3]


def test_a_short_video_is_played_to_and_fro() -> None:
    seen = {tuple(clip_frames(3, 6, 2, np.random.default_rng(seed))) for seed in range(30)}
    assert seen == {(0, 1, 2, 1, 0, 1), (1, 2, 1, 0, 1, 2), (2, 1, 0, 1, 2, 1)}


def test_videos_are_drawn_uniformly() -> None:
    videos = MemoryVideos([3, 30, 3, 3])
    counts = Counter(training_clip(videos, PLAIN, 0, step, 0).video for step in range(400))
    assert set(counts) == {f"video{i}" for i in range(4)} and min(counts.values()) > 65


def test_videos_without_visible_instance_are_passed_over() -> None:
    videos = MemoryVideos([4] * 8, hidden=[0, 1, 2, 4, 5, 6])
    names = {training_clip(videos, PLAIN, 0, step, 0).video for step in range(40)}
    assert names == {"video3", "video7"}


def test_a_data_set_of_crowds_only_is_refused() -> None:
    with pytest.raises(UserError, match="data set memory: 100 random clips of 3 frames show no labelled instance"):
        training_clip(MemoryVideos([4, 4], hidden=[0, 1]), PLAIN, 0, 0, 0)


def test_augmented_clips_always_show_an_instance() -> None:
    videos = MemoryVideos([4, 2, 8], height=20, width=120)
    config = SamplingConfig(clip_length=2, crop=1.0, short_sides=(5, 8), colour=0.5)
    for step in range(60):
        clip = training_clip(videos, config, 0, step, 0)
        assert 5 in clip.track_ids and clip.present.any(axis=1).all()
        assert min(clip.size) in (5, 8)


def test_cropping_without_resizing_never_grows_the_clip() -> None:
    config = SamplingConfig(clip_length=2, crop=1.0)
    sizes = {training_clip(MemoryVideos([4]), config, 0, step, 0).size for step in range(30)}
    assert len(sizes) > 5 and all(h <= 32 and w <= 64 and (h == 32 or w == 64) for h, w in sizes)


def test_pseudo_video_rotates_each_frame_of_one_still() -> None:
    config = SamplingConfig(clip_length=4, rotation_degrees=20.0, flip=0.0)
    for length in (1, 6):
        clip = training_clip(MemoryVideos([length], height=64), config, 0, 1, 0)
        assert len(set(clip.frame_indices)) == 1 and len(clip.frames) == 4
        strips = clip.masks[clip.track_ids == 6][0]
        assert len({strip.tobytes() for strip in strips}) == 4  # four angles
    still = training_clip(MemoryVideos([1]), PLAIN, 0, 0, 0)
    assert still.frame_indices == (0, 0, 0)


JITTERED = SamplingConfig(clip_length=3, flip=0.0, jitter=(0.1, 2.0))


def heights(clip: ClipSample) -> np.ndarray:
    """(T,) of the disc of MemoryVideos, which is seen whole at factors up to 1."""
    (boxes,) = clip.boxes[clip.track_ids == 5]
    return boxes[:, 3] - boxes[:, 1]


def test_clips_of_a_video_are_jittered_as_one() -> None:
    drawn = []
    for step in range(60):
        clip = training_clip(MemoryVideos([9]), JITTERED, 0, step, 0)
        assert clip.size == (32, 64) and len(set(clip.frame_indices)) == 3
        assert all(np.array_equal(mask, clip.masks[0, 0]) for mask in clip.masks[0])
        numbers = clip.frames[..., 0].reshape(3, -1)
        assert [set(row) - {124} for row in numbers.tolist()] == [{t} for t in clip.frame_indices]
        drawn.append(float((numbers == 124).mean()))
    assert min(drawn) == 0 and max(drawn) > 0.9 and 0.3 < np.mean(np.array(drawn) == 0) < 0.7


def test_frames_of_a_still_are_jittered_independently() -> None:
    """A data set of images, or the one frame that rotation_degrees makes a pseudo-video of; RefineVIS section 4.1."""
    small = SamplingConfig(clip_length=4, flip=0.0, jitter=(0.4, 1.0))
    turning = SamplingConfig(clip_length=4, flip=0.0, jitter=(0.4, 1.0), rotation_degrees=1e-3)
    for videos, config in ((MemoryVideos([1], height=64), small), (MemoryVideos([7], height=64), turning)):
        found = np.array([heights(training_clip(videos, config, 0, step, 0)) for step in range(40)])
        assert found.shape == (40, 4) and (np.ptp(found, axis=1) > 0).mean() > 0.9
        assert found.min() <= 6 and found.max() >= 12
    clip = training_clip(MemoryVideos([1]), small, 0, 0, 0)
    assert clip.frame_indices == (0, 0, 0, 0) and clip.frame_numbers.tolist() == [0, 1, 2, 3]


def test_jitter_works_on_the_size_that_short_sides_and_crops_give() -> None:
    config = SamplingConfig(clip_length=2, crop=1.0, short_sides=(48,), jitter=(0.5, 2.0))
    assert {min(training_clip(MemoryVideos([4]), config, 0, step, 0).size) for step in range(8)} == {48}


def test_jitter_of_one_draws_what_is_drawn_without() -> None:
    """Its numbers come after those that choose video, frames, crop and size."""
    config = SamplingConfig(clip_length=2, clip_stride=3, crop=0.5, short_sides=(24, 40), flip=0.0)
    for step in range(8):
        plain, one = (
            training_clip(MemoryVideos([9, 5, 7]), SamplingConfig(**{**vars(config), "jitter": jitter}), 0, step, 0)
            for jitter in (None, (1.0, 1.0))
        )
        assert_same(plain, one)


def test_jitter_with_every_reader(tmp_path: Path) -> None:
    write_flat(tmp_path)
    video = training_clip(load_dataset(DatasetConfig(f"{tmp_path}+whole"), "train"), JITTERED, 0, 0, 0)
    assert video.size == (HEIGHT, WIDTH) and video.present.any()
    synthetic = DatasetConfig("synthetic-coco", 3, 48, 80)
    stills = training_batch(load_dataset(synthetic, "train"), JITTERED, batch_size=2, seed=0, step=0)
    assert stills.images.shape == (2, 3, 3, 64, 96) and stills.frame_numbers is not None
    assert stills.frame_numbers.tolist() == [[0, 1, 2]] * 2


def test_flip_probability() -> None:
    config = SamplingConfig(clip_length=1, flip=0.25)
    rng_draws = [sampling.training_clip(Ramp([1]), config, 0, step, 0).frames[0, 0, 0, 0] for step in range(400)]
    assert 70 < sum(value > 0 for value in rng_draws) < 130


class Ramp(MemoryVideos):
    """Brightness grows from left to right."""

    def frames(self, index: int, frame_indices: list[int]) -> np.ndarray:
        frames = super().frames(index, frame_indices)
        frames[:] = np.arange(frames.shape[2], dtype=np.uint8)[:, None]
        return frames


@pytest.mark.parametrize(
    "changes",
    [
        {"flip": 1.5},
        {"crop": -0.1},
        {"colour": float("nan")},
        {"rotation_degrees": 200},
        {"clip_length": 0},
        {"clip_stride": 0},
        {"short_sides": (320, 0)},
        {"max_side": 0},
        {"jitter": (0.0, 2.0)},
        {"jitter": (2.0, 0.5)},
        {"jitter": (0.5, float("inf"))},
    ],
)
def test_values_out_of_range_are_named(changes: dict) -> None:
    with pytest.raises(UserError, match=f"SamplingConfig.{next(iter(changes))} is"):
        SamplingConfig(**changes)
