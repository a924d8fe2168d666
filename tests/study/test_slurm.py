"""What is asked of the cluster, and what it answers; programs of the same names stand in for Slurm's."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from vislab.errors import UserError
from vislab.study.slurm import (
    Resources,
    Submission,
    TaskState,
    active_tasks,
    array_names,
    check_cluster,
    minutes_of,
    more_options,
    new_submission,
    queue,
    standing,
    submissions,
    submit,
)

SBATCH = """#!/bin/sh
if [ -e {folder}/refusal ]; then echo "sbatch: error: invalid partition specified: x" >&2; exit 1; fi
cp "$1" {folder}/script.sh
echo "Submitted batch job 17"
"""
SQUEUE = """#!/bin/sh
if [ -e {folder}/refusal ]; then echo "slurm_load_jobs error: Unable to contact controller" >&2; exit 1; fi
echo "$@" > {folder}/asked
cat {folder}/answer
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-ins: sbatch leaves script.sh there, squeue says `answer`, both fail if `refusal` is."""
    pytest.importorskip("submitit", reason="submitit is not installed (pip install -e '.[slurm]')")
    folder = tmp_path / "cluster"
    folder.mkdir()
    (folder / "answer").touch()
    for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, "srun": "#!/bin/sh\n"}.items():
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def task() -> None:
    pass


CLAIMS = [frozenset({"a/1", "a/2"}), frozenset({"b/1"})]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("0:30", 1), ("2:00", 2), ("4:00:00", 240), ("0:00:30", 1), ("1-0", 1440), ("1-12:30", 2190),
     ("2-00:00:01", 2881)],
)  # fmt: skip
def test_time_limits_are_read_as_sbatch_reads_them(text: str, minutes: int) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "4h", "1:2:3:4", "-5", "0", "0:00:00", "1-", "4:00:00 pm"])
def test_other_time_limits_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--time-limit is"):
        minutes_of(text)


def test_options_of_sbatch() -> None:
    texts = ["account=vision", "--mem=32G", "exclusive", "cpus-per-task=8", "comment=a=b"]
    assert more_options(texts) == {
        "account": "vision", "mem": "32G", "exclusive": True, "cpus_per_task": "8", "comment": "a=b",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("time=4:00:00", "time is set by the launcher itself; use --time-limit"),
        ("--partition=p", "use --partition"),
        ("array=0-3", "use --jobs"),
        ("output=x", "output is set by the launcher itself"),
        ("parsable", "parsable is set by the launcher itself"),
        ("cpus-per-task=many", "expected a number of CPUs, such as cpus-per-task=8"),
        ("account=", "expected KEY=VALUE"),
        ("=x", "expected KEY=VALUE"),
        ("a b=c", "expected KEY=VALUE"),
    ],
)
def test_options_that_cannot_be_meant(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        more_options([text])


def test_every_task_gets_what_its_processes_need() -> None:
    assert Resources().parameters(3, "auto", processes=2)["gpus_per_node"] == 2
    assert Resources().parameters(3, "cuda")["cpus_per_task"] == 4
    alone = Resources(minutes=1).parameters(3, "cpu")
    assert "gpus_per_node" not in alone and alone["cpus_per_task"] == 1
    assert alone["slurm_signal_delay_s"] == 30 and alone["slurm_array_parallelism"] == 3


def test_options_of_the_user_come_first() -> None:
    asked = Resources(more={"gres": "gpu:a100:2", "cpus_per_task": "8"}).parameters(1, "auto")
    assert "gpus_per_node" not in asked
    assert asked["cpus_per_task"] == 8 and asked["slurm_srun_args"] == ["--cpus-per-task=8"]
    assert "cpus_per_task" not in Resources(more={"cpus_per_gpu": "8"}).parameters(1, "auto")


def test_one_array_with_a_task_for_every_job(cluster: Path, tmp_path: Path) -> None:
    resources = Resources(240, "gpu", {"account": "vision", "exclusive": True}, side_by_side=1)
    submission = new_submission(tmp_path, "taformer T3", CLAIMS)
    submit(submission, [task, task], resources.parameters(2, "auto"))
    script = (cluster / "script.sh").read_text().splitlines()
    expected = {
        "array=0-1%1", "time=240", "partition=gpu", "account=vision", "gpus-per-node=1", "cpus-per-task=4",
        "signal=USR2@120", f"job-name={submission.name}",
    }  # fmt: skip
    assert {f"#SBATCH --{option}" for option in expected} <= set(script)
    assert {"#SBATCH --requeue", "#SBATCH --exclusive"} <= set(script)
    assert submission.name.startswith("taformer-T3-")
    assert any(line.startswith("srun") and "--cpus-per-task=4" in line for line in script)


def test_what_sbatch_refuses_leaves_nothing_behind(
    cluster: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (cluster / "refusal").touch()
    submission = new_submission(tmp_path, "x", CLAIMS)
    with pytest.raises(UserError, match=r"sbatch refused \(invalid partition specified: x\)"):
        submit(submission, [task, task], Resources().parameters(2, "cpu"))
    assert submissions(tmp_path) == [] and capfd.readouterr().err == ""


def test_what_was_submitted_is_found_again(tmp_path: Path) -> None:
    first = new_submission(tmp_path, "a table", CLAIMS)
    second = new_submission(tmp_path, "a table", CLAIMS[:1])
    assert first.name != second.name
    assert sorted(submissions(tmp_path), key=str) == sorted([first, second], key=str)


def test_the_queue_is_asked_by_name(cluster: Path, tmp_path: Path) -> None:
    array, single = (Submission(tmp_path / name, tuple(claims)) for name, claims in (("a", CLAIMS), ("b", CLAIMS[1:])))
    (cluster / "answer").write_text(
        "a|0|17|RUNNING|None\na|1|17|PENDING|Priority\nb|N/A|18|PENDING|(launch failed|requeued held)\n"
    )
    states = queue([array, single])
    assert "--name=a,b" in (cluster / "asked").read_text()
    assert states["a", 0] == TaskState("17", "RUNNING")
    assert states["a", 1] == TaskState("17", "PENDING", "Priority")
    assert states["b", 0].reason == "(launch failed|requeued held)"
    assert standing(list(states.values())) == "1 at work, 2 waiting ((launch failed|requeued held), Priority)"
    assert array_names([*states.values(), None]) == "jobs 17, 18"


def test_nothing_is_asked_about_nothing() -> None:
    assert queue([]) == {} and standing([None]) == "" and array_names([]) == ""


def test_a_queue_that_does_not_answer(cluster: Path, tmp_path: Path) -> None:
    (cluster / "refusal").touch()
    with pytest.raises(UserError, match="squeue does not answer .*Unable to contact controller"):
        queue([Submission(tmp_path / "a", tuple(CLAIMS))])


def test_active_tasks_are_those_in_the_queue_that_claim_something_wanted(cluster: Path, tmp_path: Path) -> None:
    known = new_submission(tmp_path, "t", [*CLAIMS, frozenset({"c/1"})])
    lines = [f"{known.name}|0|17|COMPLETED|None", f"{known.name}|1|17|RUNNING|None", f"{known.name}|2|17|PENDING|None"]
    (cluster / "answer").write_text("\n".join(lines))
    assert active_tasks(tmp_path, frozenset({"a/1", "b/1"})) == [(known, 1)]
    assert active_tasks(tmp_path, frozenset({"d/1"})) == []


def test_without_slurm_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (pip install -e '.[slurm]')")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no sbatch on this machine"):
        check_cluster()


def test_without_submitit_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vislab.study.slurm.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package submitit: pip install -e '\.\[slurm\]'"):
        check_cluster()
