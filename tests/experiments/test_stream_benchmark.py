"""The benchmark of frame-by-frame inference: what it compares, refuses and writes. No times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import refinevis
import stream_benchmark
import torch
from safetensors.torch import save_file
from stream_benchmark import COLUMNS, DifferentResultError, compare, main

from vislab import rle
from vislab.engine.stream_inference import FrameInstance, FrameResult
from vislab.errors import UserError
from vislab.report.figures.benchmark_plots import draw_benchmark, read_benchmark
from vislab.stitching.video_stream import StreamConfig


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "smoke.safetensors"
    save_file(refinevis.base("smoke").model.build().state_dict(), path)
    return path


def test_a_row_for_each_window_and_one_without(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = ["--scale", "smoke", "--checkpoint", str(weights), "--device", "cpu", "--out", str(tmp_path)]
    assert main([*options, "--frames", "24", "--rounds", "1", "--window", "2", "3", "2"]) == 0
    (path,) = tmp_path.glob("stream-*.csv")
    found = pd.read_csv(path)
    assert tuple(found.columns) == COLUMNS
    assert found["competitor"].tolist() == ["without refinement", "window 2", "window 3"]
    assert found["ratio"][0] == 1 and (found["median_ms"] <= found["p95_ms"]).all() and (found["peak_mib"] > 0).all()
    assert (found["frames"] == 24).all() and (found["threads"] == 1).all()
    assert f"written: {path}" in capsys.readouterr().out
    assert len(draw_benchmark(read_benchmark(path)).axes) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "23"], "--frames is 23, expected at least 24"),
        (["--rounds", "0"], "--rounds is 0, expected at least 1"),
        (["--window", "0"], "--window is 0, expected at least 1"),
        (["--checkpoint", "nowhere.safetensors"], "nowhere.safetensors: there is no such file"),
    ],
)
def test_mistakes(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scale", "smoke", "--device", "cpu", "--out", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_file_that_cannot_take_the_rows_is_refused_before_anything_is_timed(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stream_benchmark, "processor_name", lambda: "Some CPU, 2 cores")
    monkeypatch.setattr(stream_benchmark, "measure", lambda *_: pytest.fail("measured"))
    options = ["--scale", "smoke", "--checkpoint", str(weights), "--device", "cpu", "--out"]
    path = tmp_path / "stream-some-cpu-2-cores.csv"
    path.write_text("other,columns\n1,2\n")
    assert main([*options, str(tmp_path)]) == 2
    assert "its columns are not those of this benchmark" in capsys.readouterr().err
    assert path.read_text() == "other,columns\n1,2\n"
    assert main([*options, str(path)]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_a_file_that_changes_meanwhile_is_refused_in_one_sentence(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise UserError("it cannot be written")

    monkeypatch.setattr(stream_benchmark, "measure", lambda *_: [])
    monkeypatch.setattr(stream_benchmark, "report", refused)
    options = ["--scale", "smoke", "--checkpoint", str(weights), "--device", "cpu", "--out", str(tmp_path)]
    assert main(options) == 2
    assert capsys.readouterr().err == "error: it cannot be written\n"


def test_rows_of_the_file_stay_as_they_are_until_new_ones_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_benchmark, "processor_name", lambda: "Some CPU, 2 cores")
    path = stream_benchmark.output(tmp_path, torch.device("cpu"))
    assert path == tmp_path / "stream-some-cpu-2-cores.csv" and not path.exists()
    content = ",".join(COLUMNS) + '\n"a, b",' + ",".join("1" * (len(COLUMNS) - 1)) + "\n"
    path.write_text(content)
    assert stream_benchmark.output(tmp_path, torch.device("cpu")) == path and path.read_text() == content


def _square(side: int) -> rle.RLE:
    mask = np.zeros((8, 8), bool)
    mask[:side, :side] = True
    return rle.encode(mask)


OWN = FrameInstance(0, 1, 0.5, True, _square(4))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (OWN, None),
        (replace(OWN, score=0.50001), None),
        (replace(OWN, track_id=1), "frame 3: tracks .* frame by frame"),
        (replace(OWN, label=2), "frame 3, track 0: another label or score"),
        (replace(OWN, score=0.6), "frame 3, track 0: another label or score"),
        (replace(OWN, segmentation=_square(5)), "frame 3, track 0: 16 against 25 pixels"),
        (replace(OWN, segmentation=None), "frame 3, track 0: 16 against 0 pixels"),
    ],
)
def test_results_are_compared(other: FrameInstance, message: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Together:
        def __init__(self, *_: object) -> None: ...

        def follow(self, frames: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, FrameResult]]:
            yield from ((frame, FrameResult(n, (other if n == 3 else OWN,))) for n, frame in enumerate(frames))

    def streamed(*_: object) -> Iterator[FrameResult]:
        yield from (FrameResult(n, (OWN,)) for n in range(5))

    monkeypatch.setattr(stream_benchmark, "VideoPredictor", Together)
    monkeypatch.setattr(stream_benchmark, "_streamed", streamed)
    evaluation = replace(refinevis.base("smoke").evaluation, stream=StreamConfig())
    frames, model = np.zeros((5, 8, 8, 3), np.uint8), torch.nn.Identity()
    if message is None:
        compare("window 2", model, evaluation, frames, 8, torch.device("cpu"))
        return
    with pytest.raises(DifferentResultError, match=f"window 2, {message}"):
        compare("window 2", model, evaluation, frames, 8, torch.device("cpu"))
