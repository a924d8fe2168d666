"""Arrays of jobs on Slurm, through submitit; what was submitted, and what became of it.

    root/slurm/<name>/submission.json    what its tasks do
    root/slurm/<name>/...                submitit's files and logs, `slurm_task`'s progress

A submission's name is its name in the queue as well, unlike any other, and its record is written before it is
submitted: a command that is killed in between, or looks at it from another machine, finds it all the same. How tasks
stand is asked of squeue. submitit would ask sacct, which needs a database that small clusters go without.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vislab.errors import UserError
from vislab.records import read_json, write_json

WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
}  # fmt: skip
MINUTES = 240  # of a task, if nobody says
SECONDS_OF_WARNING = 120  # before its time is up; enough to write a checkpoint and to be queued again
TIMES_CONTINUED = 100  # a run that is longer than its task's time
CPUS_BESIDE_GPU = 4
SECONDS_TO_ANSWER = 60
_OURS = {
    "array": "--jobs", "time": "--time-limit", "partition": "--partition", "job_name": "", "output": "", "error": "",
    "open_mode": "", "signal": "", "nodes": "", "ntasks": "", "ntasks_per_node": "", "wrap": "", "chdir": "",
    "requeue": "", "no_requeue": "", "parsable": "", "wait": "", "test_only": "",
}  # fmt: skip
_GPUS = {"gres", "gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket"}


@dataclass(frozen=True)
class Resources:
    """What is asked of the cluster for every task.

    more: options of sbatch by their long names, with underscores; True for those without a value. side_by_side: tasks
    at a time, None for as many as the cluster lets run.
    """

    minutes: int = MINUTES
    partition: str | None = None
    more: Mapping[str, str | bool] = field(default_factory=dict)
    side_by_side: int | None = None

    def parameters(self, tasks: int, device: str, processes: int = 1) -> dict[str, Any]:
        """Of submitit's executor. processes: of each task, each with a GPU of its own unless device is cpu."""
        cpus = self.more.get("cpus_per_task") or processes * (1 if device == "cpu" else CPUS_BESIDE_GPU)
        named: dict[str, Any] = {
            "timeout_min": self.minutes,
            "stderr_to_stdout": True,
            "slurm_signal_delay_s": min(SECONDS_OF_WARNING, 30 * self.minutes),
            "slurm_array_parallelism": self.side_by_side or tasks,
            "slurm_additional_parameters": {"requeue": True, **self.more},
        }
        if "cpus_per_gpu" not in self.more:
            named |= {"cpus_per_task": int(cpus), "slurm_srun_args": [f"--cpus-per-task={cpus}"]}  # not sbatch's: 22.05
        if device != "cpu" and not _GPUS & self.more.keys():
            named["gpus_per_node"] = processes
        return named | ({"slurm_partition": self.partition} if self.partition else {})


@dataclass(frozen=True)
class TaskState:
    """A task of an array in the queue. job: the array's number, which scancel takes; reason: why it waits."""

    job: str
    state: str
    reason: str = ""

    @property
    def waits(self) -> bool:
        return self.state in WAITING

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class Submission:
    """An array in its folder. claims: for every task, names of what it does."""

    folder: Path
    claims: tuple[frozenset[str], ...]

    @property
    def name(self) -> str:
        return self.folder.name


def check_cluster() -> None:
    """Raises UserError where nothing can be submitted."""
    if importlib.util.find_spec("submitit") is None:
        raise UserError("--launcher slurm needs the package submitit: pip install -e '.[slurm]'")
    for program in ("sbatch", "srun", "squeue"):
        if shutil.which(program) is None:
            raise UserError(
                f"--launcher slurm: there is no {program} on this machine; call it where jobs are submitted"
            )


def minutes_of(text: str) -> int:
    """Of a time limit as sbatch takes it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S; seconds count as a whole minute."""
    matched = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if matched is None:
        raise UserError(f"--time-limit is {text!r}, expected HOURS:MINUTES:SECONDS, such as 4:00:00, or DAYS-HOURS")
    days, *parts = matched.groups()
    numbers = [int(part) for part in parts if part is not None]
    units = (60.0, 1.0, 1 / 60) if days is not None or len(numbers) == 3 else (1.0, 1 / 60)
    total = 1440 * int(days or 0) + sum(number * unit for number, unit in zip(numbers, units, strict=False))
    if total <= 0:
        raise UserError(f"--time-limit is {text!r}, expected more than nothing")
    return math.ceil(total)


def more_options(texts: Sequence[str]) -> dict[str, str | bool]:
    """From "account=vision" or "exclusive"; raises UserError for what is no option, or one that is set elsewhere."""
    found: dict[str, str | bool] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        name = key.strip().lstrip("-").replace("-", "_")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or (equals and not value.strip()):
            raise UserError(
                f"--slurm is {text!r}, expected KEY=VALUE with a long option of sbatch, such as account=NAME"
            )
        if name in _OURS:
            other = f"; use {_OURS[name]}" if _OURS[name] else ""
            raise UserError(f"--slurm {text}: {key} is set by the launcher itself{other}")
        if name == "cpus_per_task" and not re.fullmatch(r"0*[1-9]\d*", value.strip()):
            raise UserError(f"--slurm {text}: expected a number of CPUs, such as {key}=8")
        found[name] = value.strip() if equals else True
    return found


def new_submission(root: Path, title: str, claims: Sequence[frozenset[str]]) -> Submission:
    """Its folder and record; nothing is submitted yet. title: begins its name."""
    short = re.sub(r"[^\w.-]+", "-", title).strip("-")
    submission = Submission(root.resolve() / "slurm" / f"{short}-{secrets.token_hex(4)}", tuple(claims))
    record = {"made": time.strftime("%Y-%m-%d %H:%M:%S"), "tasks": [sorted(each) for each in claims]}
    write_json(submission.folder / "submission.json", record)
    return submission


def submit(submission: Submission, tasks: Sequence[Callable[[], None]], parameters: Mapping[str, Any]) -> None:
    """One array of callables that submitit can pickle. Raises UserError with what sbatch says where it refuses."""
    import submitit

    try:
        executor = submitit.AutoExecutor(submission.folder, cluster="slurm", slurm_max_num_timeout=TIMES_CONTINUED)
        executor.update_parameters(name=submission.name, **parameters)
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what the exception says, too
            executor.submit_array(tasks)
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        shutil.rmtree(submission.folder)
        raise UserError(f"--launcher slurm: sbatch refused ({_sentence(error)})") from error


def submissions(root: Path) -> list[Submission]:
    """Everything that was submitted for this run store, in the order of its names."""
    found = []
    for path in sorted((root.resolve() / "slurm").glob("*/submission.json")):
        claims = tuple(frozenset(each) for each in read_json(path)["tasks"])
        found.append(Submission(path.parent, claims))
    return found


def active_tasks(root: Path, wanted: frozenset[str]) -> list[tuple[Submission, int]]:
    """Tasks in the queue, waiting or at work, that claim any of what is wanted: of which array, and their index."""
    concerned = [each for each in submissions(root) if any(wanted & claims for claims in each.claims)]
    states = queue(concerned)
    places = [(submission, index) for submission in concerned for index in range(len(submission.claims))]
    known = [(place, states.get((place[0].name, place[1]))) for place in places]
    return [place for place, state in known if state and not state.ended and wanted & place[0].claims[place[1]]]


def queue(known: Sequence[Submission]) -> dict[tuple[str, int], TaskState]:
    """Name and index -> state of their tasks, as far as the cluster still knows them. Raises UserError if it does not
    answer."""
    if not known:
        return {}
    names = ",".join(submission.name for submission in known)
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%j|%K|%F|%T|%r", f"--name={names}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        reason = " ".join((getattr(error, "stderr", None) or str(error)).split())
        raise UserError(f"--launcher slurm: squeue does not answer ({reason[:200]})") from error
    states = {}
    for line in done.stdout.splitlines():
        name, index, job, state, reason = line.strip().split("|", 4)
        states[name, int(index) if index.isdecimal() else 0] = TaskState(job, state, "" if reason == "None" else reason)
    return states


def progress_path(submission: Submission, index: int) -> Path:
    """Where a task tells how far it is (`slurm_task.ProgressFile`)."""
    return submission.folder / f"progress-{index}.json"


def standing(states: Sequence[TaskState | None]) -> str:
    """ "1 at work, 3 waiting (Priority)"; empty if nothing is in the queue."""
    active = [state for state in states if state is not None and not state.ended]
    waiting = [state for state in active if state.waits]
    reasons = sorted({state.reason for state in waiting if state.reason})
    parts = {"at work": len(active) - len(waiting), "waiting": len(waiting)}
    text = ", ".join(f"{count} {word}" for word, count in parts.items() if count)
    return f"{text} ({', '.join(reasons)})" if reasons else text


def array_names(states: Sequence[TaskState | None]) -> str:
    """ "job 17" or "jobs 17, 19"; empty if there is none."""
    numbers = sorted({state.job for state in states if state is not None}, key=int)
    return f"job{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}" if numbers else ""


def _sentence(error: Exception) -> str:
    """What sbatch said, of all that submitit adds to it."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line.partition("error: ")[2] for line in lines if line.startswith("sbatch: error: ")]
    return "; ".join(said) or " ".join(str(error).split())[:200]
