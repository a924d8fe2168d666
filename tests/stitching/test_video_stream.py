"""Streams frame by frame: what comes out when, what refinement sees, and how much is held."""

from __future__ import annotations

import weakref

import pytest
import torch
from scenes import CHANNELS, CLASSES, Seen, predictions

from vislab.blocks.temporal_attention_refinement import TARConfig, TemporalAttentionRefinement, refine_windows
from vislab.errors import UserError
from vislab.losses.frame_predictions import FramePredictions, gather_tracklets
from vislab.stitching.association import AssociationConfig
from vislab.stitching.video_stream import StreamConfig, StreamedFrame, VideoStream

CONFIG = AssociationConfig(recovery_score=0.0)
LOST_AND_FOUND = [[Seen(3, 0.2), Seen(4, 0.8)], [Seen(4, 0.8)], [Seen(3, 0.3), Seen(4, 0.8)], [Seen(3, 0.3)]]
COLUMN_OF = {3: 0, 4: 1}  # look -> track


def tar(window: int = 10) -> TemporalAttentionRefinement:
    torch.manual_seed(0)
    return TARConfig(window=window, num_heads=2, feed_forward_channels=16).build(CHANNELS).eval()


def run(values: FramePredictions, config: StreamConfig, layer: TemporalAttentionRefinement | None) -> list:
    stream = VideoStream(config, layer)
    return [*stream.push(values), *stream.flush()]


def query_index(frames: list[list[Seen]]) -> torch.Tensor:
    """(2, T): where the objects of looks 3 and 4 are, -1 where they are not."""
    rows = [[next((q for q, s in enumerate(frame) if s.look == look), -1) for frame in frames] for look in (3, 4)]
    return torch.tensor(rows)


def scores_by_track(frames: list[StreamedFrame]) -> dict[tuple[int, int], torch.Tensor]:
    return {(frame.frame, cell.track_id): cell.scores for frame in frames for cell in frame.instances}


def test_without_refinement_frames_are_as_the_frame_level_model_has_them() -> None:
    values = predictions(LOST_AND_FOUND)
    for config, layer in ((StreamConfig(CONFIG), None), (StreamConfig(CONFIG, window=0), tar())):
        frames = run(values, config, layer)
        assert [frame.frame for frame in frames] == [0, 1, 2, 3]
        assert [[cell.track_id for cell in frame.instances] for frame in frames] == [[0, 1], [1], [0, 1], [0]]
        for frame, objects in zip(frames, LOST_AND_FOUND, strict=True):
            for cell in frame.instances:
                query = next(q for q, seen in enumerate(objects) if COLUMN_OF[seen.look] == cell.track_id)
                torch.testing.assert_close(cell.scores, values.logits[frame.frame, query].sigmoid())
                expected = values.masks(frame.frame, torch.tensor([query]))[0]
                torch.testing.assert_close(cell.mask_logits, expected)
                assert cell.seen


def test_online_gives_each_frame_at_once_and_does_not_know_the_next() -> None:
    layer = tar()
    stream, outputs = VideoStream(StreamConfig(CONFIG), layer), []
    for index in range(4):
        (frame,) = stream.push(predictions(LOST_AND_FOUND[index : index + 1]))
        assert frame.frame == index
        outputs.append(frame)
    assert stream.flush() == []
    together = run(predictions(LOST_AND_FOUND), StreamConfig(CONFIG), layer)
    cut = run(predictions(LOST_AND_FOUND[:3]), StreamConfig(CONFIG), layer)
    for one, other in ((outputs, together), (together[:3], cut)):
        first, second = scores_by_track(one), scores_by_track(other)
        assert first.keys() == second.keys()
        for key in first:
            torch.testing.assert_close(first[key], second[key])


def test_online_refines_with_the_refined_past() -> None:
    layer, values = tar(window=2), predictions(LOST_AND_FOUND)
    frames = run(values, StreamConfig(CONFIG), layer)
    found = scores_by_track(frames)
    raw = gather_tracklets(values.embeddings, query_index(LOST_AND_FOUND))
    for track in (0, 1):
        past = torch.zeros(0, CHANNELS)
        for frame in range(4):
            window = torch.cat((past, raw[track, frame : frame + 1]))[-2:]
            numbers = torch.arange(frame + 1 - len(window), frame + 1)
            refined = layer(window[None], numbers)[0, -1:]
            torch.testing.assert_close(found[frame, track], refined[0, :CLASSES].sigmoid())
            past = torch.cat((past, refined))[-1:]


@pytest.mark.parametrize("window", [2, 3, 4, 9])
def test_offline_refines_windows(window: int) -> None:
    layer, values = tar(), predictions(LOST_AND_FOUND)
    frames = run(values, StreamConfig(CONFIG, "offline", window), layer)
    found = scores_by_track(frames)
    raw = gather_tracklets(values.embeddings, query_index(LOST_AND_FOUND))
    refined = refine_windows(layer, raw, torch.arange(4), window)
    for frame in range(4):
        part = query_index(LOST_AND_FOUND)[:, frame // window * window :][:, :window]
        for track in (0, 1):
            assert ((frame, track) in found) == bool((part[track] >= 0).any())
            if (frame, track) in found:
                torch.testing.assert_close(found[frame, track], refined[track, frame, :CLASSES].sigmoid())


def test_offline_waits_for_its_window_and_recovers_frames_before_the_first_sight() -> None:
    stream = VideoStream(StreamConfig(CONFIG, "offline", 3), tar())
    late = [[Seen(3, 0.2)], [Seen(3, 0.2)], [Seen(3, 0.2), Seen(4, 0.7)], [Seen(3, 0.2)]]
    counts = [len(stream.push(predictions([frame]))) for frame in late]
    assert counts == [0, 0, 3, 0]
    (last,) = stream.flush()
    assert last.frame == 3 and [cell.track_id for cell in last.instances] == [0]
    frames = run(predictions(late), StreamConfig(CONFIG, "offline", 3), tar())
    assert [(cell.track_id, cell.seen) for cell in frames[0].instances] == [(0, True), (1, False)]


def test_lost_frames_are_recovered_where_the_object_was_seen_last() -> None:
    frames = run(predictions(LOST_AND_FOUND), StreamConfig(CONFIG), tar())
    cells = {cell.track_id: cell for cell in frames[1].instances}
    assert not cells[0].seen and cells[1].seen
    columns = (cells[0].mask_logits > 0).any(0).nonzero()[:, 0].float()
    assert columns.mean().item() == pytest.approx(0.2 * 24 - 0.5, abs=0.6)
    strict = AssociationConfig(recovery_score=0.99)
    frames = run(predictions(LOST_AND_FOUND), StreamConfig(strict), tar())
    assert [cell.track_id for cell in frames[1].instances] == [1]


def test_tracks_do_not_touch_each_other() -> None:
    layer = tar()
    other = [[seen if seen.look == 3 else Seen(4, 0.6, score=0.5, label=1) for seen in f] for f in LOST_AND_FOUND]
    for config in (StreamConfig(CONFIG), StreamConfig(CONFIG, "offline", 3)):
        first, second = (scores_by_track(run(predictions(f), config, layer)) for f in (LOST_AND_FOUND, other))
        for key in (key for key in first if key[1] == 0 and key in second):
            torch.testing.assert_close(first[key], second[key])


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_memory_is_bounded_over_a_long_video(mode: str) -> None:
    stream = VideoStream(StreamConfig(CONFIG, mode, 4), tar())  # type: ignore[arg-type]
    held: list[weakref.ref] = []
    for frame in range(36):
        values = predictions([[Seen(2 + frame // 9, 0.2 + 0.5 * (frame % 7) / 7), Seen(7, 0.9)]])
        held.append(weakref.ref(values))
        stream.push(values)
        del values
        assert sum(reference() is not None for reference in held) <= (3 if mode == "offline" else 0)
        assert len(stream._places) <= 4 and len(stream._tracker.tracks) <= 4
        if stream._online is not None:
            assert stream._online.num_embeddings <= 4 * 3


def test_a_video_without_objects() -> None:
    for mode in ("online", "offline"):
        frames = run(predictions([[], [], []]), StreamConfig(CONFIG, mode, 2), tar())  # type: ignore[arg-type]
        assert [frame.instances for frame in frames] == [(), (), ()]


def test_user_mistakes() -> None:
    with pytest.raises(UserError, match="window is -1"):
        StreamConfig(window=-1)
    with pytest.raises(UserError, match=r"window' is 2.5 \(float\), expected int or None"):
        StreamConfig(window=2.5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="mode' is 'x' .*, expected 'online' or 'offline'"):
        StreamConfig(mode="x")  # type: ignore[arg-type]
