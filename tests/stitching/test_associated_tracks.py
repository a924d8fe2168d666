"""Instances of a video from streamed frames: IDOL's votes, written out on small cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vislab.rle import RLE, decode, encode_many
from vislab.stitching.associated_tracks import AssociatedTracks
from vislab.stitching.association import AssociationConfig
from vislab.stitching.video_stream import StreamedFrame, StreamedInstance

FULL, EMPTY = torch.ones(2, 3), -torch.ones(2, 3)


def encode(logits: Tensor) -> list[RLE | None]:
    masks = (logits > 0).numpy()
    return [code if mask.any() else None for code, mask in zip(encode_many(masks), masks, strict=True)]


def cell(track: int, scores: list[float], mask: Tensor = FULL, seen: bool = True) -> StreamedInstance:
    return StreamedInstance(track, seen, torch.tensor(scores), mask)


def collect(frames: list[list[StreamedInstance]], config: AssociationConfig | None = None) -> AssociatedTracks:
    tracks = AssociatedTracks(config or AssociationConfig(), encode)
    for number, cells in enumerate(frames):
        tracks.add(StreamedFrame(number, tuple(cells)))
    return tracks


def test_every_class_with_a_mean_score_becomes_an_instance() -> None:
    tracks = collect([[cell(0, [0.9, 0.02, 0.2])], [cell(1, [0.0, 0.6, 0.0])], [cell(0, [0.5, 0.04, 0.4])]])
    found = tracks.instances(top_k=10)
    assert [(instance.label, instance.score) for instance in found] == [
        (0, pytest.approx(0.7)), (1, pytest.approx(0.6)), (2, pytest.approx(0.3)),
    ]  # fmt: skip
    assert [code is not None for code in found[0].segmentations] == [True, False, True]
    assert found[0].segmentations == found[2].segmentations
    code = found[0].segmentations[0]
    assert code is not None
    np.testing.assert_array_equal(decode(code, 2, 3), np.ones((2, 3), bool))
    assert len(tracks.instances(top_k=2)) == 2
    assert len(tracks.instances(top_k=10, score_threshold=0.65)) == 1


def test_recovered_frames_have_masks_and_no_vote() -> None:
    tracks = collect([[cell(0, [0.8])], [cell(0, [0.2], seen=False)], [cell(0, [0.9], EMPTY)]])
    (instance,) = tracks.instances(top_k=10)
    assert instance.score == pytest.approx(0.85)
    assert [code is not None for code in instance.segmentations] == [True, True, False]


def test_tracks_of_empty_masks_are_left_out() -> None:
    assert collect([[cell(0, [0.8], EMPTY)]]).instances(top_k=10) == []
    assert collect([[], []]).instances(top_k=10) == []


@pytest.mark.parametrize(("seen", "length", "kept"), [(2, 10, False), (3, 10, True), (2, 9, True)])
def test_short_tracks_go_after_a_while(seen: int, length: int, kept: bool) -> None:
    frames = [[cell(0, [0.8])] if number < seen else [] for number in range(length)]
    assert bool(collect(frames).instances(top_k=10)) == kept


def test_short_tracks_stay_while_they_are_young() -> None:
    frames = [[]] * 11 + [[cell(0, [0.8])], []]
    assert len(collect(frames).instances(top_k=10)) == 1
    assert collect([*frames, []]).instances(top_k=10) == []


def test_recovered_frames_before_the_first_sight_are_no_reason_to_go() -> None:
    frames = [[]] * 11 + [[cell(0, [0.8], seen=False)]] * 3 + [[cell(0, [0.8])]]
    (instance,) = collect(frames).instances(top_k=10)
    assert sum(code is not None for code in instance.segmentations) == 4
