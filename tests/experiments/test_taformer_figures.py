"""TAFormer's figures 5 and 6: what is compared with what, the numbers that are told, and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plot_figures
import pytest
import taformer
import taformer_figures
import torch
from encoder_maps import distance_from_mean, finest_features
from figures import Setting
from matched_queries import labelled_clip, matched_queries
from PIL import Image
from plot_figures import main
from safetensors.torch import save_file
from taformer_figures import FIGURES
from torch import nn

from vislab.config import with_changes
from vislab.data import DatasetConfig, load_dataset
from vislab.data.frame_folder import FrameFolder
from vislab.engine.config import RunConfig
from vislab.errors import UserError
from vislab.losses.matching import MatcherConfig
from vislab.models.seqformer import SeqFormer
from vislab.records import RunStore, write_json
from vislab.structures import Batch, ModelOutput, Targets

SMALL: dict[str, Any] = {"model.hidden_dim": 32, "model.encoder.num_layers": 1, "model.decoder.num_layers": 2}


def small_model(config: Any, seed: int) -> SeqFormer:
    torch.manual_seed(seed)
    return config.build().eval()


@pytest.fixture(scope="module")
def models() -> tuple[RunConfig, SeqFormer, SeqFormer]:
    """The run, and the models with and without attention over frames."""
    run = with_changes(taformer.base("smoke"), SMALL)
    without = with_changes(run, taformer.NO_SPATIO_TEMPORAL_ENCODER)
    return run, small_model(run.model, 0), small_model(without.model, 1)


def setting(models: tuple[RunConfig, SeqFormer, SeqFormer], data: str = taformer.LOOKALIKES, **more: Any) -> Setting:
    run, model, other = models
    known = {"video": 0, "first_frame": 0, "video_named": False}
    dataset = load_dataset(DatasetConfig(data, 3, 60, 100, 5, 8), "valid")
    return Setting(model, run, dataset, other=other, **known | more)


def caught(monkeypatch: pytest.MonkeyPatch, function: str) -> list[tuple[Any, ...]]:
    """What a figure passes on to be drawn."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(taformer_figures, function, lambda *arguments: calls.append(arguments))
    return calls


def test_maps_without_above_maps_with_attention_over_frames(
    models: tuple[RunConfig, SeqFormer, SeqFormer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls, drawn = caught(monkeypatch, "draw_feature_maps"), setting(models, taformer.FAINT, video=1, first_frame=2)
    FIGURES["Fig5"].draw(drawn)
    title, frames, quantities, objects = calls[0]
    assert title == "video 00001, frames 2 to 4"
    np.testing.assert_array_equal(frames, drawn.dataset.frames(1, [2, 3, 4]))
    np.testing.assert_array_equal(objects, drawn.dataset.annotations(1, [2, 3, 4]).masks)
    mean, distance = quantities
    names = [row for row, _ in (*mean.rows, *distance.rows)]
    assert names[::2] == [f"{each}, without attention over frames" for each in taformer_figures.QUANTITIES]
    assert names[1::2] == ["with attention over frames"] * 2
    _, batch = drawn.clip(3)
    for (_, maps), model in zip(distance.rows, (drawn.other, drawn.model), strict=True):
        assert isinstance(model, SeqFormer)
        tokens = distance_from_mean(finest_features(model, batch)[0])
        assert maps.shape == (3, 60, 100)
        np.testing.assert_array_equal(maps[:, 30, 50], tokens[:, int(30.5 * 96 / 60 / 8), int(50.5 * 160 / 100 / 8)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == list(taformer_figures.QUANTITIES)
    assert all("video 00001 0." in line and "mean of 3 held-out videos 0." in line for line in lines[1:])


def test_a_folder_of_frames_has_maps_and_no_numbers(
    models: tuple[RunConfig, SeqFormer, SeqFormer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labelled = setting(models)
    for t, frame in enumerate(labelled.dataset.frames(0, range(3))):
        Image.fromarray(frame).save(tmp_path / f"{t}.png")
    folder = replace(labelled, dataset=FrameFolder(tmp_path, labelled.dataset.categories), video_named=True)
    calls = caught(monkeypatch, "draw_feature_maps")
    FIGURES["Fig5"].draw(folder)
    assert calls[0][3].shape == (0, 3, 60, 100)
    text = capsys.readouterr().out
    assert text.count("no labelled objects to tell") == 2 and "nan" not in text
    with pytest.raises(UserError, match="has 0 labelled objects from frame 0 on, expected two or more"):
        FIGURES["Fig6"].draw(folder)
    with pytest.raises(UserError, match="has 3 frames, expected 1 from frame 3 on"):
        FIGURES["Fig5"].draw(replace(folder, first_frame=3))


class Fixed(nn.Module):
    """Boxes of query q are those of object q - 1; its embedding in frame t is (q, t)."""

    def __init__(self, boxes: torch.Tensor) -> None:
        super().__init__()
        self.boxes = torch.cat([boxes.new_full((1, *boxes.shape[1:]), 0.01), boxes])

    def forward(self, images: torch.Tensor, _: torch.Tensor) -> ModelOutput:
        count, frames = self.boxes.shape[:2]
        queries = torch.stack(torch.meshgrid(torch.arange(count), torch.arange(frames), indexing="ij"), -1).float()
        return ModelOutput(torch.zeros(1, count, 4), self.boxes[None], None, queries.transpose(0, 1)[None])


def test_queries_of_the_frames_in_which_their_object_is_visible() -> None:
    boxes = torch.tensor([[0.2, 0.2, 0.1, 0.1], [0.7, 0.3, 0.2, 0.2], [0.5, 0.8, 0.3, 0.1]])[:, None].repeat(1, 2, 1)
    present = torch.tensor([[True, True], [False, True], [True, True]])
    ids, labels = torch.tensor([9, 4, 6]), torch.tensor([2, 0, 2])
    targets = Targets(labels, boxes, torch.zeros(3, 2, 8, 8, dtype=torch.bool), present, ids)
    batch = Batch(torch.zeros(1, 2, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool), torch.tensor([[8, 8]]), [targets])
    found = matched_queries(Fixed(boxes), batch, MatcherConfig())  # type: ignore[arg-type]
    assert found.objects.tolist() == [4, 6, 6, 9, 9] and found.frames.tolist() == [1, 0, 1, 0, 1]
    assert found.embeddings.tolist() == [[2, 1], [3, 0], [3, 1], [1, 0], [1, 1]]
    assert found.categories == {4: 0, 6: 2, 9: 2}


def test_a_labelled_clip_is_what_the_model_is_evaluated_on(models: tuple[RunConfig, SeqFormer, SeqFormer]) -> None:
    drawn = setting(models, video=1, first_frame=1)
    found, (_, batch) = labelled_clip(drawn, 3), drawn.clip(3)
    torch.testing.assert_close(found.images, batch.images, rtol=0, atol=0)
    assert (found.padding_mask == batch.padding_mask).all() and (found.image_sizes == batch.image_sizes).all()
    labels = drawn.dataset.annotations(1, [1, 2, 3])
    assert found.targets[0].labels.tolist() == labels.labels.tolist()
    corner = torch.from_numpy(labels.boxes) / torch.tensor([100.0, 60, 100, 60])
    centre = (corner[..., :2] + corner[..., 2:]) / 2
    torch.testing.assert_close(found.targets[0].boxes[..., :2], centre, rtol=0, atol=0.02)
    more = load_dataset(DatasetConfig("synthetic-ytvis19", 1, 60, 100, 5, 20), "valid")
    with pytest.raises(UserError, match="has 20 categories, expected at most 8, those of the model"):
        labelled_clip(replace(drawn, dataset=more, video=0), 3)


def test_box_queries_of_the_first_video_with_two_objects_of_a_category(
    models: tuple[RunConfig, SeqFormer, SeqFormer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = setting(models)
    labels = [drawn.dataset.annotations(video, range(5)).labels for video in range(3)]
    expected = next(video for video in range(3) if len(labels[video]) > len(set(labels[video])))
    calls = caught(monkeypatch, "draw_planes")
    FIGURES["Fig6"].draw(drawn)
    planes, categories = calls[0]
    assert [plane.title.split("\n")[0] for plane in planes] == ["without contrastive loss", "with contrastive loss"]
    present = drawn.dataset.annotations(expected, range(5)).present
    assert all(plane.points.shape == (present.sum(), 2) for plane in planes)
    names = [category.name for category in drawn.dataset.categories]
    assert sorted(categories.values()) == sorted(names[label] for label in labels[expected])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "mean of 3 held-out videos" in lines[1]
    silhouettes = [plane.title.split()[-1] for plane in planes]
    told = lines[1].split(f"video 0000{expected} ")[1].split(";")[0].split(" -> ")
    assert [f"{float(value):.2f}" for value in told] == pytest.approx(silhouettes)
    with pytest.raises(UserError, match=r"no video has two labelled objects of one category; name one with --video"):
        one_each = load_dataset(DatasetConfig("synthetic-ytvis19", 1, 60, 100, 5, 8), "valid")
        FIGURES["Fig6"].draw(replace(drawn, dataset=one_each))


def test_a_named_video_is_the_only_one(
    models: tuple[RunConfig, SeqFormer, SeqFormer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = caught(monkeypatch, "draw_planes")
    FIGURES["Fig6"].draw(setting(models, video=2, video_named=True, first_frame=4))
    text = capsys.readouterr().out
    assert "video 00002" in text and "held-out videos" not in text
    assert len(calls[0][0][0].points) == len(calls[0][1]), "one frame, one query for each object"


def finished(root: Path, changes: Any, trained_on: str, seed: int) -> RunConfig:
    """A run of the command's plan, with random weights, marked as trained in the store."""
    options = plot_figures.parser().parse_args(["taformer", "--scale", "smoke", "--runs", str(root)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunStore, "trained", lambda *_: {})
        run = plot_figures.finished_run(options, taformer.PAPER, trained_on, changes, only=True)
    folder = RunStore(root).train_dir(run.train_key)
    write_json(folder / "trained.json", {"train_key": run.train_key})
    save_file(small_model(run.model, seed).state_dict(), folder / "weights.safetensors")
    return run


def test_command_compares_two_finished_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each run that is missing is named with the row that trains it."""
    fixed = ["--scale", "smoke", "--runs", str(tmp_path), "--device", "cpu", "--out", str(tmp_path / "figures")]
    options = ["taformer", "Fig5", "--video", "1", *fixed]
    with_encoder, without = taformer.ENCODER_ONLY, taformer.BASELINE
    for changes, row in ((with_encoder, 1), (without, 0)):
        assert main(options) == 2
        error = capsys.readouterr().err
        assert f"on {taformer.FAINT}, seed 0; make it with: reproduce_table.py taformer T" in error
        table = error.split("reproduce_table.py taformer ")[1].split()
        assert table[1] == "--rows" and "--checkpoint" not in error
        found = taformer.PAPER.table(table[0])
        trained = taformer.PAPER.configuration(found, found.row(int(table[2])), "smoke").train_key
        assert trained == taformer.PAPER.configuration(taformer.T3, taformer.T3.row(row), "smoke").train_key
        finished(tmp_path, changes, taformer.FAINT, row)
    assert main(options) == 0
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["Fig5.pdf", "Fig5.png"]
    assert main([*options, "--checkpoint", str(tmp_path / "w.safetensors")]) == 2
    assert "Fig5 compares two finished runs of the store, expected no --checkpoint" in capsys.readouterr().err
    assert main(["taformer", "Fig5", "--trained-on", "synthetic-ytvis19", *fixed]) == 2
    assert "--data synthetic-ytvis19" in capsys.readouterr().err


def test_command_draws_the_planes_of_two_finished_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path, {}, taformer.LOOKALIKES, 0)
    finished(tmp_path, taformer.NO_CONTRASTIVE_LOSS, taformer.LOOKALIKES, 1)
    options = ["taformer", "Fig6", "--scale", "smoke", "--runs", str(tmp_path), "--video", "1", "--device", "cpu"]
    assert main([*options, "--out", str(tmp_path / "a")]) == 0
    assert "silhouette of the objects: video 00001" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["Fig6.pdf", "Fig6.png"]
