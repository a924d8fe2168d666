"""RefineVIS' figure 3: found from made-up results, predicted by a toy model, drawn on a folder of frames."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plot_figures
import pytest
import refinevis_figures
import torch
from figures import Setting
from PIL import Image
from refinevis_figures import FIGURES, recovered_masks, results_of
from safetensors.torch import save_file

from vislab import rle
from vislab.config import replace_path
from vislab.data import DatasetConfig, load_dataset
from vislab.data.frame_folder import FrameFolder
from vislab.data.sampling import SamplingConfig
from vislab.engine.config import EvalConfig, RunConfig, TrainConfig
from vislab.engine.progress import Silent
from vislab.errors import UserError
from vislab.losses.refinevis_criterion import RefineVISCriterionConfig
from vislab.models.presets import refinevis
from vislab.records import RunStore, write_json
from vislab.report.figures.refinement_figures import RefinedObject
from vislab.stitching.video_stream import StreamConfig

DATA = DatasetConfig("synthetic-ovis", 3, 64, 96, 8, 8)
LOST = (3, 4)


@pytest.fixture(scope="module")
def run() -> RunConfig:
    evaluation = EvalConfig(DATA, stream=StreamConfig())
    return RunConfig(
        refinevis("smoke"), RefineVISCriterionConfig(), TrainConfig(1, 1), DATA, SamplingConfig(), evaluation
    )


@pytest.fixture
def setting(run: RunConfig) -> Setting:
    torch.manual_seed(0)
    return Setting(run.model.build().eval(), run, load_dataset(DATA, "valid"), video=1, video_named=False)


def made_up(setting: Setting, run: RunConfig, videos: list[int], _: object) -> list[dict[str, Any]]:
    """The truth; without refinement the first object of video 1 is lost in two frames, with it another in one."""
    assert run.evaluation.stream is not None
    results = []
    for index in videos:
        info = setting.dataset.info(index)
        found = setting.dataset.annotations(index, range(info.length))
        for n in range(len(found.labels)):
            lost = LOST if run.evaluation.stream.window == 0 and (index, n) == (1, 0) else ()
            lost = (6,) if run.evaluation.stream.window is None and (index, n) == (2, 0) else lost
            masks = [None if t in lost else rle.encode(mask) for t, mask in enumerate(found.masks[n])]
            results.append({"video_id": info.id, "category_id": 1, "score": 0.5, "segmentations": masks})
    return results


def caught(monkeypatch: pytest.MonkeyPatch, drawn: Setting, figure: str = "Fig3") -> tuple[list[RefinedObject], int]:
    """What the figure passes on to be drawn."""
    calls: list[tuple[list[RefinedObject], int]] = []
    monkeypatch.setattr(refinevis_figures, "draw_refinement", lambda objects, window: calls.append((objects, window)))
    FIGURES[figure].draw(drawn)
    return calls[0]


def test_the_object_that_was_recovered_is_found_among_all_videos(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(refinevis_figures, "results_of", made_up)
    (shown,), window = caught(monkeypatch, setting)
    assert window == 10 and shown.numbers in (tuple(range(1, 7)), tuple(range(6)), tuple(range(2, 8)))
    np.testing.assert_array_equal(shown.frames, setting.dataset.frames(1, shown.numbers))
    truth = setting.dataset.annotations(1, range(8)).masks[0][list(shown.numbers)]
    np.testing.assert_array_equal(shown.truth, truth)
    np.testing.assert_array_equal(shown.after, truth)
    lost = [shown.numbers.index(t) for t in LOST]
    assert not shown.before[lost].any() and shown.before.any(axis=(1, 2)).sum() == 4
    assert shown.qualities[0][lost].tolist() == [0, 0] and np.nanmin(shown.qualities[1]) == 1
    text = capsys.readouterr().out
    assert "masks lost without and found with it: 2, 0 of them in another track without it" in text
    assert "masks found without and lost with it: 1, 0 of them in another track with it" in text
    assert f"video 00001, {shown.title.split(', ', 1)[1]}: 0.67 to 1.00" in text and "video 00002" in text


def test_figure_1_has_one_object_and_figure_3_three_of_one_search(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, searches = refinevis_figures.most_changed, []

    def predicted(*arguments: Any) -> list[dict[str, Any]]:
        searches.append(arguments)
        return made_up(*arguments)

    monkeypatch.setattr(refinevis_figures, "results_of", predicted)
    monkeypatch.setattr(refinevis_figures, "most_changed", lambda objects, length: 4 * found(objects, length))
    assert [len(caught(monkeypatch, setting, name)[0]) for name in ("Fig1", "Fig3")] == [1, 3]
    assert len(searches) == 2, "without refinement and with it"


def test_a_named_video_is_the_only_one(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinevis_figures, "results_of", made_up)
    (shown,), _ = caught(monkeypatch, replace(setting, video_named=True))
    assert shown.title.startswith("video 00001, ")
    with pytest.raises(UserError, match="refinement makes no mask better"):
        recovered_masks(replace(setting, video=2, video_named=True))


def test_a_folder_of_frames_without_labels(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for t, frame in enumerate(setting.dataset.frames(1, range(8))):
        Image.fromarray(frame).save(tmp_path / f"{t}.png")
    labelled = setting
    folder = FrameFolder(tmp_path, setting.dataset.categories)

    def of_the_folder(_: Setting, run: RunConfig, videos: list[int], watcher: object) -> list[dict[str, Any]]:
        return [result | {"video_id": 1} for result in made_up(labelled, run, [1], watcher)]

    monkeypatch.setattr(refinevis_figures, "results_of", of_the_folder)
    (shown,), _ = caught(monkeypatch, replace(setting, dataset=folder, video=0))
    assert shown.truth is None and shown.title.startswith(f"video {tmp_path.name}, ")
    assert shown.qualities[1].tolist() == [1] * 6 and shown.qualities[0].sum() == 4
    assert "share of frames with a mask (no labels)" in capsys.readouterr().out


def test_both_results_come_from_the_model(setting: Setting) -> None:
    """Online, what is not seen needs refinement to have a mask."""
    torch.manual_seed(1)
    for parameter in setting.model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    setting.model.frame_model.class_head.bias.data.zero_()  # type: ignore[union-attr]  # else nothing is found
    run = setting.run
    found = {}
    for window in (0, 4):
        results = results_of(setting, replace_path(run, "evaluation.stream.window", window), [1, 2], Silent())
        assert {result["video_id"] for result in results} <= {2, 3}
        assert all(len(result["segmentations"]) == 8 for result in results)
        found[window] = results
    assert found[0] and found[4] and found[0] != found[4]


def test_finished_evaluations_are_read(setting: Setting, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    run = replace_path(setting.run, "evaluation.stream.window", 0)
    folder = store.eval_dir(run.train_key, run.eval_key)
    stored = made_up(setting, run, [0, 1, 2], None)
    write_json(folder / "result.json", {"data_fingerprint": setting.dataset.fingerprint()})
    (folder / "predictions.json").write_text(json.dumps(stored))
    with_store = replace(setting, store=store)
    assert results_of(with_store, run, [0, 1, 2], Silent()) == stored
    assert {result["video_id"] for result in results_of(with_store, run, [1], Silent())} == {2}
    write_json(folder / "result.json", {"data_fingerprint": "of other data"})
    assert results_of(with_store, run, [1], Silent()) != [r for r in stored if r["video_id"] == 2]


@pytest.mark.parametrize("window", [0, None])
def test_a_run_without_refinement_is_refused(setting: Setting, window: int | None) -> None:
    run = replace_path(setting.run, "evaluation.stream.window", 0)
    run = run if window == 0 else replace_path(run, "model.tar", None)
    with pytest.raises(UserError, match="the run has no refinement, expected a window above 0"):
        recovered_masks(replace(setting, run=run))


def test_command_draws_the_figure_from_a_checkpoint_on_a_folder(
    monkeypatch: pytest.MonkeyPatch, setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = plot_figures.refinevis.base("smoke").model.build()
    weights, folder = tmp_path / "w.safetensors", tmp_path / "bear"
    save_file(model.state_dict(), weights)
    folder.mkdir()
    for t, frame in enumerate(setting.dataset.frames(1, range(8))):
        Image.fromarray(frame).save(folder / f"{t}.png")

    def of_the_folder(drawn: Setting, run: RunConfig, videos: list[int], watcher: object) -> list[dict[str, Any]]:
        assert isinstance(drawn.dataset, FrameFolder) and drawn.store is None
        assert run.evaluation.stream is not None
        window = 0 if run.evaluation.stream.window == 0 else None
        labelled = replace_path(setting.run, "evaluation.stream.window", window)
        return [result | {"video_id": 1} for result in made_up(setting, labelled, [1], watcher)]

    monkeypatch.setattr(refinevis_figures, "results_of", of_the_folder)
    arguments = ["refinevis", "Fig3", "--scale", "smoke", "--checkpoint", str(weights), "--device", "cpu"]
    assert plot_figures.main([*arguments, "--video", str(folder), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "Fig3.pdf").is_file() and "largest losses" in capsys.readouterr().out
    with Image.open(tmp_path / "Fig3.png") as picture:
        assert picture.width == 1380
    weights.rename(tmp_path / "w.pth")
    assert plot_figures.main([*arguments[:-3], str(tmp_path / "w.pth"), "--device", "cpu"]) == 2
    assert "expected .safetensors, as the paper's weights were not released" in capsys.readouterr().err
