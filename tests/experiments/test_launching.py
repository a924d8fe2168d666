"""Tables and sweeps on a cluster: what the commands refuse, submit, watch and write; the cluster is played here."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import launching
import pandas as pd
import pytest
import reproduce_table
import sweep
import taformer
from fake_launcher import FakeLauncher
from sweep_launcher import FakeLaunchFrom

from vislab.errors import UserError
from vislab.report.sweeps import sweep_files
from vislab.study import slurm_sweep, sweep_run
from vislab.study.slurm import Resources, Submission, TaskState
from vislab.study.slurm_task import ScriptTask
from vislab.study.slurm_watch import Pace

SWEEP = ("taformer", "--scale", "smoke", "--over", "k_inter=1..2,clip_length=3,5")


@pytest.fixture(autouse=True)
def a_cluster_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    papers = {"taformer": replace(taformer.PAPER, pretraining=None)}
    monkeypatch.setattr(reproduce_table, "PAPERS", papers)
    monkeypatch.setattr(sweep, "PAPERS", papers)
    monkeypatch.setattr(launching, "check_cluster", lambda: None)
    monkeypatch.setattr(sweep_files, "write_sweep_plots", lambda *_: [])
    monkeypatch.setattr(slurm_sweep, "Pace", lambda: Pace(looks=0.0, queries=0.0, settle=0.0))


class FakeSlurm:
    """Does a submission's tasks in this process, one at each question after the first, as if they came from a file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, does: int = 99, interrupts: bool = False) -> None:
        self.tasks: list[ScriptTask] = []
        self.parameters: dict[str, Any] = {}
        self.left, self.does, self.asked, self.interrupts = 0, does, 0, interrupts
        monkeypatch.setattr(slurm_sweep, "submit", self.submit)
        monkeypatch.setattr(slurm_sweep, "queue", self.queue)
        monkeypatch.setattr("vislab.study.slurm.queue", self.queue)

    def submit(self, _: Submission, tasks: Sequence[ScriptTask], parameters: dict[str, Any]) -> None:
        self.tasks, self.parameters = [pickle.loads(pickle.dumps(task)) for task in tasks], parameters
        self.left = len(tasks)

    def queue(self, known: Sequence[Submission]) -> dict[tuple[str, int], TaskState]:
        self.asked += 1
        if self.left and self.asked > 2:
            if self.interrupts:
                raise KeyboardInterrupt
            task = self.tasks[-self.left]
            if self.does > 0:
                getattr(sweep, task.function)(dict(task.options))
            self.does -= 1
            self.left -= 1
        return {(known[-1].name, index): TaskState("17", "RUNNING") for index in range(self.left)} if known else {}


def folders(tmp_path: Path) -> list[str]:
    return ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--partition", "gpu"], "--partition is for --launcher slurm only"),
        (["--time-limit", "4:00:00"], "--time-limit is for --launcher slurm only"),
        (["--slurm", "account=x"], "--slurm is for --launcher slurm only"),
        (["--launcher", "slurm", "--time-limit", "4h"], "--time-limit is '4h', expected HOURS:MINUTES:SECONDS"),
        (["--launcher", "slurm", "--slurm", "time=3"], "time is set by the launcher itself; use --time-limit"),
    ],
)
@pytest.mark.parametrize("script", [reproduce_table, sweep])
def test_mistakes_get_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: Any, arguments: list[str], sentence: str
) -> None:
    what = SWEEP if script is sweep else ("taformer", "T3")
    assert script.main([*what, *folders(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("error: ") and error.count("\n") == 1


def test_only_rows_go_to_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce_table.main(["taformer", "--static", "--launcher", "slurm", *folders(tmp_path)]) == 2
    assert "--launcher slurm runs rows" in capsys.readouterr().err


def test_sqlite_is_refused_for_many_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SWEEP, "--launcher", "slurm", "--storage", f"sqlite:///{tmp_path}/x.db", *folders(tmp_path)]
    assert sweep.main(arguments) == 2
    error = capsys.readouterr().err
    assert "SQLite's locks do not hold between machines" in error and "journal:///FILE" in error


def test_a_table_is_launched_there_with_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    finish = FakeLauncher()

    def launch_on_slurm(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments, options))
        return finish(*arguments)

    monkeypatch.setattr(reproduce_table, "launch_on_slurm", launch_on_slurm)
    options = ["--launcher", "slurm", "--partition", "gpu", "--time-limit", "1-0", "--jobs", "2"]
    options += ["--slurm", "account=vision", "--slurm", "exclusive"]
    assert reproduce_table.main(["taformer", "T3", "--scale", "smoke", *options, *folders(tmp_path)]) == 0
    ((jobs, _, _, resources), named), *more = asked
    assert len(jobs) == 8 and not more
    assert resources == Resources(1440, "gpu", {"account": "vision", "exclusive": True}, side_by_side=2)
    assert named["device"] == "auto" and named["processes"] == 1 and named["title"] == "taformer-T3"
    assert "Baseline + ST-Enc" in capsys.readouterr().out
    assert reproduce_table.main(["taformer", "T3", "--scale", "smoke", *options, *folders(tmp_path)]) == 0
    assert len(asked) == 1


def test_a_sweep_is_shared_by_tasks_and_written_by_who_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep_run, "launch_from", FakeLaunchFrom())
    cluster = FakeSlurm(monkeypatch)
    options = ["--launcher", "slurm", "--jobs", "2", "--device", "cpu", "--time-limit", "1:00:00"]
    assert sweep.main([*SWEEP, *options, *folders(tmp_path)]) == 0
    assert len(cluster.tasks) == 2 and cluster.parameters["timeout_min"] == 60
    assert cluster.tasks[0].script == Path(sweep.__file__).resolve()
    found = pd.read_csv(tmp_path / "reports/smoke/taformer/sweeps/k_inter-clip_length/trials.csv")
    assert list(found["state"]) == ["complete"] * 4
    assert (tmp_path / "runs" / "sweeps.journal").exists() and not (tmp_path / "runs" / "sweeps.db").exists()
    out = capsys.readouterr().out
    assert "Slurm job 17: 2 tasks submitted, 0 were before; 2 at work" in out
    assert "trial 3 done: AP" in out


def test_a_sweep_whose_tasks_ended_early_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep_run, "launch_from", FakeLaunchFrom())
    cluster = FakeSlurm(monkeypatch, does=0)
    command = [*SWEEP, "--launcher", "slurm", "--device", "cpu", *folders(tmp_path)]
    assert sweep.main(command) == 0
    assert len(cluster.tasks) == 4  # as many as there are trials
    assert "no task is left, 4 trials are; the same command submits new ones" in capsys.readouterr().out
    FakeSlurm(monkeypatch)
    assert sweep.main(command) == 0
    assert "trial 3 done" in capsys.readouterr().out


def test_ctrl_c_leaves_the_tasks_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeSlurm(monkeypatch, interrupts=True)
    assert sweep.main([*SWEEP, "--launcher", "slurm", "--device", "cpu", *folders(tmp_path)]) == 130
    out = capsys.readouterr().out
    assert "the same command watches them again, scancel ends Slurm job 17" in out and "Interrupted" not in out


def test_what_the_cluster_refuses_reaches_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise UserError("--launcher slurm: sbatch refused (invalid partition)")

    FakeSlurm(monkeypatch)
    monkeypatch.setattr(slurm_sweep, "submit", refuse)
    assert sweep.main([*SWEEP, "--launcher", "slurm", "--device", "cpu", *folders(tmp_path)]) == 2
    assert "sbatch refused (invalid partition)" in capsys.readouterr().err
