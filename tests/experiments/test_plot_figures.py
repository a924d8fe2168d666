"""Figures: what the command draws from a toy model, and what it says where it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import devis
import devis_figures
import numpy as np
import plot_figures
import pytest
import torch
from figures import PaperFigure, Setting
from PIL import Image
from plot_figures import main
from safetensors.torch import save_file
from torch import nn

from vislab.data import DatasetConfig, load_dataset
from vislab.engine.config import RunConfig
from vislab.errors import UserError
from vislab.models.devis import Devis
from vislab.records import RunStore, write_json
from vislab.report.figures.sampling_figures import QueryView
from vislab.study.declare import SCALES


@pytest.fixture(scope="module")
def toy() -> tuple[RunConfig, Devis]:
    run = devis.base("smoke")
    torch.manual_seed(0)
    model = replace(run.model, num_classes=3).build()
    for parameter in model.parameters():  # offsets and weights that differ from query to query
        parameter.data += 0.02 * torch.randn_like(parameter)
    return run, model.eval()


def setting(toy: tuple[RunConfig, Devis], height: int = 96, width: int = 160, first_frame: int = 1) -> Setting:
    dataset = load_dataset(DatasetConfig(devis.CLEAN, 3, height, width, 8), "valid")
    return Setting(toy[1], toy[0], dataset, video=1, first_frame=first_frame)


def views(monkeypatch: pytest.MonkeyPatch, name: str, drawn: Setting) -> tuple[np.ndarray, list[QueryView]]:
    """What a figure passes on to be drawn."""
    caught: list[tuple[np.ndarray, list[QueryView]]] = []
    for function in ("draw_samples", "draw_references"):
        monkeypatch.setattr(devis_figures, function, lambda frames, rows: caught.append((frames, rows)))
    devis_figures.FIGURES[name].draw(drawn)
    return caught[0]


def test_sampling_points_of_two_objects_over_all_frames(
    toy: tuple[RunConfig, Devis], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, rows = views(monkeypatch, "Fig2", setting(toy))
    assert frames.shape == (6, 96, 160, 3)
    np.testing.assert_array_equal(frames, setting(toy).dataset.frames(1, range(1, 7)))
    assert [(row.title, row.frame) for row in rows] == [
        (f"object {number}, query of frame {t + 1}", t) for number in (1, 2) for t in range(3)
    ]
    for row in rows:
        assert len(row.samples) == 6
        assert sum(float(sample.weights.sum()) for sample in row.samples) == pytest.approx(1, abs=1e-5)
        assert all(sample.points.shape == (len(sample.weights), 2) == (4 * 3 * 4, 2) for sample in row.samples)
        assert all(sample.reference.shape == (4,) for sample in row.samples)
    same_frame = [row.samples[4].reference for row in rows[:3]]
    np.testing.assert_allclose(same_frame[0], same_frame[1], rtol=1e-5)  # instance-aware: one object, one place


def test_coordinates_are_pixels_of_the_frames_whatever_the_input_size(
    toy: tuple[RunConfig, Devis], monkeypatch: pytest.MonkeyPatch
) -> None:
    """192 x 320 frames become 96 x 160 for the model; 90 x 160 ones are padded to 96."""
    small, large, odd = setting(toy), setting(toy, 192, 320), setting(toy, 90, 160)
    layer = toy[1].attended_points(*input_of(odd))[0]
    _, rows = views(monkeypatch, "A5", odd)
    found = np.array([sample.reference for sample in rows[0].samples])
    candidates = layer.reference[0, 2, :, 0] * torch.tensor([160.0, 96.0])
    assert np.abs(candidates.numpy() - found[2]).sum(axis=1).min() < 1e-3
    a, b = (np.array([s.reference for s in views(monkeypatch, "A5", d)[1][0].samples]) for d in (small, large))
    assert a.shape == b.shape == (6, 2) and b.max() > a.max()


def input_of(drawn: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    _, batch = drawn.clip(6)
    return batch.images, batch.padding_mask


def test_reference_points_over_the_layers(toy: tuple[RunConfig, Devis], monkeypatch: pytest.MonkeyPatch) -> None:
    _, rows = views(monkeypatch, "A5", setting(toy))
    assert [row.title for row in rows] == [f"decoder layer {layer} of 3" for layer in (1, 2, 3)]
    assert {row.frame for row in rows} == {2}
    assert [len(row.samples[0].reference) for row in rows] == [2, 4, 4]


def test_a_video_that_is_too_short_is_told(toy: tuple[RunConfig, Devis]) -> None:
    with pytest.raises(UserError, match="has 8 frames, expected 6 from frame 3 on"):
        devis_figures.FIGURES["A5"].draw(setting(toy, first_frame=3))


def checkpoint(toy: tuple[RunConfig, Devis], path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in toy[1].state_dict().items()}, path)
    return path


def test_command_draws_from_a_checkpoint(
    toy: tuple[RunConfig, Devis], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded, load = [], plot_figures.from_checkpoint
    monkeypatch.setattr(plot_figures, "from_checkpoint", lambda path, *rest: loaded.append(path) or load(path, *rest))
    weights = checkpoint(toy, tmp_path / "w.safetensors")
    arguments = ["devis", "--scale", "smoke", "--checkpoint", str(weights), "--video", "2", "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 0
    names = ["A5.pdf", "A5.png", "Fig2.pdf", "Fig2.png"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    assert loaded == [weights], "once for both figures"
    assert capsys.readouterr().out.count(str(tmp_path / "a")) == 4
    with Image.open(tmp_path / "a" / "Fig2.png") as picture:
        assert picture.width == 1380 and len(np.unique(np.asarray(picture.convert("L")))) > 100
    assert main([*arguments, "fig2", "--out", str(tmp_path / "b")]) == 0
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == names[2:]
    assert (tmp_path / "a" / "Fig2.png").read_bytes() == (tmp_path / "b" / "Fig2.png").read_bytes()


def test_command_draws_on_a_folder_of_frames(
    toy: tuple[RunConfig, Devis], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, folder = checkpoint(toy, tmp_path / "w.safetensors"), tmp_path / "bear"
    folder.mkdir()
    for t, frame in enumerate(setting(toy, 90, 130).dataset.frames(0, range(6))):
        Image.fromarray(frame).save(folder / f"{t}.jpg")
    arguments = ["devis", "A5", "--scale", "smoke", "--checkpoint", str(weights), "--device", "cpu"]
    assert main([*arguments, "--video", str(folder), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "A5.png").is_file()
    (folder / "0.jpg").unlink()
    capsys.readouterr()
    assert main([*arguments, "--video", str(folder), "--out", str(tmp_path)]) == 2
    assert "video bear of bear has 5 frames, expected 6" in capsys.readouterr().err
    assert main([*arguments, "--video", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 2
    assert "no video" in capsys.readouterr().err


def test_command_draws_from_a_finished_run(
    toy: tuple[RunConfig, Devis], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["devis", "A5", "--scale", "smoke", "--runs", str(tmp_path), "--out", str(tmp_path), "--device", "cpu"]
    assert main(options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert "make it with: reproduce_table.py devis T1 --rows 10 --scale smoke --data synthetic-ytvis19" in error
    paper = plot_figures.PAPERS["devis"][0]
    parsed = plot_figures.parser().parse_args(options)
    store = RunStore(tmp_path)
    run = planned(parsed, paper, store)
    torch.manual_seed(1)
    save_file(run.model.build().state_dict(), store.train_dir(run.train_key) / "weights.safetensors")
    assert main(options) == 0
    assert (tmp_path / "A5.pdf").read_bytes().startswith(b"%PDF")


def planned(options: object, paper: object, store: RunStore) -> RunConfig:
    """The run that the command looks for, marked as trained."""
    keys: list[str] = []

    class Remembering(RunStore):
        def trained(self, train_key: str) -> dict[str, object] | None:
            keys.append(train_key)
            return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot_figures, "RunStore", Remembering)
        run = plot_figures.finished_run(options, paper, devis.CLEAN, {}, only=False)  # type: ignore[arg-type]
    write_json(store.train_dir(keys[0]) / "trained.json", {"train_key": keys[0]})
    return run


@pytest.mark.parametrize("scale", SCALES)
def test_every_model_that_is_drawn_is_trained_by_a_row(scale: str) -> None:
    """Else nobody could be told how to make it."""
    for paper, figures in plot_figures.PAPERS.values():
        for figure in figures.values():
            if isinstance(figure, PaperFigure):
                for changes in (figure.changes, {**figure.changes, **(figure.against or {})}):
                    assert " --rows " in plot_figures._training_row(paper, scale, changes)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no PAPER given; expected one of taformer, ifr, devis"),
        (["xyz"], "no figures of 'xyz'; expected one of taformer, ifr, devis"),
        (["devis", "Fig7"], "devis has no figure 'Fig7'; its figures are Fig2, A5, curves, errors, costs, overlays"),
        (["devis", "--checkpoint", "nowhere.safetensors"], "nowhere.safetensors: there is no such file"),
        (["devis", "--first-frame", "-1"], "--first-frame is -1, expected 0 or more"),
    ],
)
def test_mistakes_get_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*arguments, "--scale", "smoke", "--runs", str(tmp_path), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("error: ") and error.count("\n") == 1


def test_weights_of_another_model_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "t.safetensors").write_text("hello")
    for name, sentence in (("w", "not the weights of this model and scale"), ("t", "not a safetensors file")):
        arguments = ["devis", "--scale", "smoke", "--checkpoint", str(tmp_path / f"{name}.safetensors")]
        assert main([*arguments, "--device", "cpu", "--out", str(tmp_path)]) == 2
        assert sentence in capsys.readouterr().err


def test_list_and_help_teach(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert "Fig2" in (listed := capsys.readouterr().out) and "A5" in listed
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert all(
        option in text for option in ("--checkpoint", "--scale", "--device", "--out", "--data", "plot_figures.py")
    )


def test_a_figure_of_a_table_needs_its_report_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = Path(plot_figures.__file__).parents[1] / "reports"
    out = tmp_path / "figures"
    assert main(["taformer", "T7", "--reports", str(reports), "--out", str(out), "--runs", str(tmp_path)]) == 0
    assert {path.name for path in out.iterdir()} == {"T7.pdf", "T7.png"}
    assert main(["tevit", "T8", "--reports", str(tmp_path), "--out", str(out)]) == 2
    assert "make it with: reproduce_table.py tevit T8 --scale tiny" in capsys.readouterr().err
