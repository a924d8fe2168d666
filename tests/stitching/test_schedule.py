"""Which frames each clip holds, and what is refused."""

from __future__ import annotations

import itertools

import pytest

from vislab.config import replace_path
from vislab.data import DatasetConfig
from vislab.engine.config import EvalConfig
from vislab.errors import UserError
from vislab.stitching import ClipInferenceConfig, StitchingConfig, clip_windows
from vislab.stitching.schedule import reflected, streamed_windows


def released_starts(num_frames: int, length: int, stride: int) -> list[int]:
    """Starts of the clips of a video longer than a clip, by the rule of the release told in words: go on by the stride
    while a clip ends before the video does, then take the last frames."""
    starts, start = [0], stride
    while start + length < num_frames:
        starts.append(start)
        start += stride
    return [*starts, num_frames - length]


@pytest.mark.parametrize("length", range(1, 13))
def test_clips_cover_every_video(length: int) -> None:
    for num_frames, stride in itertools.product(range(1, 201), range(1, length + 1)):
        windows = clip_windows(num_frames, length, stride)
        assert {frame for window in windows for frame in window.inputs} == set(range(num_frames))
        assert all(len(window.inputs) == length for window in windows)
        assert windows[-1].first + windows[-1].length == num_frames
        if num_frames > length:
            starts = [window.first for window in windows]
            assert starts == released_starts(num_frames, length, stride)
            assert all(window.inputs == tuple(range(window.first, window.first + length)) for window in windows)
        else:
            assert [(window.first, window.length) for window in windows] == [(0, num_frames)]


def test_the_paper_s_schedule() -> None:
    assert [window.first for window in clip_windows(16, 6, 4)] == [0, 4, 8, 10]
    assert [window.first for window in clip_windows(14, 6, 4)] == [0, 4, 8]
    assert clip_windows(0, 6, 4) == []


def test_short_videos_are_reflected() -> None:
    assert clip_windows(3, 8, 4)[0].inputs == (0, 1, 2, 1, 0, 1, 2, 1)
    assert clip_windows(2, 5, 4)[0].inputs == (0, 1, 0, 1, 0)
    assert clip_windows(1, 3, 2)[0].inputs == (0, 0, 0)  # the released loop would not end here
    for num_frames in range(2, 9):  # walking to and fro, one frame at a time
        walk = [reflected(position, num_frames) for position in range(40)]
        assert walk[:num_frames] == list(range(num_frames)) and set(walk) == set(range(num_frames))
        assert all(abs(a - b) == 1 for a, b in itertools.pairwise(walk))


@pytest.mark.parametrize(
    ("length", "stride", "words"),
    [
        (6, 7, "evaluation.clips.clip_stride is 7, expected 1 to clip_length, 6"),
        (6, 0, "evaluation.clips.clip_stride is 0"),
        (0, 1, "evaluation.clips.clip_length is 0, expected 1 or more"),
    ],
)
def test_clips_that_leave_frames_out_are_refused(length: int, stride: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ClipInferenceConfig(length, stride)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask_weight": -1.0}, "evaluation.clips.stitching.mask_weight is -1.0, expected 0 or more"),
        (
            {"min_frame_score": 1.0},
            r"evaluation.clips.stitching.min_frame_score is 1.0, expected a probability in \[0, 1",
        ),
        ({"min_track_score": -0.1}, "min_track_score is -0.1"),
    ],
)
def test_cues_out_of_range_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        StitchingConfig(**changes)


def test_options_are_reached_by_dotted_path() -> None:
    config = EvalConfig(DatasetConfig("fake"), clips=ClipInferenceConfig())
    changed = replace_path(config, "clips.stitching.class_weight", 0.0)
    assert changed.clips == ClipInferenceConfig(stitching=StitchingConfig(class_weight=0.0))
    with pytest.raises(UserError, match="birth"):
        replace_path(config, "clips.stitching.birth", "sometimes")


@pytest.mark.parametrize("length", [1, 2, 5, 6])
def test_frames_that_arrive_are_cut_as_if_their_number_were_known(length: int) -> None:
    for num_frames, stride in itertools.product(range(30), range(1, length + 1)):
        windows = clip_windows(num_frames, length, stride)
        found = [(window, list(inputs)) for window, inputs in streamed_windows(range(num_frames), length, stride)]
        assert found == [(window, list(window.inputs)) for window in windows]


def test_a_short_video_may_stay_as_it_is() -> None:
    ((window, inputs),) = streamed_windows(range(3), 8, 4, reflect=False)
    assert (window.first, window.length, inputs) == (0, 3, [0, 1, 2])


def test_no_frame_is_taken_before_it_is_needed() -> None:
    taken: list[int] = []
    windows = streamed_windows((taken.append(frame) or frame for frame in itertools.count()), 6, 4)  # type: ignore
    for last in (5, 9, 13):
        next(windows)
        assert taken[-1] == last
