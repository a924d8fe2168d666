"""Videos frame by frame through the whole engine: perfect detections give perfect videos, chunks leave no trace."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_fakes import FakeModel, predict_all
from frame_oracle import FrameOracle
from oracle import Marked

import vislab
from vislab.config import digest, digest_of, to_dict
from vislab.data import DatasetConfig, VideoDataset, load_dataset
from vislab.engine import stream_inference
from vislab.engine.clip_inference import Video
from vislab.engine.config import EvalConfig
from vislab.engine.infer import predict_video
from vislab.engine.progress import Silent
from vislab.engine.stream_inference import FrameResult, chunks, predict_stream, stream_video
from vislab.errors import UserError
from vislab.models.presets import build_model
from vislab.models.refinevis import RefineVIS
from vislab.stitching import ClipInferenceConfig, VideoInstance
from vislab.stitching.association import AssociationConfig
from vislab.stitching.video_stream import StreamConfig

CPU = torch.device("cpu")
LONG = DatasetConfig("synthetic-ovis", 2, height=72, width=128, length=43, num_categories=8)
ONLINE, OFFLINE = StreamConfig(window=3), StreamConfig(mode="offline", window=3)
FRAMES = np.random.default_rng(0).integers(0, 256, (9, 60, 90, 3), np.uint8)


def config(stream: StreamConfig | None, **more: Any) -> EvalConfig:
    return EvalConfig(DatasetConfig("fake"), stream=stream, **more)


def eager(name: str = "refinevis", **changes: Any) -> RefineVIS:
    """An untrained model that sees something in every frame."""
    torch.manual_seed(0)
    model = build_model(name, "smoke", **changes)
    assert isinstance(model, RefineVIS)
    for key, parameter in model.named_parameters():
        if "class_head" in key and key.endswith("bias"):
            torch.nn.init.zeros_(parameter)
        elif parameter.dim() > 1 and not parameter.detach().any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def predict(model: torch.nn.Module, stream: StreamConfig, frames: np.ndarray = FRAMES, size: int = 4) -> list:
    video = Video(len(frames), lambda wanted: frames[list(wanted)])
    return predict_stream(model, video, config(stream, top_k=30), stream, 8, lambda: None, size)


def measured(dataset: VideoDataset, results: list[dict[str, Any]]) -> dict[str, float]:
    table = vislab.evaluate(dataset.ground_truth(), results, metrics=("ap", "mot"))
    table = table[table["scope"] == "all"].set_index("metric")["value"]
    return {name: float(table[name]) for name in ("AP", "IDF1", "IDs")}


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_perfect_detections_of_synthetic_videos(mode: str) -> None:
    marked = Marked(load_dataset(LONG, "valid"))
    results = predict_all(FrameOracle(marked), marked, config(StreamConfig(mode=mode)), Silent())  # type: ignore
    assert measured(marked, results) == {"AP": pytest.approx(1.0, abs=1e-12), "IDF1": 1.0, "IDs": 0.0}


def test_wrong_identities_are_noticed() -> None:
    """That the perfect score is not the only one which these data can give."""
    marked = Marked(load_dataset(LONG, "valid"))
    nobody = StreamConfig(AssociationConfig(match_score=1.0, min_frames=1))
    results = predict_all(FrameOracle(marked), marked, config(nobody), Silent())
    assert measured(marked, results)["IDF1"] < 0.5


@pytest.mark.parametrize("stream", [ONLINE, OFFLINE], ids=["online", "offline"])
def test_the_size_of_chunks_makes_no_difference(stream: StreamConfig) -> None:
    """Not to a bit, where the model's arithmetic does not depend on how many frames it sees."""
    marked = Marked(load_dataset(replace(LONG, num_videos=1, length=11), "valid"))
    frames = marked.frames(0, range(11))
    expected = predict(FrameOracle(marked), stream, frames, 11)
    assert len(expected) >= 3
    for size in (1, 2, 5, 20):
        assert predict(FrameOracle(marked), stream, frames, size) == expected


@pytest.mark.parametrize("name", ["refinevis", "refinevis-condinst", "refinevis-mask2former"])
def test_chunks_of_a_real_model_differ_by_rounding_at_most(name: str) -> None:
    model = eager(name)
    ours, theirs = (predict(model, OFFLINE, FRAMES[:5], size) for size in (1, 4))
    assert len(ours) == len(theirs) > 3
    assert [found.score for found in ours] == pytest.approx([found.score for found in theirs], abs=1e-4)


def test_chunks() -> None:
    assert chunks(1, 4) == [range(0, 1)] and chunks(0, 4) == []
    assert chunks(8, 4) == [range(0, 4), range(4, 8)] and chunks(9, 4) == [range(0, 4), range(4, 8), range(8, 9)]


def test_without_a_window_the_model_might_as_well_have_no_refinement() -> None:
    model, without = eager(), eager(tar=None)
    without.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("tar.")})
    for mode in ("online", "offline"):
        stream = StreamConfig(mode=mode, window=0)  # type: ignore[arg-type]
        assert predict(model, stream) == predict(without, stream) != predict(model, replace(stream, window=3))


def test_online_and_offline_agree_where_nothing_else_is_known() -> None:
    """On a video of one frame, and with windows of one frame as long as nothing is recovered."""
    model = eager()
    assert predict(model, ONLINE, FRAMES[:1]) == predict(model, OFFLINE, FRAMES[:1]) != []
    seen_alone = AssociationConfig(recovery_score=0.999)
    online, offline = (StreamConfig(seen_alone, mode, 1) for mode in ("online", "offline"))  # type: ignore[arg-type]
    assert predict(model, online) == predict(model, offline) != []


@pytest.mark.parametrize("stream", [ONLINE, OFFLINE, StreamConfig()])
def test_a_video_without_frames_has_no_instances(stream: StreamConfig) -> None:
    nothing = np.zeros((0, 32, 32, 3), np.uint8)
    assert predict_video(eager(), nothing, config(stream), 8, CPU) == []
    assert list(stream_video(eager(), iter(nothing), stream)) == []


def test_a_stream_does_not_know_the_future() -> None:
    model = eager()
    results = list(stream_video(model, FRAMES, ONLINE))
    assert [result.frame for result in results] == list(range(9)) and any(result.instances for result in results)
    assert list(stream_video(model, FRAMES[:5], ONLINE)) == results[:5]


def test_a_stream_takes_a_frame_when_its_result_is_asked_for() -> None:
    taken = []

    def camera() -> Iterator[np.ndarray]:
        for number, frame in enumerate(FRAMES):
            taken.append(number)
            yield frame

    model = eager()
    for result in stream_video(model, camera(), ONLINE):
        assert taken == list(range(result.frame + 1))
    taken.clear()
    stream = stream_video(model, camera(), OFFLINE)
    assert [next(stream).frame for _ in range(4)] == [0, 1, 2, 3] and taken == [0, 1, 2, 3, 4, 5]


def segmentations(results: list[FrameResult], length: int) -> dict[int, list[Any]]:
    tracks: dict[int, list[Any]] = {}
    for result in results:
        for instance in result.instances:
            tracks.setdefault(instance.track_id, [None] * length)[result.frame] = instance.segmentation
    return tracks


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_stream_shows_what_the_whole_video_is_made_of(mode: str) -> None:
    marked = Marked(load_dataset(replace(LONG, num_videos=1, length=14), "valid"))
    frames, stream = marked.frames(0, range(14)), StreamConfig(mode=mode)  # type: ignore[arg-type]
    whole = predict_video(FrameOracle(marked), frames, config(stream), 8, CPU)
    results = list(stream_video(FrameOracle(marked), frames, stream, num_categories=8))
    shown = segmentations(results, 14)
    assert all(instance.segmentations in shown.values() for instance in whole) and len(whole) >= 3
    labels = marked.annotations(0, range(14)).labels
    for result in results:
        assert all(cell.seen and cell.score > 0.99 and cell.label in labels for cell in result.instances)


def test_frames_are_read_and_forgotten_chunk_by_chunk() -> None:
    marked = Marked(load_dataset(replace(LONG, num_videos=1, length=25), "valid"))
    model, held, heard = FrameOracle(marked), [], []

    class Watching(Silent):
        def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
            heard.append((stage, step, total))
            held.append(model.num_held)

    predict_all(model, marked, config(StreamConfig()), Watching())
    parts = [range(8), range(8, 16), range(16, 24), range(24, 25)]
    assert marked.reads == [(0, tuple(part)) for part in parts]
    assert heard == [("infer", step, 4) for step in (1, 2, 3, 4)] and held == [0, 0, 0, 0]


def test_a_window_holds_no_more_than_it_waits_for() -> None:
    model = eager()
    follower = stream_inference.FrameFollower(
        model, OFFLINE, None, short_side=None, max_side=None, mask_threshold=0.5, mask_alignment="target"
    )
    for number in range(9):
        follower.push(FRAMES[number : number + 1])
        waiting = follower._stream._waiting
        assert len(waiting) == (number + 1) % 3
        assert all(frame.predictions.aux_outputs == [] for frame in waiting)


@pytest.mark.parametrize(
    ("model", "stream", "words"),
    [
        ("refinevis", None, "evaluation.stream is None, expected a StreamConfig: RefineVIS predicts single frames"),
        ("fake", ONLINE, "the model is a FakeModel, expected a model of single frames with association"),
    ],
)
def test_models_get_what_they_take(model: str, stream: StreamConfig | None, words: str) -> None:
    built = FakeModel() if model == "fake" else eager()
    with pytest.raises(UserError, match=words):
        predict_video(built, FRAMES, config(stream), 2, CPU)
    for other in (FakeModel(), build_model("maskdino", "smoke")):
        with pytest.raises(UserError, match=f"the model is a {type(other).__name__}, expected a model of single fr"):
            next(stream_video(other, FRAMES))


def test_frames_of_one_video_have_one_size() -> None:
    frames = [FRAMES[0], FRAMES[1, :50]]
    with pytest.raises(UserError, match="a frame is 50x90, expected 60x90 as those before it"):
        list(stream_video(eager(), frames))


IMAGE = FRAMES[0]


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (IMAGE[..., 0], "uint8 of shape (60, 90)"),
        (IMAGE[..., [0, 1, 2, 2]], "uint8 of shape (60, 90, 4)"),
        (IMAGE.transpose(2, 0, 1), "uint8 of shape (3, 60, 90)"),
        (FRAMES[:2], "uint8 of shape (2, 60, 90, 3)"),
        (IMAGE[:0], "uint8 of shape (0, 90, 3)"),
        (IMAGE / np.float32(255), "float32 of shape (60, 90, 3)"),
        (IMAGE.astype(np.uint16), "uint16 of shape (60, 90, 3)"),
        (None, "NoneType"),
        ("video.mp4", "str"),
        (torch.from_numpy(IMAGE), "Tensor"),
    ],
    ids=["grey", "RGBA", "channels first", "batch", "empty", "float", "uint16", "None", "path", "tensor"],
)
def test_frames_are_checked(frame: Any, found: str) -> None:
    expected = "expected a numpy array, uint8 of shape (height, width, 3), RGB"
    for frames, good in (([frame], 0), ([IMAGE, frame], 1)):
        stream = stream_video(eager(), frames)
        assert [next(stream).frame for _ in range(good)] == list(range(good))
        with pytest.raises(UserError) as error:
            next(stream)
        assert str(error.value) == f"a frame is {found}, {expected}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stream": {}}, "stream is {}, expected a StreamConfig"),
        ({"num_categories": 0}, "num_categories is 0, expected None or a whole number from 1 on"),
        ({"num_categories": 2.5}, "num_categories is 2.5, expected None or a whole number from 1 on"),
        ({"short_side": -5}, "short_side is -5, expected None or a whole number from 1 on"),
        ({"max_side": 0}, "max_side is 0, expected None or a whole number from 1 on"),
        ({"mask_threshold": 2}, "mask_threshold is 2, expected a probability in [0, 1)"),
        ({"mask_alignment": "x"}, "mask_alignment is 'x', expected 'target' or 'interpolate'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        next(stream_video(eager(), FRAMES, **options))
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["clips", "augmentation"])
def test_streams_exclude_other_ways(name: str) -> None:
    from vislab.stitching.augmentation import TestTimeAugmentationConfig

    other = {"clips": ClipInferenceConfig(), "augmentation": TestTimeAugmentationConfig((80,))}[name]
    with pytest.raises(UserError, match=f"evaluation.{name} is for models of clips, expected None where evaluation.st"):
        config(ONLINE, **{name: other})


def test_streams_are_part_of_the_key_and_their_absence_leaves_old_keys_alone() -> None:
    whole = to_dict(config(None))
    assert [whole.pop(name) for name in ("clips", "augmentation", "stream")] == [None] * 3
    assert digest(config(None)) == digest_of(whole)
    assert len({digest(config(stream)) for stream in (None, ONLINE, OFFLINE, StreamConfig())}) == 4


def test_instances_are_those_of_other_kinds_of_inference() -> None:
    (first, *_) = predict(eager(), ONLINE)
    assert isinstance(first, VideoInstance) and len(first.segmentations) == 9 and 0 <= first.label < 8


def test_the_example_runs() -> None:
    assert doctest.testmod(stream_inference).failed == 0


def test_the_example_of_the_readme_shows_instances(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a shorter video."""
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    part = (root / "README.md").read_text(encoding="utf-8").partition("### Frame by frame, as frames arrive")[2]
    code = part.partition("```python\n")[2].partition("```")[0]
    assert code.count("300") == 2
    exec(code.replace("300", "12"), {})
    frames = [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert set(frames) == set(range(12)) and len(frames) > 24


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize(
    ("model", "size", "lengths"),
    [("fake", (96, 160), (60, 300)), pytest.param("refinevis", (96, 160), (60, 300), marks=pytest.mark.slow)],
)
def test_memory_does_not_grow_with_the_video(model: str, size: tuple[int, int], lengths: tuple[int, ...]) -> None:
    """300 frames of synthetic-ovis, frame by frame, in a process of its own, whose peak nothing else has raised."""
    script = Path(__file__).with_name("stream_memory.py")
    command = [sys.executable, str(script), model, *map(str, size), *map(str, lengths)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    short, long = map(json.loads, lines)
    assert min(long["seen"], long["refined"]) >= (300 if model == "fake" else 1), "there is something to remember"
    assert long["tensors"] - short["tensors"] < 100, "less than one for two further frames"
    assert long["peak_bytes"] < 2**29 and long["peak_bytes"] - short["peak_bytes"] < 2**24
