"""The command: what it refuses, what it runs, what it writes, and that a second call runs nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import devis
import ifr
import pandas as pd
import pytest
import refinevis
import reproduce_table
import sweep
import taformer
import tevit
from fake_launcher import FakeLauncher
from sweep_launcher import FakeLaunchFrom
from sweep_setup import base_run, default_dataset, dimensions

from vislab.records import RunStore
from vislab.report.sweeps import sweep_files
from vislab.study import sweep_run
from vislab.study.declare import Paper
from vislab.study.sweep_space import parsed_space

SMOKE = ("taformer", "--scale", "smoke")
GRID = ("--over", "k_inter=1..2,clip_length=3,5")


@pytest.fixture(autouse=True)
def starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    papers = {"taformer": replace(taformer.PAPER, pretraining=None)}
    monkeypatch.setattr(sweep, "PAPERS", papers)
    monkeypatch.setattr(reproduce_table, "PAPERS", papers)


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures have tests of their own; here one test draws them."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(sweep_files, "write_sweep_plots", lambda *_: [])


@pytest.fixture
def drawn() -> None:
    """Figures are drawn."""


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> FakeLaunchFrom:
    fake = FakeLaunchFrom()
    monkeypatch.setattr(sweep_run, "launch_from", fake)
    return fake


def run(tmp_path: Path, *arguments: str) -> int:
    folders = ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]
    return sweep.main([*SMOKE, *arguments, *folders, "--device", "cpu"])


def folder(tmp_path: Path, name: str = "k_inter-clip_length") -> Path:
    return tmp_path / "reports" / "smoke" / "taformer" / "sweeps" / name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--over is missing: say what to vary, such as --over k_inter"),
        (["--over", "k_intr"], "there is no dimension 'k_intr' (did you mean k_inter?); there are "),
        (["--over", "k_inter=6..1"], "'6..1' is empty: its lower end 6 is above its upper end 1"),
        (["--over", "window=0"], "--over window=0: temporal.window is 0, expected at least 1"),
        (["--over", "k_inter", "--trials", "0"], "--trials is 0, expected 1 or more"),
        (["--over", "k_inter", "--seeds", "0"], "--seeds is 0, expected 1 or more"),
        (
            ["--over", "k_inter", "--objectives", "AP,speed"],
            "there is no 'speed'; expected any of AP, IDF1, HOTA, GFLOPs",
        ),
        (["--over", "lr"], "--trials is missing"),
        (["--over", "lr", "--sampler", "grid"], "--sampler grid: lr has no finite number of values"),
        (["--over", "k_inter", "--pruner", "median"], "--pruner median has nothing to judge by"),
        (["--over", "k_inter", "--pruner", "median", "--objectives", "AP,GFLOPs"], "judges by AP alone"),
        (["--over", "k_inter", "--name", "a/b"], "--name is 'a/b', expected letters"),
        (["--over", "k_inter", "--storage", "sqlite:////no/folder/a.db"], "there is no folder /no/folder"),
        (["--over", "k_inter", "--scale", "paper"], "--scale paper needs --data PATH"),
        (["--over", "k_inter", "--data", "nowhere"], "nowhere"),
        (["--over", "k_inter", "--report"], "there is no folder"),
        (["--name", "unknown"], "has no sweep --name unknown of this paper and scale"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], launcher: FakeLaunchFrom, arguments: list[str], sentence: str
) -> None:
    assert run(tmp_path, *arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("error: ") and error.count("\n") == 1
    assert not launcher.launched


def test_unknown_paper_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main(["tafomer", "--over", "k_inter"]) == 2
    assert "no paper 'tafomer'" in capsys.readouterr().err
    for option in (["--sampler", "best"], ["--pruner", "all"], ["--scale", "huge"]):
        with pytest.raises(SystemExit) as exit_:
            sweep.main(["taformer", *option])
        assert exit_.value.code == 2


def test_a_grid_is_run_written_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], launcher: FakeLaunchFrom, drawn: None
) -> None:
    assert run(tmp_path, *GRID, "--seeds", "2") == 0
    assert len(launcher.launched) == 8
    frame = pd.read_csv(folder(tmp_path) / "trials.csv")
    assert list(zip(frame["k_inter"], frame["clip_length"], strict=True)) == [(1, 3), (1, 5), (2, 3), (2, 5)]
    assert set(frame["state"]) == {"complete"} and set(frame["AP_n"]) == {2}
    assert frame["AP"].between(0, 100).all() and frame["AP_ci_low"].notna().all()
    assert set(frame["params"]) == {2.0} and set(frame["memory"]) == {1.0} and set(frame["latency"]) == {100.0}
    assert frame["GFLOPs"].is_monotonic_increasing and frame["GFLOPs"].nunique() == 2  # of K_inter alone
    for name in ("summary.md", "AP_by_k_inter.pdf", "AP_by_GFLOPs.png", "AP_k_inter_clip_length.pdf"):
        assert (folder(tmp_path) / name).exists()
    printed = capsys.readouterr().out
    assert (
        "taformer/smoke/k_inter-clip_length: 4 of 4 trials to do" in printed and "optuna-dashboard sqlite:" in printed
    )
    assert str(tmp_path) not in (folder(tmp_path) / "summary.md").read_text()


def test_the_second_call_runs_nothing_and_writes_the_same(tmp_path: Path, launcher: FakeLaunchFrom) -> None:
    run(tmp_path, *GRID)
    first = {path.name: path.read_bytes() for path in folder(tmp_path).iterdir()}
    launcher.launched.clear()
    assert run(tmp_path, *GRID) == 0 and run(tmp_path, *GRID, "--report") == 0
    assert run(tmp_path, "--name", "k_inter-clip_length", "--report") == 0  # all else is in the storage
    assert not launcher.launched
    assert {path.name: path.read_bytes() for path in folder(tmp_path).iterdir()} == first


def test_tables_and_sweeps_share_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K_inter on the data set of Table 7 is Table 7."""
    monkeypatch.setattr(reproduce_table, "launch", FakeLauncher())
    table = ["taformer", "T7", "--scale", "smoke", "--runs", str(tmp_path / "runs")]
    assert reproduce_table.main([*table, "--reports", str(tmp_path / "reports"), "--device", "cpu"]) == 0
    paper = sweep.PAPERS["taformer"]
    base = base_run(paper, "smoke", default_dataset(paper))
    space = parsed_space(["k_inter"], dimensions(paper, base), base)
    store = RunStore(tmp_path / "runs")
    for cell in space.cells() or ():
        config = space.configure(cell)
        assert store.result(config.train_key, config.eval_key) is not None


def test_more_trials_go_on_where_the_first_stopped(tmp_path: Path, launcher: FakeLaunchFrom) -> None:
    over = ("--over", "k_inter=1..4,clip_length=3,5")
    assert run(tmp_path, *over, "--trials", "3") == 0
    first = pd.read_csv(folder(tmp_path) / "trials.csv")
    assert run(tmp_path, *over, "--trials", "8") == 0  # would be a grid, but has begun as tpe
    then = pd.read_csv(folder(tmp_path) / "trials.csv")
    assert len(first) == 3 and len(then) == 8
    pd.testing.assert_frame_equal(
        then[["trial", "k_inter", "clip_length"]][:3], first[["trial", "k_inter", "clip_length"]]
    )
    assert "Sampler tpe." in (folder(tmp_path) / "summary.md").read_text()


def test_interrupted_sweeps_say_so_and_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_run, "launch_from", FakeLaunchFrom(interrupt_after=1))
    assert run(tmp_path, *GRID) == 130
    assert "nothing is lost, the same command goes on" in capsys.readouterr().out
    rest = FakeLaunchFrom()
    monkeypatch.setattr(sweep_run, "launch_from", rest)
    assert run(tmp_path, *GRID) == 0
    assert len(rest.launched) == 3 and len(pd.read_csv(folder(tmp_path) / "trials.csv")) == 4


def test_failures_are_kept_with_their_error_until_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_run, "launch_from", FakeLaunchFrom(failing=[2]))
    assert run(tmp_path, *GRID) == 1
    frame = pd.read_csv(folder(tmp_path) / "trials.csv")
    assert list(frame["state"]) == ["complete", "complete", "failed", "failed"] and frame["note"][2] == "it broke"
    assert "Trial 2 failed: it broke" in (folder(tmp_path) / "summary.md").read_text()
    well = FakeLaunchFrom()
    monkeypatch.setattr(sweep_run, "launch_from", well)
    assert run(tmp_path, *GRID) == 1 and not well.launched
    assert run(tmp_path, *GRID, "--retry-failed") == 0 and len(well.launched) == 2
    frame = pd.read_csv(folder(tmp_path) / "trials.csv")
    assert list(frame["state"]) == ["complete"] * 4 and list(frame["k_inter"]) == [1, 1, 2, 2]


def test_two_spaces_under_one_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], launcher: FakeLaunchFrom
) -> None:
    run(tmp_path, *GRID, "--name", "mine")
    for other, sentence in (
        (["--over", "k_inter=1..3"], "with another space: k_inter model.encoder.temporal.num_points 1..2; clip_length"),
        ([*GRID, "--seeds", "2"], "with another seeds: 1, here 2"),
        ([*GRID, "--objectives", "AP,GFLOPs"], "with another objectives: AP, here AP, GFLOPs"),
        (
            [*GRID, "--data", "synthetic-ovis"],
            "with another data set: synthetic-ytvis19+faint=0.1, here synthetic-ovis",
        ),
    ):
        capsys.readouterr()
        assert run(tmp_path, *other, "--name", "mine") == 2
        error = capsys.readouterr().err
        assert sentence in error and "choose another --name" in error and error.count("\n") == 1


def test_static_objectives_need_no_runs(tmp_path: Path, launcher: FakeLaunchFrom) -> None:
    assert run(tmp_path, *GRID, "--objectives", "GFLOPs,params") == 0
    frame = pd.read_csv(folder(tmp_path) / "trials.csv")
    assert not launcher.launched and "AP" not in frame
    assert frame["params"].is_monotonic_increasing and list(frame.loc[frame["best"], "trial"]) == [0, 1]


def test_list_and_help_teach(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    assert sweep.main(["taformer", "--list", "--scale", "smoke"]) == 0
    printed = capsys.readouterr().out
    for text in (
        "k_inter",
        "model.encoder.temporal.num_points",
        "1..4",
        "lr",
        "0.0001..0.001:log",
        "synthetic-ytvis19+faint",
    ):
        assert text in printed
    with pytest.raises(SystemExit):
        sweep.main(["--help"])
    shown = capsys.readouterr().out
    for option in (
        "--over",
        "--trials",
        "--objectives",
        "--sampler",
        "--pruner",
        "--storage",
        "postgresql://",
        "--report",
    ):
        assert option in shown


@pytest.mark.parametrize("module", [taformer, devis, tevit, ifr, refinevis], ids=lambda module: module.__name__)
def test_every_short_name_of_every_paper_is_a_run(module: object) -> None:
    """At scale smoke, which starts afresh, so that no weights are needed."""
    paper: Paper = module.PAPER  # type: ignore[attr-defined]
    base = base_run(paper, "smoke", default_dataset(paper))
    known = dimensions(paper, base)
    assert {"lr", "steps"} <= set(known) and set(paper.sweeps.dimensions) <= set(known)
    for name in known:
        (axis,) = parsed_space([name], known, base).axes
        assert axis.values.ends()


def test_coupled_paths_of_devis_go_together() -> None:
    base = base_run(devis.PAPER, "smoke", default_dataset(devis.PAPER))
    known = dimensions(devis.PAPER, base)
    clips = parsed_space(["clip_length=3,9"], known, base)
    assert [clips.configure(cell).evaluation.clips.clip_stride for cell in clips.cells() or ()] == [1, 7]  # type: ignore[union-attr]
    both = parsed_space(["clip_length=3,9", "inference_stride=2"], known, base)
    for run in map(both.configure, both.cells() or ()):
        clip = run.evaluation.clips
        assert clip is not None and clip.clip_stride == 2 and clip.clip_length == run.sampling.clip_length
