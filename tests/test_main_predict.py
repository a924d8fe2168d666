"""`vislab predict`, as a user calls it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vislab.__main__ import main
from vislab.config import to_dict
from vislab.data import DatasetConfig
from vislab.data.sampling import SamplingConfig
from vislab.engine.config import EvalConfig, RunConfig, TrainConfig
from vislab.losses.criterion import CriterionConfig
from vislab.models.presets import PRESETS
from vislab.report.videos.video_overlays import OverlayArtist
from vislab.stitching import ClipInferenceConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with fresh weights that see something everywhere."""
    data = DatasetConfig("synthetic-ytvis19", num_videos=2, height=64, width=96, length=5, num_categories=8)
    model, clips = PRESETS["seqformer"]("smoke"), ClipInferenceConfig(3, 2)
    config = RunConfig(
        model, CriterionConfig(), TrainConfig(1, 1), data, SamplingConfig(), EvalConfig(data, top_k=3, clips=clips)
    )
    folder = tmp_path_factory.mktemp("runs") / "key"
    folder.mkdir()
    torch.manual_seed(0)
    weights = {name: value.contiguous() for name, value in model.build().state_dict().items()}
    save_file({n: torch.zeros_like(v) if "class_head" in n and n.endswith("bias") else v for n, v in weights.items()},
              folder / "weights.safetensors")  # fmt: skip
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    return folder


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(7):
        Image.fromarray(rng.integers(0, 256, (33, 65, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--device", "cpu"])


def test_a_folder_to_a_gif_and_results(
    run: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, results = tmp_path / "new" / "found.gif", tmp_path / "new" / "results.json"
    assert predict(frames, "--checkpoint", run, "--out", out, "--json", results, "--fps", 10) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{out}: 7 frames, ") and printed.out.endswith(f"{results}\n")
    assert " 0 instances" not in printed.out
    with Image.open(out) as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (7, (320, 162), 100)
    entries = json.loads(results.read_text())
    assert entries and all(entry["video_id"] == 1 and len(entry["segmentations"]) == 7 for entry in entries)
    assert {entry["category_id"] for entry in entries} <= set(range(1, 9))
    assert sorted(path.name for path in out.parent.iterdir()) == ["found.gif", "results.json"]


def test_a_video_of_a_data_set_to_pictures(run: Path, tmp_path: Path) -> None:
    """A synthetic one has the size and length that the run was evaluated on."""
    options = ["--checkpoint", run, "--enlarge", "1", "--min-score", "0", "--max-instances", "1", "--json"]
    out, results = tmp_path / "pictures", tmp_path / "results.json"
    assert predict("1", "--data", "synthetic-ovis", *options, results, "--out", out) == 0
    pictures = [Image.open(path) for path in sorted(out.iterdir())]
    assert len(pictures) == 5 and {picture.size for picture in pictures} == {(96, 64)}
    assert {entry["video_id"] for entry in json.loads(results.read_text())} == {2}


def test_mp4_in_and_out(run: Path, frames: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="av is not installed")
    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    weights = run / "weights.safetensors"
    options = ["--checkpoint", weights, "--size", "32", "--clip-length", "4", "--clip-stride", "4"]
    assert predict(frames, *options, "--out", first, "--fps", 12.5) == 0
    assert predict(first, *options, "--out", second) == 0
    with av.open(str(second)) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.width, stream.height) == (12.5, 320, 162)
        assert len(list(container.decode(stream))) == 7


def test_bare_weights_need_a_name(run: Path, frames: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes((run / "weights.safetensors").read_bytes())
    options = ["--model", "seqformer", "--scale", "smoke", "--size", "32", "--categories", "synthetic-ytvis19"]
    assert predict(frames, "--checkpoint", bare, *options, "--out", tmp_path / "a.gif") == 0


def test_interrupted(
    run: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = []

    def draw(self: OverlayArtist, frame: np.ndarray, instances: object) -> Image.Image:
        drawn.append(frame)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return Image.fromarray(frame)

    monkeypatch.setattr(OverlayArtist, "draw", draw)
    out = tmp_path / "new" / "a.gif"
    assert predict(frames, "--checkpoint", run, "--out", out, "--json", out.with_suffix(".json")) == 130
    assert capsys.readouterr().err == "interrupted\n" and not list(out.parent.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frames", "--out", "a.avi"], "--out a.avi ends in '.avi', expected .mp4, .gif or a folder"),
        (["frames", "--out", "frames"], "--out frames: is a folder with files in it, expected an empty or a new one"),
        (["frames", "--out", "a.gif", "--json", "frames"], "--json frames: is a folder"),
        (["frames", "--out", "a.gif", "--fps", "0"], "--fps is 0"),
        (["frames", "--out", "a.gif", "--min-score", "2"], "--min-score is 2"),
        (["frames", "--out", "a.gif", "--size", "0"], "--size is 0"),
        (["frames", "--out", "a.gif", "--clip-length", "0"], "evaluation.clips.clip_length is 0"),
        (["frames", "--out", "a.gif", "--num-classes", "3"], "--num-classes needs --model"),
        (["frames", "--out", "a.gif", "--model", "devis"], "is a folder, expected a file of weights, as --model is"),
        (["frames", "--out", "a.gif", "--device", "tpu"], "--device is 'tpu'"),
        (["nowhere.mp4", "--out", "a.gif"], "nowhere.mp4: there is no such file or folder"),
        (["empty", "--out", "a.gif"], "empty: no frames found, expected images"),
        (["0,1", "--data", "synthetic-ovis", "--out", "a.gif"], "'0,1' names 2 videos of synthetic-ovis, expected 1"),
        (["9999", "--data", "synthetic-ovis", "--out", "a.gif"], "synthetic-ovis: no video '9999'"),
        (["mixed", "--out", "a.gif"], "1.png has 8x8 pixels, expected 65x33"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str],
    message: str,
    run: Path,
    frames: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = frames.parent
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "mixed").mkdir()
    (folder / "mixed" / "0.png").write_bytes((frames / "0.png").read_bytes())
    Image.new("RGB", (8, 8)).save(folder / "mixed" / "1.png")
    assert main(["predict", "--checkpoint", str(run), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["empty", "frames", "mixed"]


def test_without_av_mp4_is_refused_at_once(
    frames: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert predict(frames, "--checkpoint", "nowhere", "--out", frames.parent / "a.mp4") == 2
    assert "pip install -e '.[video]'" in capsys.readouterr().err
