"""The run itself: for each case check everybody, let them take turns, turn seconds into rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from vislab.errors import UserError
from vislab.report.benchmark_file import stamp

from .cases import CASES, Case, Inputs, compulsory_bytes, flops, make_inputs, returned_bytes
from .check import WrongResultError, expectation, with_gradients
from .competitors import Competitor, competitors
from .forms import Run
from .machine import Limits, hardware, measure_limits
from .memory import extra_peak
from .rows import Row
from .timing import Entrant, Schedule, cpu_clock, cuda_clock, fastest, speed_up, take_turns

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PASSES = ("forward", "forward + backward")

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Plan:
    """What to measure: the options of the command."""

    cases: tuple[str, ...]
    competitors: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32",)
    threads: tuple[int, ...] = (1,)
    schedule: Schedule = field(default_factory=Schedule)
    memory: bool = True
    quick: bool = False


@dataclass
class Findings:
    """Rows in the order of the cases; who could not take part and why; how much of a case was checked."""

    rows: list[Row] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    checked: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What all rows of one case and thread count share."""

    case: Case
    device: str
    threads: int | None
    limits: Limits
    stamp: dict[str, str]  # the columns about the run
    tell: Tell

    def step(self, text: str) -> None:
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        self.tell(f"{self.case.name}, {self.device}{threads}: {text}")


@dataclass(frozen=True)
class Entry:
    """A competitor with its inputs in one dtype."""

    competitor: Competitor
    dtype: str
    inputs: Inputs

    @property
    def name(self) -> str:
        return f"{self.competitor.name}, {self.dtype}"


def measure(plan: Plan, device: str, tell: Tell) -> Findings:
    """Measure everything on one device. Raises WrongResultError before the case with a wrong competitor is timed."""
    findings = Findings()
    about = {"torch": torch.__version__, **stamp(hardware(device))}
    threads_before = torch.get_num_threads()
    try:
        for threads in plan.threads if device == "cpu" else (None,):
            if threads is not None:
                torch.set_num_threads(threads)
            tell(f"limits of {device}")
            limits = measure_limits(device, small=plan.quick)
            for name in plan.cases:
                case = CASES[name].quick() if plan.quick else CASES[name]
                _measure_case(Setting(case, device, threads, limits, about, tell), plan, findings)
    finally:
        torch.set_num_threads(threads_before)
    findings.rows.sort(key=lambda row: plan.cases.index(row.case))
    return findings


def _measure_case(setting: Setting, plan: Plan, findings: Findings) -> None:
    found, missing = competitors(setting.device, plan.competitors, setting.case.fused)
    findings.missing |= missing
    inputs = make_inputs(setting.case)
    entries: list[Entry] = []
    for dtype in dict.fromkeys(("float32", *plan.dtypes)):
        cast = inputs.to(setting.device, DTYPES[dtype])
        takers = [one for one in found if DTYPES[dtype] in one.dtypes and (dtype in plan.dtypes or one.is_reference)]
        entries += _checked([Entry(one, dtype, cast) for one in takers], setting, findings)
    for passes in PASSES:
        findings.rows += _timed(entries, passes, setting, plan)


def _checked(entries: list[Entry], setting: Setting, findings: Findings) -> list[Entry]:
    """The entries that can run, all of them right. Entries share their inputs."""
    if not entries:
        return []
    setting.step("definition in float64")
    expected = expectation(setting.case, entries[0].inputs)
    findings.checked[setting.case.name] = expected.extent
    able = []
    for entry in entries:
        setting.step(f"check of {entry.name}")
        try:
            with entry.competitor.context():
                expected.check(entry.name, entry.competitor.run)
        except WrongResultError:
            raise
        except Exception as error:
            if entry.competitor.is_ours and not isinstance(error, UserError):
                raise
            findings.missing[entry.name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        else:
            able.append(entry)
    return able


def _timed(entries: list[Entry], passes: str, setting: Setting, plan: Plan) -> list[Row]:
    calls = {entry.name: _call(entry, passes) for entry in entries}
    entrants = {entry.name: Entrant(calls[entry.name], entry.competitor.context) for entry in entries}
    clock = cuda_clock if setting.device == "cuda" else cpu_clock
    seconds = take_turns(entrants, clock, plan.schedule, lambda name: setting.step(f"{passes}, {name}"))
    references = [entry.name for entry in entries if entry.competitor.is_reference and entry.dtype == "float32"]
    reference = fastest(seconds, references)
    rows = []
    for entry in entries:
        taken = seconds[entry.name]
        memory = None
        if plan.memory:
            setting.step(f"memory, {passes}, {entry.name}")
            repeats = 3 if len(taken) == plan.schedule.rounds else 1
            with entry.competitor.context():
                memory = extra_peak(setting.device, calls[entry.name], repeats)
        rows.append(_row(entry, passes, setting, taken, reference, seconds[reference], memory))
    return rows


def _call(entry: Entry, passes: str) -> Callable[[], object]:
    if passes == "forward":
        return partial(_forward, entry.competitor.run, entry.inputs)
    case_shape = entry.inputs.scores.shape[:3]
    width = entry.inputs.value.shape[3] * entry.inputs.value.shape[4]
    upstream = torch.randn(*case_shape, width, generator=torch.Generator().manual_seed(2)).to(entry.inputs.value)
    return partial(with_gradients, entry.competitor.run, entry.inputs, upstream)


def _forward(run: Run, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return run(inputs)


def _row(
    entry: Entry, passes: str, setting: Setting, taken: list[float], reference: str, base: list[float],
    memory: int | None,
) -> Row:  # fmt: skip
    backward, itemsize = passes != "forward", DTYPES[entry.dtype].itemsize
    num_bytes, num_flops = compulsory_bytes(setting.case, backward, itemsize), flops(setting.case, backward)
    median = statistics.median(taken)
    low, _, high = statistics.quantiles(taken, n=4) if len(taken) > 1 else (median, median, median)
    return Row(
        case=setting.case.name,
        passes=passes,
        dtype=entry.dtype,
        threads=setting.threads,
        competitor=entry.competitor.name,
        median_ms=1000 * median,
        spread=(high - low) / median,
        ratio=speed_up(base, taken),
        reference=reference.removesuffix(", float32"),
        rounds=len(taken),
        bytes=num_bytes,
        flops=num_flops,
        roofline_share=setting.limits.least_seconds(num_bytes, num_flops) / median,
        bandwidth_gb_s=setting.limits.bandwidth / 1e9,
        gflop_s=setting.limits.flop_rate / 1e9,
        peak_memory_ratio=None if memory is None else memory / returned_bytes(setting.case, backward, itemsize),
        **setting.stamp,
    )
